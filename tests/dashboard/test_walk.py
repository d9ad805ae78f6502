"""A user and an operator walk through the dashboard in Chromium, with 10,000 sessions behind it.

Redis is real, and so is the identity provider at which both sign in. The cluster is in memory. Pictures of each step
are in tests/pictures/ afterwards.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import aiohttp
import pytest
from playwright.async_api import Browser, Page, expect

from service.adapters.oidc.provider import OidcProvider
from service.dashboard import paths
from service.domain.clock import utc_now
from service.domain.identity import UserRule
from service.domain.names import SessionId
from service.domain.people import PersonRule
from tests.conftest import free_port
from tests.dashboard.conftest import Board, serving
from tests.dashboard.real_redis import RealRedisWorld, on_redis
from tests.dashboard.sessions import show
from tests.dashboard.test_in_a_browser import DESK, PHONE, Complaints, by_keyboard, seen
from tests.domain.test_wake_times import wake
from tests.oidc_provider_process import provider_process
from tests.redis_servers import redis_server

SESSIONS = 10_000
ANNS = SessionId("a0007777")
PEOPLE = [
    {"sub": "ann", "email": "ann@example.com", "email_verified": True},
    {"sub": "olga", "email": "olga@example.com", "email_verified": True, "groups": ["platform"]},
]


@dataclass
class Scene:
    board: Board
    world: RealRedisWorld
    browser: Browser

    @asynccontextmanager
    async def page(self) -> AsyncIterator[tuple[Page, Complaints]]:
        """Of a browser that nobody has used yet."""
        context = await self.browser.new_context(viewport=DESK)
        try:
            page = await context.new_page()
            yield page, Complaints(page, self.board.origin)
        finally:
            await context.close()  # an open page would hold up the end of the server

    def change(self, **more: object) -> None:
        """Let the cluster show something else of Ann's session."""
        cluster = self.world.cluster
        cluster.change(replace(cluster.workload(ANNS), **more))  # type: ignore[arg-type]


@pytest.fixture
async def scene(browser: Browser) -> AsyncIterator[Scene]:
    port, at_provider, rule = free_port(), free_port(), UserRule()
    url = f"http://localhost:{port}"
    people = PersonRule(user=rule, operators=frozenset({"platform"}))
    with redis_server() as server:
        async with (
            on_redis(server.port) as world,
            provider_process(at_provider, PEOPLE),
            aiohttp.ClientSession() as http,
        ):
            await world.keep([show(world, number, _user(number)) for number in range(SESSIONS)])
            provider = OidcProvider(
                http,
                issuer=f"http://127.0.0.1:{at_provider}",
                client_id="workspaces",
                secret="secret",
                scopes="openid email profile",
                redirect_uri=url + paths.CALLBACK,
                signed_out_uri=url,
                wanted=sorted(people.claims),
            )
            async with serving(world, provider=provider, rule=people, url=url, port=port) as board:
                yield Scene(board, world, browser)


def _user(number: int) -> str:
    return "ann@example.com" if f"a{number:07}" == ANNS else f"user{number:05}@example.com"


async def sign_in(page: Page, board: Board, who: str) -> None:
    await page.goto(f"{board.origin}/dashboard")
    await page.get_by_role("link", name="Sign in with your account").click()
    await page.get_by_role("button", name=who, exact=True).click()


async def act(page: Page, action: str, done: str) -> None:
    """By the keyboard: the action, and its confirmation."""
    await by_keyboard(page, action)
    await expect(page.get_by_role("button", name=action)).to_be_visible()
    await by_keyboard(page, action)
    await expect(page.locator(".done")).to_contain_text(done)


@pytest.mark.timeout(300)
async def test_a_user_looks_after_the_own_session_and_an_operator_after_all(scene: Scene) -> None:
    async with scene.page() as (page, complaints):
        await _a_user(scene, page, complaints)
    async with scene.page() as (page, complaints):
        await _an_operator(scene, page)
        assert complaints == []


async def _a_user(scene: Scene, page: Page, complaints: Complaints) -> None:
    await page.set_viewport_size(PHONE)
    await sign_in(page, scene.board, "ann")
    # Nothing but the own session, and no way to anything else.
    await expect(page.get_by_role("heading", name="ann@example.com")).to_be_visible()
    assert await page.get_by_role("navigation", name="Pages").get_by_role("link").count() == 1
    await expect(page.locator(".state")).to_have_text("Asleep")
    await seen(page, "walk-user-asleep")
    await act(page, "Wake", "The wake was accepted.")
    scene.change(replicas=1, parked=False)
    await expect(page.locator(".state")).to_have_text("Waking up")
    scene.change(ready=1)
    await expect(page.locator(".state")).to_have_text("Awake")
    await act(page, "Keep awake", "It stays awake for that time.")
    await seen(page, "walk-user-awake")
    await act(page, "Send to sleep", "It was sent to sleep. The state follows by itself.")
    await expect(page.locator(".state")).to_have_text("Asleep")
    assert complaints == []
    # Somebody else's session looks like one that does not exist.
    for uuid in ("a0000001", "zzzzzzzz"):
        await page.goto(f"{scene.board.origin}/dashboard/sessions/{uuid}")
        await expect(page.get_by_role("heading", name="No such session")).to_be_visible()
    await page.goto(f"{scene.board.origin}/dashboard/overview")
    await expect(page.get_by_role("heading", name="You may not do that")).to_be_visible()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    refused = ("404", "403")
    assert all(any(status in complaint for status in refused) for complaint in complaints), complaints


