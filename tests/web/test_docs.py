"""The page of API documentation: how it is served, and what a browser makes of it."""

import hashlib
import json
import re
from importlib import resources

import pytest
from playwright.async_api import Browser, Page, Request, expect

from service.web.operations import OPERATIONS
from tests.domain.conftest import World
from tests.web.conftest import Client, Serve

KEY = "k" * 16
STATIC = resources.files("service.web") / "static"
SWAGGER_UI = "5.35.0"
CHECKSUMS = {
    "swagger-ui-bundle.js": "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
    "swagger-ui.css": "5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d",
    "LICENSE": "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30",
    "NOTICE": "0d20d1adef18aee3f40dd258172155521ce702ac445cb5f7b7d60ed32dad2fb2",
}
"""SHA-256 of what the npm package `swagger-ui-dist` of that version holds; `make viewer` brings another."""


def test_the_viewer_files_match_the_release() -> None:
    vendored = STATIC / "vendor" / "swagger-ui"
    assert {name: hashlib.sha256((vendored / name).read_bytes()).hexdigest() for name in CHECKSUMS} == CHECKSUMS
    wanted = json.loads((vendored / "package.json").read_text())["dependencies"]
    locked = json.loads((vendored / "package-lock.json").read_text())["packages"]
    assert wanted == {"swagger-ui-dist": SWAGGER_UI}
    assert locked["node_modules/swagger-ui-dist"]["version"] == SWAGGER_UI
    assert f'"{SWAGGER_UI}"' in (vendored / "swagger-ui-bundle.js").read_text()


async def test_the_root_redirects_to_the_page_without_a_key(serve: Serve) -> None:
    client = await serve(keys=[KEY])
    answer = await client.get("/", allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (302, "/docs")
    assert (await client.get("/")).status == 200


async def test_the_page_allows_only_its_own_origin(client: Client) -> None:
    policy = (await client.get("/docs")).headers["Content-Security-Policy"]
    for part in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'"):
        assert part in policy
    assert "unsafe" not in policy
    assert "*" not in policy


async def test_assets_are_cached_permanently_and_the_rest_is_revalidated(serve: Serve) -> None:
    client = await serve(keys=[KEY])
    page = await (await client.get("/docs")).text()
    assets = re.findall(r'(?:src|href)="(docs/[0-9a-f]+/[^"]+)"', page)
    assert len(assets) == 4
    for path in assets:
        answer = await client.get(f"/{path}")
        assert (answer.status, answer.headers["Content-Encoding"]) == (200, "gzip"), path
        assert "immutable" in answer.headers["Cache-Control"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for path in ("/docs", "/openapi.json"):
        first = await client.get(path)
        assert first.headers["Cache-Control"] == "no-cache"
        again = await client.get(path, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status, await again.read()) == (304, b"")
        plain = await client.get(path, headers={"Accept-Encoding": "identity"})
        assert "Content-Encoding" not in plain.headers
        assert await plain.read() == await first.read()


@pytest.mark.parametrize("path", ["/docs/0000000000000000/docs.js", "/docs/00/vendor", "/docs/vendor", "/docs/"])
async def test_nothing_else_is_served_below_the_page(client: Client, path: str) -> None:
    assert (await client.get(path)).status == 404


class Complaints:
    """What a page does that it must not: errors and warnings in its console, and requests to other origins."""

    def __init__(self, page: Page, origin: str) -> None:
        self.found: list[str] = []
        page.on("console", lambda message: self._log(message.type, message.text))
        page.on("pageerror", lambda error: self.found.append(f"error: {error}"))
        page.on("request", lambda request: self._requested(request, origin))

    def _log(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.found.append(f"{kind}: {text}")

    def _requested(self, request: Request, origin: str) -> None:
        if not request.url.startswith((origin, "data:")):
            self.found.append(f"request: {request.url}")


async def _opened(browser: Browser, client: Client, path: str = "/docs") -> tuple[Page, Complaints]:
    """The page on a phone."""
    page = await browser.new_page(viewport={"width": 390, "height": 844})
    complaints = Complaints(page, str(client.make_url("/")))
    await page.goto(str(client.make_url(path)))
    await expect(page.locator(".opblock")).to_have_count(len(OPERATIONS), timeout=20_000)
    return page, complaints


async def test_the_page_shows_every_operation_and_fits_a_phone_and_a_desktop(client: Client, browser: Browser) -> None:
    page, complaints = await _opened(browser, client)
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert await page.evaluate(overflow) == 0
    for name in ("create", "list_sessions", "events"):  # a body, parameters, wide examples
        operation = page.locator(f".opblock[id$='-{name}']")
        await operation.locator(".opblock-summary-control").click()
        await expect(operation.locator(".opblock-body .responses-table")).to_be_visible(timeout=20_000)
    assert await page.evaluate(overflow) == 0
    await page.set_viewport_size({"width": 1280, "height": 844})
    assert await page.evaluate(overflow) == 0
    assert complaints.found == []


async def test_the_page_can_make_a_call_with_a_key(serve: Serve, browser: Browser, world: World) -> None:
    page, complaints = await _opened(browser, await serve(keys=[KEY]))
    await page.locator(".auth-wrapper .authorize").click()
    await page.get_by_label("auth-bearer-value").fill(KEY)
    await page.get_by_role("button", name="Apply credentials").click()
    await page.get_by_role("button", name="Close", exact=True).click()
    create = page.locator(".opblock", has_text="/session/create")
    await create.locator(".opblock-summary-control").click()
    await create.get_by_role("button", name="Try it out").click()
    await create.locator("textarea").fill('{"user_id": "ann"}')
    await create.get_by_role("button", name="Execute").click()
    await expect(create.locator(".live-responses-table tbody .response-col_status").first).to_contain_text("201")
    assert list(world.store.users) == ["ann"]
    assert complaints.found == []


async def test_the_type_of_a_problem_links_to_its_section(client: Client, browser: Browser) -> None:
    page, complaints = await _opened(browser, client, path="/problems/session-not-found")
    await expect(page.locator("#session-not-found")).to_be_in_viewport()
    assert complaints.found == []
