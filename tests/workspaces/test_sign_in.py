"""Signing in and out in a real browser, at an OpenID Connect provider that is a process of its own."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import aiohttp
import pytest
from playwright.async_api import Browser, Page, Route, expect

from service.adapters.oidc.discovery import Discovery
from service.adapters.oidc.provider import OidcProvider
from service.domain.identity import UserRule
from service.domain.names import SessionId
from service.domain.sign_in import SignIn
from service.gateway.access.home import Home
from service.gateway.access.hosts import Hosts
from service.gateway.proxy.headers import Forwarding
from service.gateway.sign_in.failures import SIGN_IN, SIGN_OUT
from service.gateway.sign_in.portal import CALLBACK, SIGNED_OUT, SignInPortal
from tests.conftest import free_port
from tests.domain.conftest import World
from tests.gateway.conftest import House
from tests.oidc_provider_process import provider_process
from tests.pages import accessible, picture
from tests.waiting import until
from tests.workspaces.test_links import Local


@dataclass
class Site(Local):
    """Workspaces below `localhost`, which is the domain itself."""

    def origin(self, uuid: SessionId) -> str:
        return f"http://{self.host(uuid)}"

    @property
    def front(self) -> str:
        return f"http://localhost:{self.port}"


@dataclass
class Scene:
    site: Site
    provider: asyncio.subprocess.Process
    browser: Browser

    async def page(self) -> Page:
        """Of a new browser, which reaches this machine alone."""

        async def here(route: Route) -> None:
            await (route.continue_() if "localhost" in route.request.url or "127.0.0.1" in route.request.url
                   else route.abort())  # fmt: skip

        context = await self.browser.new_context()
        await context.route("**/*", here)
        return await context.new_page()

    def workspace_of(self, user: str) -> SessionId | None:
        workloads = self.site.world.cluster.workloads.values()
        return next((each.uuid for each in workloads if each.user_id == user), None)


@pytest.fixture
async def scene(browser: Browser) -> AsyncIterator[Scene]:
    world, port = World(), free_port()
    async with provider_process(port) as process, aiohttp.ClientSession() as http:
        rule = UserRule()
        oidc = OidcProvider(
            http,
            issuer=f"http://127.0.0.1:{port}",
            client_id="workspaces",
            secret="secret",
            scopes="openid email",
            redirect_uri="",
            signed_out_uri="",
            wanted=sorted(rule.claims),
        )

        def portal(house: House) -> tuple[SignInPortal, Home]:
            sign_in = SignIn(
                provider=oidc,
                rule=rule,
                keyring=house.keyring,
                access=house.access,
                tickets=house.tickets,
                queries=world.queries,
                cache=world.cluster,
                provisioner=world.provisioner,
                stay=timedelta(hours=12),
            )
            return SignInPortal(
                sign_in, Hosts("localhost"), house.origin, house.pages, Forwarding(scheme="http")
            ), Home("", house.origin)

        async with Site(world, portal=portal, domain="localhost").open() as site:
            assert isinstance(site, Site)
            # The port is known only now.
            oidc._redirect_uri, oidc._signed_out_uri = site.front + CALLBACK, site.front + SIGNED_OUT
            home = site.gateway._home
            assert home is not None
            home.url, home.sign_out_url = site.front + SIGN_IN, site.front + SIGN_OUT
            yield Scene(site, process, browser)
    await world.provisioner.close()


async def sign_in_as(page: Page, user: str) -> None:
    await page.get_by_role("button", name=user, exact=True).click()


async def test_a_bookmark_leads_to_the_very_page_and_later_without_the_provider(scene: Scene) -> None:
    uuid = await scene.site.awake("ann@example.com")
    bookmark = f"http://{scene.site.host(uuid)}/echo?folder=/home/coder"
    page = await scene.page()
    await page.goto(bookmark)
    await sign_in_as(page, "ann")
    await page.wait_for_url(bookmark)
    await expect(page.get_by_text('"path": "/echo?folder=/home/coder"')).to_be_visible()
    # The workspace's cookie is gone, and that of the domain is not.
    await page.context.clear_cookies(name="__Host-user-pods")
    found = await page.goto(bookmark)
    assert found is not None
    assert (found.status, page.url) == (200, bookmark)
    # Access is revoked: now the provider is asked again.
    revoked = await scene.site.world.revocation.revoke(uuid, by="api")
    await until(lambda: time.time() > revoked.timestamp() + 1)  # a sign-in that begins in its second does not count
    await page.goto(bookmark)
    await sign_in_as(page, "ann")
    await page.wait_for_url(bookmark)


async def test_somebody_else_sees_that_it_is_not_theirs_and_gets_to_their_own(scene: Scene) -> None:
    anns = await scene.site.awake("ann@example.com")
    page = await scene.page()
    await page.goto(f"http://{scene.site.host(anns)}/echo")
    await sign_in_as(page, "bob")
    await expect(page.get_by_role("heading", name="This is not your workspace")).to_be_visible()
    await picture(page, "not-your-workspace")
    await accessible(page)
    assert not scene.site.workspaces[anns].requests
    await page.get_by_role("link", name="Open workspace").click()
    await expect(page.get_by_text('"path": "/"')).to_be_visible(timeout=20_000)
    bobs = scene.workspace_of("bob@example.com")
    assert bobs is not None
    assert page.url == f"http://{scene.site.host(bobs)}/"


async def test_a_cancelled_sign_in_and_an_unverified_address_lead_on(scene: Scene) -> None:
    page = await scene.page()
    await page.goto(f"{scene.site.front}/")
    await page.get_by_role("button", name="Deny").click()
    await expect(page.get_by_role("heading", name="You are not signed in")).to_be_visible()
    await picture(page, "sign-in-cancelled")
    await page.get_by_role("link", name="Try again").click()
    await sign_in_as(page, "eve")
    await expect(page.get_by_role("heading", name="Your e-mail address is not verified")).to_be_visible()
    assert scene.workspace_of("eve@example.com") is None


async def test_without_the_provider_a_page_says_so_and_those_who_are_signed_in_go_on(scene: Scene) -> None:
    uuid = await scene.site.awake("ann@example.com")
    page, stranger = await scene.page(), await scene.page()
    await page.goto(f"http://{scene.site.host(uuid)}/echo")
    await sign_in_as(page, "ann")
    await page.wait_for_url("**/echo")
    await stranger.goto(f"{scene.site.front}/")
    scene.provider.kill()
    await scene.provider.wait()
    await page.context.clear_cookies(name="__Host-user-pods")
    found = await page.goto(f"http://{scene.site.host(uuid)}/echo")
    assert found is not None
    assert found.status == 200

    provider = scene.site.gateway._portal._sign_in.provider  # type: ignore[union-attr]
    assert isinstance(provider, OidcProvider)
    provider._discovery = Discovery(provider._client, provider._issuer)
    await stranger.goto(f"{scene.site.front}/")
    await expect(stranger.get_by_role("heading", name="Sign-in is temporarily unavailable")).to_be_visible()
    await picture(stranger, "provider-away")
