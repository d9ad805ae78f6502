"""Renders the dashboard's pages, in the design of the gateway's. They load nothing from elsewhere, and have nothing
inline.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from aiohttp import hdrs, web
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from service.dashboard import paths
from service.dashboard.forms import FIELD
from service.dashboard.visitors import form_token
from service.domain.permissions import RULES, Caller, Reach, reach
from service.gateway.pages import pages as gateway_pages
from service.gateway.pages.brand import Brand
from service.gateway.pages.pages import next_step
from service.gateway.texts import catalogue
from service.web.caller import CALLER
from service.web.static_content import FOREVER, StaticContent

_HERE = Path(__file__).parent
_STYLE = Path(gateway_pages.__file__).parent / "templates" / "style.css"
_SCRIPTS = ("vendor/htmx/htmx.min.js", "vendor/htmx/sse.min.js", "dashboard.js")
_NAVIGATION = (
    ("Sessions", paths.ROOT, "list_sessions"),
    ("Overview", paths.OVERVIEW, "summary"),
    ("Findings", paths.FINDINGS, "diagnosis"),
    ("Upgrade", paths.UPGRADE, "show_upgrade"),
    ("Audit", paths.AUDIT, "audit"),
)
"""Each page that the header leads to: its name, its path, and the operation that its visitors must be allowed."""
_TEXTS = catalogue.LANGUAGES[catalogue.DEFAULT]
"""The dashboard is in English: operators read it beside logs and Kubernetes' words."""
_FOR_OTHERS = {
    "own.why.visit": "It is awake because its user opened a page of it at {time}.",
    "own.why.input": "It is awake because its user worked in it at {time}.",
    "own.woken.api": "a program asked for it by the API",
}
"""Instead of texts that speak to the user."""


class DashboardPages:
    """`brand` is on all of them, as on the gateway's. `home`: the users' start page, if there is one."""

    def __init__(self, brand: Brand | None = None, home: str | None = None) -> None:
        self._brand = brand or Brand()
        self._assets = _assets(self._brand)
        self._templates = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.globals.update(
            asset=self._paths_by_name(),
            brand=self._brand,
            form_field=FIELD,
            home=home,
            navigation=_NAVIGATION,
            next_step=next_step,
            paths=paths,
            text=text,
            when=when,
        )

    def page(
        self, request: web.Request, template: str, *, status: int = 200, form_target: str = "", **values: object
    ) -> web.Response:
        """The page. `form_target` is another origin that the answer to one of its forms may redirect to."""
        caller = request.get(CALLER)
        body = self.part(
            template,
            caller=caller,
            may=partial(may, caller),
            permitted=permitted(caller),
            text=text_for(caller),
            token=form_token(request),
            here=request.path,
            **values,
        )
        images = "data:" if self._brand.logo else "'none'"
        targets = f"'self' {form_target}".strip()
        policy = (
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
            f" img-src {images}; base-uri 'none'; form-action {targets}; frame-ancestors 'none'"
        )
        return web.Response(
            status=status,
            text=body,
            content_type="text/html",
            headers={
                "Content-Security-Policy": policy,
                hdrs.CACHE_CONTROL: "no-store",
                # Forms say where they come from, also in browsers without Sec-Fetch-Site.
                "Referrer-Policy": "same-origin",
                "X-Content-Type-Options": "nosniff",
                "Cross-Origin-Opener-Policy": "same-origin",
                "Cross-Origin-Resource-Policy": "same-origin",
            },
        )

    def part(self, template: str, **values: object) -> str:
        """A part of a page."""
        body = self._templates.get_template(template).render(values)
        # Half a character, from a byte of a query that is no text, cannot be sent.
        return body.encode("utf-8", "replace").decode()

    async def asset(self, request: web.Request) -> web.Response:
        asset = self._assets.get(request.path.removeprefix(f"{paths.ASSETS}/"))
        if asset is None:
            raise web.HTTPNotFound
        return await asset.respond(request)

    def _paths_by_name(self) -> Mapping[str, str]:
        return {path.rpartition("/")[2].replace(".", "_"): f"{paths.ASSETS}/{path}" for path in self._assets}


def see_other(url: str) -> web.Response:
    """Lead the browser to another page, which does not learn where it comes from."""
    return web.Response(
        status=303, headers={hdrs.LOCATION: url, hdrs.CACHE_CONTROL: "no-store", "Referrer-Policy": "no-referrer"}
    )


def permitted(caller: Caller | None) -> frozenset[str]:
    """The operations that the caller may use, for one session at least."""
    return frozenset(name for name in RULES if may(caller, name))


def may(caller: Caller | None, operation: str) -> bool:
    """Whether the page should offer the operation."""
    return caller is not None and reach(operation, caller) is not Reach.NOBODY


Text = Callable[..., str]
"""`text(key, **values)` is the gateway's text of that key."""


def text(key: str, **values: str) -> str:
    """As the user of the workspace reads it."""
    return _TEXTS[key].format(**values)


def text_for(caller: Caller | None) -> Text:
    """In words for whoever reads it: most are not the user whose workspace it is."""
    return text if caller is None or caller.user_id is not None else _text_for_others


def _text_for_others(key: str, **values: str) -> str:
    return _FOR_OTHERS.get(key, _TEXTS[key]).format(**values)


def when(at: datetime) -> str:
    """A time for people, in UTC, as logs have it."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _assets(brand: Brand) -> Mapping[str, StaticContent]:
    """By their paths, which contain their checksums."""
    style = _STYLE.read_text() + (_HERE / "static" / "dashboard.css").read_text()
    if brand.color:
        style += f":root {{ --brand: {brand.color}; --on-brand: {brand.on_color}; }}\n"
    files = {"dashboard.css": (style.encode(), "text/css")}
    for name in _SCRIPTS:
        file = _HERE / "static" / name
        files[file.name] = (file.read_bytes(), "text/javascript")
    return dict(_content(name, *each) for name, each in files.items())


def _content(name: str, body: bytes, content_type: str) -> tuple[str, StaticContent]:
    content = StaticContent(body, content_type, cache_control=FOREVER)
    return f"{content.digest}/{name}", content
