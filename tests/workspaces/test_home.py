"""From a bookmark into the workspace, in a real browser: the gateway, and the smallest frontend of the examples."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, expect

from examples import home
from service.gateway.access.home import Home
from tests.domain.conftest import World
from tests.pages import picture
from tests.workspaces.test_links import Local


async def api(house: Local) -> web.Application:
    """The two calls of the API that a frontend needs."""

    async def create(request: web.Request) -> web.Response:
        user_id = (await request.json())["user_id"]
        return web.json_response({"uuid": (await house.world.provisioner.create(user_id)).uuid})

    async def open_(request: web.Request) -> web.Response:
        link = await house.access.issue_link(request.match_info["uuid"], request.query["to"])  # type: ignore[arg-type]
        return web.json_response({"url": link.url.replace("https://", "http://")})

    app = web.Application()
    app.add_routes([web.post("/session/create", create), web.post("/session/{uuid}/open", open_)])
    return app


@pytest.fixture
async def local() -> AsyncIterator[Local]:
    """A gateway whose home is the example."""
    world = World()
    async with Local(world, home="http://localhost/", domain="localhost").open() as house, AsyncExitStack() as stack:
        assert isinstance(house, Local)
        server = await stack.enter_async_context(TestServer(await api(house)))
        service = await stack.enter_async_context(aiohttp.ClientSession(server.make_url("/")))
        frontend = await stack.enter_async_context(TestServer(home.make_app(service)))
        assert isinstance(house.gateway._home, Home)
        house.gateway._home.url = f"http://localhost:{frontend.port}/"
        yield house
    await world.provisioner.close()


async def test_a_bookmark_leads_through_signing_in_to_the_very_page(browser: Browser, local: Local) -> None:
    uuid = await local.awake("ann@example.com")
    bookmark = f"http://{local.host(uuid)}/echo?folder=/home/coder"
    page = await (await browser.new_context()).new_page()
    await page.goto(bookmark)
    await page.get_by_label("E-mail").fill("ann@example.com")
    await picture(page, "home-sign-in")
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url(bookmark)
    await expect(page.locator("body")).to_contain_text('"path": "/echo?folder=/home/coder"')

    # Later, the workspace's cookie is gone and the frontend still knows its user: nobody asks for anything.
    await page.context.clear_cookies(name="__Host-user-pods")
    found = await page.goto(bookmark)
    assert found is not None
    assert (found.status, page.url) == (200, bookmark)

    # Anybody can link there with what is no URL.
    await page.goto(f"{local.gateway._home.url}?return_to=https://[")  # type: ignore[union-attr]
    assert page.url == f"http://{local.host(uuid)}/"


async def test_somebody_else_gets_into_their_own_workspace_only(browser: Browser, local: Local) -> None:
    anns, bobs = await local.awake("ann@example.com"), await local.awake("bob@example.com")
    page = await (await browser.new_context()).new_page()
    await page.goto(f"http://{local.host(anns)}/echo?x=1")
    await page.get_by_label("E-mail").fill("bob@example.com")
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url(f"http://{local.host(bobs)}/")
    assert not local.workspaces[anns].requests


async def test_a_browser_that_keeps_no_cookie_of_the_workspace_is_not_led_round_for_ever(
    browser: Browser, local: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def redeem(*_: object) -> str:
        return f"{2**33}.1.00000000.{'A' * 43}"  # accepted by no replica

    monkeypatch.setattr(local.access, "redeem", redeem)
    page = await (await browser.new_context()).new_page()
    await page.goto(f"http://{local.host(await local.awake('ann@example.com'))}/echo")
    await page.get_by_label("E-mail").fill("ann@example.com")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", name="Signing in did not work")).to_be_visible()
    link = page.get_by_role("link", name="Sign in")
    target = await link.get_attribute("href")
    assert target is not None
    assert urlsplit(target).netloc == urlsplit(local.gateway._home.url).netloc  # type: ignore[union-attr]
