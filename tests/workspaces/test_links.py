"""Links in a real browser, before a gateway without a cluster: who has scripts, who has none, and who comes again."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, BrowserContext, Route

from service.gateway.access.cookie_header import COOKIE
from tests.domain.conftest import World
from tests.gateway.conftest import House


class Local(House):
    """Where a browser finds every host on its own machine."""

    def host(self, uuid: str) -> str:
        return f"{super().host(uuid)}:{self.port}"

    async def link(self) -> str:
        invitation = await self.access.issue_link(await self.awake(), "/echo")
        return invitation.url.replace("https://", "http://")

    async def as_of_old(self, route: Route) -> None:
        """Get the page of a link as a browser does that does not say how it came to ask."""
        if route.request.method != "GET":
            return await route.continue_()
        url = urlsplit(route.request.url)
        headers = {"Host": url.netloc, "User-Agent": "Mozilla/5.0", "Accept": "text/html"}
        async with self.http.get(self.url(f"{url.path}?{url.query}"), headers=headers) as found:
            return await route.fulfill(status=found.status, headers=dict(found.headers), body=await found.read())


@pytest.fixture
async def local() -> AsyncIterator[Local]:
    world = World()
    async with Local(world, domain="localhost").open() as house:
        assert isinstance(house, Local)
        yield house
    await world.provisioner.close()


async def has_cookie(context: BrowserContext) -> bool:
    return COOKIE in [cookie.get("name") for cookie in await context.cookies()]


async def test_a_link_opens_at_once_and_a_used_one_redirects(browser: Browser, local: Local) -> None:
    context, link = await browser.new_context(), await local.link()
    page = await context.new_page()
    for _ in range(2):
        found = await page.goto(link)
        assert found is not None
        assert (found.status, urlsplit(page.url).path) == (200, "/echo")
    assert await has_cookie(context)
    stranger = await (await browser.new_context()).new_page()
    refused = await stranger.goto(link)
    assert refused is not None
    assert refused.status == 403


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
async def test_the_page_of_a_link_opens_the_workspace(browser: Browser, local: Local, *, scripts: bool) -> None:
    context = await browser.new_context(java_script_enabled=scripts)
    page = await context.new_page()
    await page.route("**/.user-pods/enter*", local.as_of_old)
    await page.goto(await local.link())
    if not scripts:
        await page.get_by_role("button", name="Open workspace").click()
    await page.wait_for_url("**/echo")
    assert await has_cookie(context)
