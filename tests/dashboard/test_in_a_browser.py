"""The dashboard in Chromium, with 10,000 sessions behind it. Pictures of it are in tests/pictures/ afterwards."""

import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Literal

import pytest
from aiohttp import web
from playwright.async_api import Browser, ConsoleMessage, Page, ViewportSize, expect

from service.dashboard import live
from service.domain.names import SessionId
from service.gateway.pages.brand import Brand, Support
from tests.dashboard.conftest import OPERATOR, VIEWER, Board, serving
from tests.dashboard.sessions import fill, put
from tests.dashboard.test_list import HOSTILE
from tests.domain.conftest import World
from tests.pages import accessible, picture

PHONE, DESK = ViewportSize(width=360, height=740), ViewportSize(width=1280, height=800)
SCHEMES: Sequence[Literal["light", "dark"]] = ("light", "dark")
BRAND = Brand(name="Example Labs", color="#0b57d0", support=Support.parse("Ask [us](https://help.example.com)."))


@pytest.fixture
async def board(world: World) -> AsyncIterator[Board]:
    fill(world, 10_000)
    async with serving(world, brand=BRAND) as board:
        yield board


class Complaints(list[str]):
    """What a browser must not have to say: violations of the policy, and errors of scripts.

    `origin`: whose pages count; empty: all.
    """

    def __init__(self, page: Page, origin: str = "") -> None:
        super().__init__()
        self._origin = origin
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.append(error.message))

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error" and message.location["url"].startswith(self._origin):
            self.append(message.text)


async def signed_in(page: Page, board: Board, role: str = OPERATOR) -> None:
    key = await board.add_key("ops", role)  # type: ignore[arg-type]
    await page.goto(f"{board.origin}/dashboard")
    await page.get_by_label("API key").fill(key)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Sessions")).to_be_visible()


async def seen(page: Page, name: str) -> None:
    """The page is for everybody: on a desk and on a phone, light and dark."""
    for scheme in SCHEMES:
        await page.emulate_media(color_scheme=scheme)
        for size, device in ((PHONE, "phone"), (DESK, "desk")):
            await page.set_viewport_size(size)
            await picture(page, f"dashboard-{name}-{device}-{scheme}")
            await accessible(page)


