"""The page of API documentation: Swagger UI, served by this process under a policy that allows no other origin."""

from functools import cache
from html import escape
from pathlib import Path
from string import Template

from aiohttp import web

from service.web import problems
from service.web.static_content import FOREVER, StaticContent

_STATIC = Path(__file__).parent / "static"
_ASSETS = {
    "swagger_css": (_STATIC / "vendor" / "swagger-ui" / "swagger-ui.css", "text/css"),
    "swagger_js": (_STATIC / "vendor" / "swagger-ui" / "swagger-ui-bundle.js", "text/javascript"),
    "docs_css": (_STATIC / "docs.css", "text/css"),
    "docs_js": (_STATIC / "docs.js", "text/javascript"),
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def routes() -> list[web.RouteDef]:
    """The page, what it loads, and the way to it from `/`."""
    page, _ = _content()
    return [
        web.get("/", _to_docs),
        web.get("/docs", page.respond),
        web.get("/docs/{digest:[0-9a-f]+}/{name}", _asset),
        web.get("/problems/{slug:[a-z-]+}", _to_problem),
    ]


@cache
def _content() -> tuple[StaticContent, dict[str, StaticContent]]:
    """The page, and its assets by their paths below it."""
    assets, paths = {}, {}
    for name, (file, content_type) in _ASSETS.items():
        asset = StaticContent(file.read_bytes(), content_type, cache_control=FOREVER)
        paths[name] = f"{asset.digest}/{file.name}"
        assets[paths[name]] = asset
    template = Template((_STATIC / "docs.html").read_text())
    page = template.substitute(paths, problems="\n".join(_problem(*kind) for kind in problems.kinds()))
    return StaticContent(page.encode(), "text/html", policy=_POLICY), assets


def _problem(slug: str, status: int, meaning: str) -> str:
    return f"<dt id='{slug}'><code>{slug}</code> ({status})</dt><dd>{escape(meaning)}.</dd>"


async def _asset(request: web.Request) -> web.Response:
    _, assets = _content()
    asset = assets.get(request.path.removeprefix("/docs/"))
    if asset is None:
        raise web.HTTPNotFound
    return await asset.respond(request)


async def _to_docs(_request: web.Request) -> web.Response:
    raise web.HTTPFound("/docs")


async def _to_problem(request: web.Request) -> web.Response:
    """Where a problem's `type` leads."""
    raise web.HTTPFound(f"/docs#{request.match_info['slug']}")
