"""The companion's script in a real browser: it runs where it was added, and no policy breaks what it is for."""

import gzip
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from playwright.async_api import Page

from service.domain.metrics import PageScript
from service.domain.names import SessionId
from service.gateway.activity.measured import COMPANION, NO_COMPANION
from service.gateway.limits import GatewayLimits
from tests.domain.conftest import World
from tests.gateway.conftest import Headers, House, program
from tests.gateway.test_content_policy import ALLOWED

VS_CODE = (
    "default-src 'self'; img-src 'self' https: data: blob:; media-src 'self'; script-src 'self' 'unsafe-eval'"
    " 'nonce-1nline-m4p' blob: 'sha256-HcKJ5brlVW66rsFLbutSdT8Mtnm8pD3tRE2Gp1pGWaM='; child-src 'self'; frame-src"
    " 'self' https://*.vscode-cdn.net data:; worker-src 'self' data: blob:; style-src 'self' 'unsafe-inline';"
    " connect-src 'self' ws: wss: https:; font-src 'self' blob:; manifest-src 'self'; frame-ancestors 'none'"
)
"""What VS Code's server sends with its page."""
FIRST = "<!doctype html><html><head><title>x</title><script>window.seen = document.cookie</script></head><body>Hello"


class Site:
    """A workspace of pages; what is not among them is empty."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.uuid = SessionId("")
        self.pages: dict[str, tuple[str, Headers]] = {"/": (FIRST, {})}
        self.requests: list[str] = []
        self.statuses: list[int] = []
        """Of its pages, without the icon."""

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request.path)
        text, headers = self.pages.get(request.path, ("", {}))
        sent = {headers.get("ETag"): "If-None-Match", headers.get("Last-Modified"): "If-Modified-Since"}
        is_known = any(request.headers.get(name) == value for value, name in sent.items() if value)
        if request.path in self.pages:
            self.statuses.append(304 if is_known else 200)
        if is_known:
            return web.Response(status=304, headers={"ETag": headers["ETag"]} if "ETag" in headers else {})
        body = gzip.compress(text.encode()) if "Content-Encoding" in headers else text.encode()
        return web.Response(body=body, headers={"Content-Type": "text/html; charset=utf-8", **headers})

    def url(self, path: str = "/") -> str:
        return f"http://{self.house.host(self.uuid)}:{self.house.port}{path}"

    async def cookies(self, page: Page) -> set[str]:
        return {cookie["name"] for cookie in await page.context.cookies() if "name" in cookie}


@pytest.fixture
async def site(world: World) -> AsyncIterator[Site]:
    limits = GatewayLimits(closed=False)
    async with House(world, limits=limits, domain="localhost").open() as house:
        site = Site(house)
        async with program(house, site.respond) as site.uuid:
            yield site


async def test_the_script_runs_before_the_pages_own(page: Page, site: Site) -> None:
    await page.goto(site.url())
    assert COMPANION in await page.evaluate("window.seen")
    assert await page.title() == "x"


async def test_the_page_finds_itself_as_it_was_written(page: Page, site: Site) -> None:
    site.pages["/"] = ("<!doctype html><html><head><title>x</title></head><body>Hello</body></html>", {})
    await page.goto(site.url())
    assert COMPANION in await site.cookies(page)
    text = "<html><head><title>x</title></head><body>Hello</body></html>"
    assert await page.evaluate("document.documentElement.outerHTML") == text
    assert await page.evaluate("document.compatMode") == "CSS1Compat"


async def test_it_runs_whatever_a_page_comes_with(page: Page, site: Site) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    for headers in (
        {"Content-Encoding": "gzip"},
        {"Content-Security-Policy": VS_CODE},
        {"Content-Security-Policy": "default-src 'self'; require-trusted-types-for 'script'; trusted-types 'none'"},
        {"Cross-Origin-Embedder-Policy": "require-corp", "Cross-Origin-Opener-Policy": "same-origin"},
        {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"},
    ):
        site.pages["/"] = ("<!doctype html><title>x</title><p>Hello", headers)
        await page.context.clear_cookies()
        await page.goto(site.url())
        assert COMPANION in await site.cookies(page), headers
        assert not complaints


async def test_a_policy_that_forbids_it_is_kept_and_nothing_complains(page: Page, site: Site) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    site.pages["/"] = (FIRST, {"Content-Security-Policy": "script-src 'unsafe-inline'; img-src 'self'"})
    await page.goto(site.url())
    assert await page.evaluate("window.seen") == "", "the page cannot see that it has none"
    assert await site.cookies(page) == {NO_COMPANION}
    assert not complaints
    assert site.house.metrics.pages == {PageScript.POLICY: 1}


async def test_frames_fetched_pages_and_downloads_get_none(page: Page, site: Site) -> None:
    frame = "<!doctype html><title>frame</title><script>parent.frameHtml = document.documentElement.outerHTML</script>"
    site.pages["/"] = ("<!doctype html><title>x</title><iframe src=/frame></iframe><a download href=/file>get</a>", {})
    site.pages["/frame"] = site.pages["/file"] = (frame, {})
    await page.goto(site.url())
    assert "companion" not in await page.evaluate("window.frameHtml")
    assert await page.evaluate("fetch('/file').then((answer) => answer.text())") == frame
    async with page.expect_download() as download:
        await page.click("a")
    assert (await (await download.value).path()).read_text() == frame
    assert site.house.metrics.pages == {PageScript.ADDED: 1}


async def test_a_page_that_was_fetched_before_it_is_opened_gets_it_all_the_same(page: Page, site: Site) -> None:
    site.pages["/page"] = (FIRST, {"Cache-Control": "max-age=3600", "ETag": '"1"'})
    await page.goto(site.url())
    await page.evaluate("fetch('/page').then((answer) => answer.text())")
    await page.context.clear_cookies()
    await page.goto(site.url("/page"))
    assert COMPANION in await page.evaluate("window.seen")
    assert await page.evaluate("fetch('/page').then((answer) => answer.text())") == FIRST
    assert site.requests.count("/page") == 3


async def test_a_page_from_the_browsers_cache_still_has_it(page: Page, site: Site) -> None:
    site.pages["/"] = (FIRST, {"Cache-Control": "max-age=3600", "ETag": '"1"'})
    await page.goto(site.url())
    await page.context.clear_cookies()
    await page.goto("about:blank")
    await page.goto(site.url())
    assert COMPANION in await page.evaluate("window.seen")
    assert site.requests.count("/") == 1


@pytest.mark.parametrize("known", [{"ETag": '"1"'}, {"Last-Modified": "Thu, 26 Nov 2026 16:00:00 GMT"}])
async def test_a_page_that_the_browser_has_from_before_the_companion_gets_it(
    page: Page, site: Site, known: Headers
) -> None:
    gateway = site.house.gateway
    injector, gateway._injector = gateway._injector, None
    site.pages["/"] = (FIRST, {"Cache-Control": "no-cache", **known})
    await page.goto(site.url())
    assert await page.evaluate("window.seen") == ""
    gateway._injector = injector
    for _ in range(2):
        await page.goto("about:blank")
        await page.goto(site.url())
        assert COMPANION in await page.evaluate("window.seen")
    assert site.statuses == [200, 200, 304]


_PROBE = """async () => {
    const violations = [];
    document.addEventListener('securitypolicyviolation', (event) => violations.push(event.effectiveDirective));
    const socket = new WebSocket(location.origin.replace('http', 'ws') + '/.user-pods/companion');
    await new Promise((resolve) => { socket.onclose = socket.onopen = resolve; });
    return violations;
}"""


async def test_every_policy_that_is_taken_to_allow_it_does(page: Page, site: Site) -> None:
    policies = [policy.replace(".pods.test", ".localhost").replace("vs-code-abc123xy", f"vs-code-{site.uuid}")
                for policy in ALLOWED]  # fmt: skip
    wrong: dict[str, object] = {}
    for number, policy in enumerate(policies):
        added = site.house.metrics.pages[PageScript.ADDED]
        site.pages[f"/{number}"] = ("<!doctype html><p>Hello", {"Content-Security-Policy": policy})
        await page.context.clear_cookies()
        await page.goto(site.url(f"/{number}"))
        if site.house.metrics.pages[PageScript.ADDED] > added:
            violations = await page.evaluate(_PROBE)
            if violations or COMPANION not in await site.cookies(page):
                wrong[policy] = violations
    assert not wrong
    assert site.house.metrics.pages[PageScript.ADDED] > len(ALLOWED) // 2