async def _an_operator(scene: Scene, page: Page) -> None:
    await sign_in(page, scene.board, "olga")
    await expect(page.locator("#found")).to_have_text("10,000 sessions.")
    await page.get_by_role("link", name="100 sessions cannot pull their image").click()
    await expect(page.locator("#found")).to_have_text("100 of 10,000 sessions.")
    await page.goto(f"{scene.board.origin}/dashboard")
    await page.get_by_label("User or session id").press_sequentially("ann@")
    await expect(page.locator("tbody tr")).to_have_count(1)
    await by_keyboard(page, "ann@example.com")
    await expect(page.get_by_role("heading", name="ann@example.com")).to_be_visible()
    await act(page, "Wake", "The wake was accepted.")
    scene.change(replicas=1, ready=1)
    await expect(page.locator(".state")).to_have_text("Awake")
    await act(page, "Restart", "The restart was accepted. The state follows by itself.")
    await _overview(scene, page)
    await _findings(page)
    await _upgrade(scene, page)
    await by_keyboard(page, "Audit")
    await expect(page.get_by_role("row").filter(has_text="ann@example.com").filter(has_text="extend")).to_have_count(1)
    await expect(page.get_by_role("row").filter(has_text="olga@example.com").filter(has_text="fix")).to_have_count(1)


async def _overview(scene: Scene, page: Page) -> None:
    now = utc_now()
    for number in range(50):
        at = now - timedelta(minutes=number)
        await scene.world.measured.append(wake(2 + number / 10, pod=f"pod{number}", at=at))
    await by_keyboard(page, "Overview")
    await expect(page.get_by_role("row", name="In all, from the wake to the ready pod 4.40 6.70 6.90")).to_have_count(2)
    await seen(page, "walk-overview")


async def _upgrade(scene: Scene, page: Page) -> None:
    scene.world.releases.target = "second"
    await by_keyboard(page, "Upgrade")
    await expect(page.get_by_role("heading", name="Upgrade")).to_be_visible()
    await expect(page.locator(".state")).to_contain_text("10,000 sessions are out of date.")
    await seen(page, "walk-upgrade")
    await page.get_by_role("link", name="Upgrade").and_(page.locator(".button")).press("Enter")
    await expect(page.get_by_role("heading", name="Upgrade all sessions?")).to_be_visible()
    await seen(page, "walk-upgrade-start")
    await page.get_by_role("button", name="Upgrade").press("Enter")
    await expect(page.locator(".state")).to_contain_text("An upgrade is under way.")
    # Without a reload, the page follows what becomes of it.
    for number in range(1_000):
        uuid = SessionId(f"a{number:07}")
        workload = scene.world.cluster.workload(uuid)
        scene.world.cluster.workloads[uuid] = replace(workload, revision="second")
    await expect(page.get_by_text("1,000 of 10,000 sessions are up to date")).to_be_visible(timeout=20_000)
    await page.get_by_role("link", name="Stop").press("Enter")
    await page.get_by_role("button", name="Stop").press("Enter")
    await expect(page.locator(".state")).to_contain_text("The last upgrade was stopped.")


async def _findings(page: Page) -> None:
    """A Redis that nobody has set up notifies nobody of wakes, which can be mended."""
    await by_keyboard(page, "Findings")
    await expect(page.get_by_role("heading", name="Findings")).to_be_visible()
    await by_keyboard(page, "Look now")
    finding = page.get_by_role("region", name=re.compile("redis-settings: notify-keyspace-events"))
    await expect(finding).to_be_visible(timeout=30_000)
    await seen(page, "walk-findings")
    await finding.get_by_role("link", name="Mend").press("Enter")
    await expect(page.get_by_role("heading", name="Mend this finding?")).to_be_visible()
    await seen(page, "walk-mend")
    await page.get_by_role("button", name="Mend").press("Enter")
    await expect(page.get_by_role("heading", name="It is mended")).to_be_visible()
    await page.get_by_role("link", name="Look again").press("Enter")
    await expect(page.locator("#findings .done")).to_be_visible(timeout=30_000)
    await expect(finding).to_have_count(0)