async def test_a_live_page_whose_sign_in_has_ended_leads_to_the_next_one_by_itself(
    board: Board, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_HEARTBEAT", 0.2)
    await signed_in(page, board)
    await page.goto(f"{board.origin}/dashboard?q=user04242")
    await expect(page.locator("#found")).to_have_text("1 of 10,000 sessions.")
    board.sessions._now = lambda: time.time() + 9 * 3600
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible(timeout=20_000)
    await expect(page).to_have_url(re.compile("to=.*user04242"))


async def test_operators_find_a_session_among_ten_thousand(board: Board, page: Page) -> None:
    complaints = Complaints(page)
    await page.goto(f"{board.origin}/dashboard")
    await seen(page, "sign-in")
    await signed_in(page, board)
    await expect(page.locator("#found")).to_have_text("10,000 sessions.")
    await seen(page, "sessions")
    # Found while it is typed, without a button, and the address follows.
    await page.get_by_label("User or session id").press_sequentially("user04242")
    await expect(page.locator("#found")).to_have_text("1 of 10,000 sessions.")
    await expect(page).to_have_url(re.compile(r"\?q=user04242&phase="))
    await page.get_by_role("link", name="user04242@example.com").click()
    await expect(page.get_by_role("heading", name="user04242@example.com")).to_be_visible()
    await seen(page, "session")
    await page.go_back()
    await expect(page.locator("tbody tr")).to_have_count(1)
    await page.goto(f"{board.origin}/dashboard")
    await page.get_by_role("link", name="100 sessions cannot pull their image").click()
    await expect(page.locator("#found")).to_have_text("100 of 10,000 sessions.")
    assert complaints == []


async def test_states_change_while_somebody_looks_at_them(board: Board, page: Page) -> None:
    complaints = Complaints(page)
    await signed_in(page, board, VIEWER)
    link = page.get_by_role("link", name="user00005@example.com")
    await link.focus()
    cell = page.locator("tr", has=link).locator("td").nth(1)
    await expect(cell).to_have_text("Asleep")
    uuid = SessionId("a0000005")
    world = board.world
    # What the row shows is loaded once before the stream is open, so it may change a moment later.
    world.cluster.change(replace(world.cluster.workload(uuid), replicas=1))
    await expect(cell).to_have_text("Waking up")
    world.cluster.change(replace(world.cluster.workload(uuid), ready=1))
    await expect(cell).to_have_text("Awake")
    await expect(link).to_be_focused()
    # After a search, other rows are live.
    await page.get_by_label("State").select_option("failed")
    await expect(page.locator("#found")).to_have_text("100 of 10,000 sessions.")
    cell = page.locator("tr", has=page.get_by_role("link", name="user00104@example.com")).locator("td").nth(1)
    await expect(cell).to_contain_text("Does not start")
    uuid = SessionId("a0000104")
    world.cluster.change(replace(world.cluster.workload(uuid), failure=None, ready=1))
    await expect(cell).to_have_text("Awake")
    assert complaints == []


async def test_the_keyboard_alone_is_enough(board: Board, page: Page) -> None:
    await signed_in(page, board)
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await expect(page.get_by_label("User or session id")).to_be_focused()
    await page.keyboard.type("a0000077")
    await expect(page.locator("tbody tr")).to_have_count(1)
    await by_keyboard(page, "user00077@example.com")
    await expect(page.get_by_role("heading", name="user00077@example.com")).to_be_visible()
    await by_keyboard(page, "Wake")
    await expect(page.get_by_role("heading", name="Wake this session?")).to_be_visible()
    await by_keyboard(page, "Cancel")
    await expect(page.get_by_role("heading", name="user00077@example.com")).to_be_visible()
    await by_keyboard(page, "Wake")
    await expect(page.get_by_role("heading", name="Wake this session?")).to_be_visible()
    await by_keyboard(page, "Wake")
    await expect(page.locator(".done")).to_have_text("The wake was accepted. The state follows by itself.")
    uuid = SessionId("a0000077")
    assert board.world.queues.queue(uuid).tokens == 1
    # What can be done follows the state.
    await expect(page.get_by_role("link", name="Send to sleep")).to_be_visible()
    board.world.cluster.change(replace(board.world.cluster.workload(uuid), replicas=1, ready=1))
    await expect(page.locator(".state")).to_have_text("Awake")


async def test_a_link_on_another_site_opens_the_page_for_whoever_is_signed_in(board: Board, browser: Browser) -> None:
    context = await browser.new_context()
    await signed_in(await context.new_page(), board)
    target = f"{board.origin}/dashboard?q=user00042"
    async with serving_page(f'<a href="{target}">the session</a>') as elsewhere:
        for who, heading in ((context, "Sessions"), (await browser.new_context(), "Sign in")):
            page = await who.new_page()
            await page.goto(elsewhere)
            await page.get_by_role("link", name="the session").click()
            await expect(page.get_by_role("heading", name=heading)).to_be_visible()
            await expect(page.get_by_label("User or session id" if who is context else "API key")).to_be_visible()


@asynccontextmanager
async def serving_page(body: str) -> AsyncIterator[str]:
    """A page of another site; yields its address."""

    async def respond(_: web.BaseRequest) -> web.Response:
        return web.Response(text=f"<!doctype html><title>elsewhere</title>{body}", content_type="text/html")

    runner = web.ServerRunner(web.Server(respond))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://localhost:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def by_keyboard(page: Page, name: str) -> None:
    """Press what has that name."""
    for _ in range(40):
        await page.keyboard.press("Tab")
        if (await page.evaluate("document.activeElement.textContent.trim()")) == name:
            return await page.keyboard.press("Enter")
    raise AssertionError(f"the keyboard does not reach {name}")


async def test_confirmations_and_the_audit_are_for_everybody(board: Board, page: Page) -> None:
    complaints = Complaints(page)
    await signed_in(page, board)
    session = f"{board.origin}/dashboard/sessions/a0000001"
    for name in ("extend", "delete"):
        await page.goto(f"{session}/{name}")
        await seen(page, name)
    await page.get_by_label("Delete them for good").check()
    await page.get_by_role("button", name="Delete").click()
    await expect(page.locator(".done")).to_have_text("The session was deleted.")
    await page.get_by_role("link", name="Audit").click()
    await expect(page.locator("tbody tr")).to_have_count(2)
    await seen(page, "audit")
    await page.goto(session)
    await expect(page.get_by_role("heading", name="No such session")).to_be_visible()
    await accessible(page)
    # The refused page is the only complaint.
    assert all("404" in complaint for complaint in complaints)


async def test_everything_works_without_script(board: Board, browser: Browser) -> None:
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    await signed_in(page, board)
    await page.get_by_label("User or session id").fill("user0003")
    await page.get_by_role("button", name="Search").click()
    await expect(page.locator("#found")).to_have_text("10 of 10,000 sessions.")
    await page.get_by_role("link", name="Created (UTC)").click()
    await expect(page.locator("tbody th").first).to_have_text("user00030@example.com")
    await page.goto(f"{board.origin}/dashboard")
    await page.get_by_role("link", name="Next").click()
    await expect(page.locator("tbody th").first).to_have_text("user00050@example.com")
    await page.goto(f"{board.origin}/dashboard/sessions/a0000001")
    await page.get_by_role("link", name="Send to sleep").click()
    await page.get_by_role("button", name="Send to sleep").click()
    await expect(page.locator(".done")).to_have_text("It was sent to sleep. The state follows by itself.")
    await expect(page.locator(".state")).to_have_text("Asleep")
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    await page.goto(f"{board.origin}/dashboard")
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_a_hostile_user_can_only_be_read(board: Board, page: Page) -> None:
    complaints = Complaints(page)
    uuid = put(board.world, 10_004, f"000{HOSTILE}")
    board.world.cluster.workloads[uuid] = replace(board.world.cluster.workload(uuid), failure=f"Bad: {HOSTILE}")
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    await signed_in(page, board)
    await expect(page.get_by_role("link", name=HOSTILE)).to_be_visible()
    # Also what arrives by the stream is text.
    board.world.cluster.change(replace(board.world.cluster.workload(uuid), failure=f"Worse: {HOSTILE}"))
    await expect(page.locator("tr", has_text=HOSTILE).locator(".why")).to_contain_text("Worse")
    await page.get_by_role("link", name=HOSTILE).click()
    await expect(page.get_by_role("heading", name=HOSTILE)).to_be_visible()
    assert await page.locator("img").count() == 0
    assert complaints == []
