"""The companion in a real browser, on a plain page behind a gateway: what its user sees, and what counts as input."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import Browser, BrowserContext, Locator, Page, expect

from service.domain.activity import SessionActivity
from service.domain.errors import RedisUnavailable
from service.domain.idle_times import IdleTimes
from service.domain.names import SessionId
from service.gateway.action_rate import BURST
from service.gateway.companion import session_tabs
from service.gateway.companion.messages import Message
from service.gateway.companion.session_tabs import SessionTabs
from service.gateway.limits import GatewayLimits
from tests.domain.conftest import World
from tests.gateway.conftest import House, Workspace
from tests.pages import accessible, picture
from tests.waiting import until

POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self'; connect-src 'self'; frame-src 'self'"
    " blob: data:; require-trusted-types-for 'script'"
)
PAGE = (
    """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Plain</title>
<script>window.heard = []; for (const type of ["keydown", "paste", "click", "pointerdown", "input", "beforeinput"])
addEventListener(type, (event) => heard.push(type), true);</script></head>
<body><main><h1>Plain page</h1><textarea aria-label="Text"></textarea>"""
    + "<p>…</p>" * 100
    + "</main></body></html>"
)


async def _page(self: Workspace, _request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(text=PAGE, content_type="text/html", headers={"Content-Security-Policy": POLICY})


async def _frame(self: Workspace, _request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(text="<!doctype html><title>Frame</title><input aria-label='Inner'>", content_type="text/html")


@asynccontextmanager
async def at_home(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    """A gateway for a browser: at a host that it finds and trusts, with short times."""
    monkeypatch.setattr("service.gateway.activity.notes.INTERVAL", 0.2)
    monkeypatch.setattr(session_tabs, "NOTICE_INTERVAL", 0.2)
    monkeypatch.setattr(Workspace, "_plain", _page, raising=False)
    monkeypatch.setattr(Workspace, "_frame", _frame, raising=False)
    limits = GatewayLimits(sleep_notice=timedelta(seconds=30))
    async with House(world, limits, domain="localhost").open() as house:
        yield house


@pytest.fixture
async def home(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    async with at_home(world, monkeypatch) as house:
        yield house


TIMES = IdleTimes(lease=timedelta(seconds=60), cooldown=timedelta(seconds=1), poll=timedelta(seconds=1))


async def awake(house: House) -> SessionId:
    uuid = await house.awake()
    house.world.cluster.change(replace(house.world.cluster.workload(uuid), idle_times=TIMES))
    return uuid


async def link(house: House, uuid: SessionId, path: str) -> str:
    url = (await house.access.issue_link(uuid, to=path)).url
    return url.replace("https://", "http://").replace("localhost", f"localhost:{house.port}")


async def open_tab(house: House, uuid: SessionId, context: BrowserContext, path: str = "/plain") -> Page:
    page = await context.new_page()
    await page.goto(await link(house, uuid, path))
    await connected(house, uuid, len(context.pages))
    return page


async def connected(house: House, uuid: SessionId, tabs: int = 1) -> None:
    def count() -> int:
        found = house.gateway._companions._sessions.get(uuid)
        return len(found._tabs) if found else 0

    await until(lambda: count() == tabs)


async def fall_asleep(house: House, uuid: SessionId) -> None:
    """As KEDA lets it: nothing is left in the queue."""
    house.world.queues.drop(uuid)
    await house.fall_asleep(uuid)


async def sleeps_in(house: House, uuid: SessionId, seconds: float) -> None:
    """Let the session be due to sleep then, and its watchers see it."""
    await until(lambda: not house.gateway._activity._timers)  # no visit is written any more
    house.world.queues.tokens[uuid] = (1, datetime.now(UTC) + timedelta(seconds=seconds))
    house.world.cluster.change(house.world.cluster.workload(uuid))


def heard_from_pages(monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    """What pages say from now on."""
    heard: list[Message] = []
    on_message = SessionTabs.on_message

    def listen(self: SessionTabs, message: Message) -> None:
        heard.append(message)
        on_message(self, message)

    monkeypatch.setattr(SessionTabs, "on_message", listen)
    return heard


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    return heard_from_pages(monkeypatch)


async def quiet(said: list[Message]) -> None:
    """Wait until a report that is due has come, and forget it."""
    await asyncio.sleep(2.3)
    said.clear()


@pytest.fixture
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    context = await browser.new_context(viewport={"width": 900, "height": 600})
    yield context
    await context.close()


async def test_the_page_works_under_its_policy_without_a_complaint(home: House, context: BrowserContext) -> None:
    complaints: list[str] = []
    context.on("console", lambda message: complaints.append(message.text))
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    uuid = await awake(home)
    page = await open_tab(home, uuid, context)
    await sleeps_in(home, uuid, 20)
    await expect(page.get_by_role("button", name="Stay awake")).to_be_visible()
    await fall_asleep(home, uuid)
    await expect(page.get_by_role("dialog")).to_be_visible()
    assert complaints == []


@pytest.mark.parametrize("kind", ["key", "pointer", "click", "wheel", "touch"])
async def test_what_a_user_does_is_told_at_once(home: House, browser: Browser, said: list[Message], kind: str) -> None:
    uuid, context = await awake(home), await browser.new_context(has_touch=True)
    page = await open_tab(home, uuid, context)
    await page.mouse.move(10, 10)
    await quiet(said)
    before = home.world.store.sessions[uuid].last_activity
    does: dict[str, Callable[[], Awaitable[None]]] = {
        "key": lambda: page.keyboard.press("a"),
        "pointer": lambda: page.mouse.move(200, 200),
        "click": lambda: page.mouse.click(10, 10),
        "wheel": lambda: page.mouse.wheel(0, 300),
        "touch": lambda: page.touchscreen.tap(50, 50),
    }
    await does[kind]()
    async with asyncio.timeout(1.5):
        await until(lambda: bool(said))
    await until(lambda: home.world.store.sessions[uuid].last_activity != before)
    assert home.world.store.sessions[uuid].activity_source == "input"


async def test_what_a_page_does_by_itself_is_no_input(
    home: House, context: BrowserContext, said: list[Message]
) -> None:
    uuid = await awake(home)
    page = await open_tab(home, uuid, context)
    await page.mouse.move(10, 10)
    await quiet(said)
    before = home.world.store.sessions[uuid]
    await page.evaluate(
        """async () => {
            const bubbles = true;
            for (const make of [() => new KeyboardEvent("keydown", {key: "a", bubbles}),
                () => new MouseEvent("click", {bubbles}),
                () => new PointerEvent("pointermove", {bubbles, screenX: 500})])
                document.querySelector("textarea").dispatchEvent(make());
            scrollTo(0, 500);
            document.querySelector("textarea").focus();
            const socket = new WebSocket("ws://" + location.host + "/ws");
            await new Promise((done) => socket.onopen = done);
            socket.send("I am no user");
            await fetch("/echo", {method: "POST", body: "saved"});
            document.querySelector("h1").textContent = "Changed";
        }"""
    )
    await asyncio.sleep(1)
    assert said == []
    after = home.world.store.sessions[uuid]
    assert (after.last_activity, after.activity_source) == (before.last_activity, before.activity_source)


async def test_the_same_page_counts_by_what_it_sends_where_nothing_measures(home: House, browser: Browser) -> None:
    home.gateway._script = home.gateway._injector = None  # as `GATEWAY_COMPANION=false` leaves it
    uuid, context = await awake(home), await browser.new_context()
    page = await context.new_page()
    await page.goto(await link(home, uuid, "/plain"))
    await until(lambda: not home.gateway._activity._timers)
    before = home.world.store.sessions[uuid].last_activity
    await page.evaluate("fetch('/echo')")
    await until(lambda: home.world.store.sessions[uuid].last_activity != before)


async def test_input_is_told_at_most_every_two_seconds_and_the_last_one_always(
    home: House, context: BrowserContext, said: list[Message]
) -> None:
    uuid = await awake(home)
    page = await open_tab(home, uuid, context)
    await quiet(said)
    began = asyncio.get_running_loop().time()
    while asyncio.get_running_loop().time() - began < 3:
        await page.keyboard.press("a")
        await asyncio.sleep(0.1)
    last = datetime.now(UTC)
    await asyncio.sleep(2.3)
    assert 2 <= len(said) <= 4
    noted = home.world.store.sessions[uuid].last_activity
    assert noted is not None
    assert abs(noted - last) < timedelta(seconds=0.5), "the time of the last key, not of its report"
    said.clear()
    await asyncio.sleep(2.5)
    assert said == []


@pytest.mark.parametrize("when", ["later", "nested", "rewritten"])
async def test_input_in_frames_counts_too(home: House, context: BrowserContext, said: list[Message], when: str) -> None:
    uuid = await awake(home)
    page = await open_tab(home, uuid, context)
    await page.evaluate(
        """async (when) => {
            const add = (place, url) => new Promise((done) => {
                const frame = place.createElement("iframe");
                frame.onload = () => done(frame);
                if (url) frame.src = url;
                place.body.append(frame);
            });
            const frame = await add(document, when === "rewritten" ? "" : "/frame");
            if (when === "nested") await add(frame.contentDocument, "/frame");
            if (when !== "rewritten") return;
            const inner = document.createElement("input");
            inner.ariaLabel = "Inner";
            frame.contentDocument.open();
            frame.contentDocument.close();
            frame.contentDocument.body.append(inner);
        }""",
        when,
    )
    frame = page.frames[-1]
    await frame.locator("input").focus()
    await quiet(said)
    await page.keyboard.press("b")
    async with asyncio.timeout(1.5):  # the next report that is not at once comes after two seconds
        await until(lambda: bool(said))
    await fall_asleep(home, uuid)
    await expect(page.get_by_role("dialog")).to_be_visible()
    before = await frame.locator("input").input_value()
    await page.keyboard.press("c")
    assert await frame.locator("input").input_value() == before


async def test_a_notice_says_how_long_takes_no_focus_and_goes_as_soon_as_somebody_moves_in_any_tab(
    home: House, context: BrowserContext
) -> None:
    uuid = await awake(home)
    one, two = await open_tab(home, uuid, context), await open_tab(home, uuid, context)
    await two.get_by_label("Text").focus()
    await sleeps_in(home, uuid, 20)
    for page in (one, two):
        await expect(page.get_by_role("group", name="Going to sleep soon")).to_be_visible()
        await expect(page.get_by_role("status")).to_contain_text("goes to sleep in")
    assert await two.evaluate("document.activeElement.tagName") == "TEXTAREA"
    await picture(two, "companion-notice")
    await two.keyboard.press("x")
    assert await two.get_by_label("Text").input_value() == "x"
    for page in (one, two):
        await expect(page.get_by_role("group", name="Going to sleep soon")).to_be_hidden(timeout=3000)
    assert home.world.store.sessions[uuid].activity_source == "input"


async def test_the_notices_button_keeps_the_workspace_awake_and_is_reached_by_keyboard(
    home: House, context: BrowserContext
) -> None:
    uuid = await awake(home)
    page = await open_tab(home, uuid, context)
    await sleeps_in(home, uuid, 20)
    button = page.get_by_role("button", name="Stay awake for 60 min")
    await expect(button).to_be_visible()
    for _ in range(6):
        await page.keyboard.press("Tab")
        if await button.evaluate("(button) => button.getRootNode().activeElement === button"):
            break
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("group")).to_contain_text("Awake until")
    kept = home.world.store.sessions[uuid].kept_until
    assert kept is not None
    assert kept - datetime.now(UTC) > timedelta(minutes=59)


@pytest.mark.parametrize("how", ["click", "tap"])
async def test_the_notices_button_stays_under_the_pointer_and_all_tabs_notices_disappear(
    home: House, browser: Browser, how: str
) -> None:
    uuid, context = await awake(home), await browser.new_context(has_touch=True)
    one, two = await open_tab(home, uuid, context), await open_tab(home, uuid, context)
    await sleeps_in(home, uuid, 20)
    notices = [page.get_by_role("button", name="Stay awake") for page in (one, two)]
    for notice in notices:
        await expect(notice).to_be_visible()
    await expect(one.get_by_role("group")).to_contain_text("goes to sleep in")
    box = await notices[0].bounding_box()
    assert box is not None
    # The pointer's way there is input, which changes the notice's text: where the button was, it must still be.
    at = box["x"] + 3, box["y"] + 3
    await (one.mouse.click(*at) if how == "click" else one.touchscreen.tap(*at))
    await until(lambda: home.world.store.sessions[uuid].kept_until is not None)
    await expect(one.get_by_role("group")).to_contain_text("Awake until")
    await one.mouse.move(10, 10)
    for notice in notices:
        await expect(notice).to_be_hidden()


async def test_a_refused_stay_says_why(home: House, context: BrowserContext, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object) -> None:
        raise RedisUnavailable

    uuid = await awake(home)
    page = await open_tab(home, uuid, context)
    await sleeps_in(home, uuid, 20)
    monkeypatch.setattr(SessionActivity, "extend", away)
    await page.get_by_role("button", name="Stay awake").click()
    await expect(page.get_by_role("group")).to_contain_text("Temporarily unavailable")
    rate = home.gateway._companions._surroundings.rate
    for _ in range(BURST - 1):
        rate.take(uuid)
    await page.get_by_role("button", name="Stay awake").click()
    await expect(page.get_by_role("group")).to_contain_text("That was too often. Wait")


async def test_pages_get_a_moment_to_save_before_the_sleep(home: House, context: BrowserContext) -> None:
    uuid = await awake(home)
    page = await open_tab(home, uuid, context)
    await sleeps_in(home, uuid, 8)
    heard = await page.evaluate(
        """() => new Promise((done) => {
            const saved = [];
            addEventListener("user-pods:sleep", (event) => saved.push(event.detail.seconds));
            addEventListener("blur", () => done([...saved, "blur"]));
        })"""
    )
    seconds, blur = heard
    assert 2 <= seconds <= 5
    assert blur == "blur"


async def test_at_a_sleep_every_tab_is_covered_within_a_second_and_the_page_hears_nothing(
    home: House, context: BrowserContext
) -> None:
    uuid = await awake(home)
    tabs = [await open_tab(home, uuid, context) for _ in range(3)]
    await tabs[-1].get_by_label("Text").fill("typed")
    began = asyncio.get_running_loop().time()
    await fall_asleep(home, uuid)
    for page in tabs:
        await expect(page.get_by_role("dialog", name=re.compile(r"Asleep since \d"))).to_be_visible(timeout=1000)
    assert asyncio.get_running_loop().time() - began < 1.5
    page = tabs[-1]
    await expect(page.get_by_role("dialog")).to_contain_text("Press any key to wake")
    await picture(page, "companion-asleep")
    await page.evaluate("heard.length = 0")
    # Keys that are the browser's, or do nothing alone, wake nobody; nothing reaches the page.
    for key in ("Shift", "Control", "Alt", "Control+v", "F8"):
        await page.keyboard.press(key)
    await page.mouse.move(300, 300)
    await page.mouse.wheel(0, 100)
    await page.evaluate("document.querySelector('textarea').focus()")
    await page.keyboard.press("Control+a")
    assert await page.evaluate("heard") == []
    assert await page.evaluate("document.activeElement.tagName") != "TEXTAREA", "the page under it is inert"
    assert home.world.cluster.workload(uuid).replicas == 0
    assert await page.get_by_label("Text").input_value() == "typed"


@pytest.mark.parametrize("how", ["key", "click"])
async def test_a_key_or_click_wakes_shows_the_progress_and_loads_every_tab_again(
    home: House, context: BrowserContext, how: str
) -> None:
    home.delay = 1.0
    uuid = await awake(home)
    hidden, page = await open_tab(home, uuid, context), await open_tab(home, uuid, context)
    await page.bring_to_front()
    loads: list[str] = []
    page.on("load", lambda _: loads.append("load"))
    await fall_asleep(home, uuid)
    await expect(page.get_by_role("dialog")).to_be_visible()
    await (page.keyboard.press("a") if how == "key" else page.mouse.click(100, 100))
    await expect(page.get_by_role("dialog")).to_contain_text(re.compile("Waking up|Starting"))
    await picture(page, "companion-waking")
    await expect(page.get_by_role("dialog")).to_be_hidden()
    await until(lambda: bool(loads))
    assert await page.evaluate("heard") == [], "the key that woke it got to the page"
    await hidden.bring_to_front()
    await expect(hidden.get_by_role("dialog")).to_be_hidden()
    await connected(home, uuid, 2)
    await asyncio.sleep(1)
    assert loads == ["load"], "it was loaded again and again"
    assert home.starts == 2


async def test_when_access_ends_every_tab_leads_to_where_its_user_signs_in(
    home: House, context: BrowserContext
) -> None:
    uuid = await awake(home)
    tabs = [await open_tab(home, uuid, context) for _ in range(2)]
    await home.world.revocation.revoke(uuid, by="api")
    for page in tabs:
        await page.bring_to_front()
        await expect(page.get_by_role("heading", name="You are not signed in")).to_be_visible(timeout=3000)


async def test_a_failure_says_what_happened_and_the_next_key_tries_again(home: House, context: BrowserContext) -> None:
    uuid = await awake(home)
    page = await open_tab(home, uuid, context)
    await fall_asleep(home, uuid)
    await expect(page.get_by_role("dialog")).to_be_visible()
    home.fails, home.final = "ErrImageNeverPull: no such image", True
    await page.keyboard.press("a")
    await expect(page.get_by_role("dialog")).to_contain_text("could not be started")
    await expect(page.get_by_role("dialog")).to_contain_text("no such image")
    await expect(page.get_by_role("dialog")).to_contain_text("Press any key to try again")
    await picture(page, "companion-failed")
    home.fails = None
    home.world.queues.drop(uuid)
    home.world.cluster.change(replace(home.world.cluster.workload(uuid), replicas=0, failure=None, final=False))
    await page.keyboard.press("a")
    await expect(page.get_by_role("dialog")).to_be_hidden()
    await expect(page.get_by_role("heading", name="Plain page")).to_be_visible()


async def test_a_removed_workspace_is_named_and_no_key_does_anything(home: House, context: BrowserContext) -> None:
    uuid = await awake(home)
    page = await open_tab(home, uuid, context)
    home.world.cluster.change(
        replace(home.world.cluster.workload(uuid), replicas=0, ready=0, pod=None, release=None, deployed=False)
    )
    await expect(page.get_by_role("dialog", name="This workspace has been removed")).to_be_visible()
    await page.keyboard.press("a")
    await expect(page.get_by_role("dialog", name="This workspace has been removed")).to_be_visible()


async def test_a_pod_that_is_replaced_loads_the_page_again_but_not_over_and_over(
    home: House, context: BrowserContext
) -> None:
    uuid = await awake(home)
    page = await open_tab(home, uuid, context)
    loads: list[str] = []
    page.on("load", lambda _: loads.append("load"))
    for number in range(1, 4):
        await home.start(uuid)
        await until(lambda number=number: len(loads) == number)  # type: ignore[misc]
        await connected(home, uuid)
    await home.start(uuid)
    await expect(page.get_by_role("dialog", name="Your workspace is awake")).to_be_visible()
    await asyncio.sleep(1)
    assert len(loads) == 3
    await page.keyboard.press("a")
    await until(lambda: len(loads) == 4)


async def test_a_page_connects_again_after_the_gateway_restarted_and_tells_what_it_missed(
    home: House, context: BrowserContext, said: list[Message]
) -> None:
    uuid = await awake(home)
    page = await open_tab(home, uuid, context)
    await quiet(said)
    await home.gateway._companions.drain(0)
    await connected(home, uuid, 0)
    home.gateway._companions._sockets._is_closed = False
    await page.keyboard.press("a")
    await connected(home, uuid)
    await until(lambda: bool(said))
    await fall_asleep(home, uuid)
    await expect(page.get_by_role("dialog")).to_be_visible()


async def test_an_input_told_just_before_a_connection_ended_is_told_again_with_its_time(
    home: House, context: BrowserContext, said: list[Message]
) -> None:
    uuid = await awake(home)
    page = await open_tab(home, uuid, context)
    await quiet(said)
    await page.keyboard.press("a")
    await until(lambda: bool(said))
    pressed = time.monotonic()
    said.clear()
    await home.gateway._companions.drain(0)
    await connected(home, uuid, 0)
    home.gateway._companions._sockets._is_closed = False
    await until(lambda: bool(said))
    assert said[0].ago == pytest.approx(time.monotonic() - pressed, abs=0.5)


async def test_a_page_that_comes_back_after_it_slept_and_woke_meanwhile_is_loaded_again(
    home: House, context: BrowserContext
) -> None:
    uuid = await awake(home)
    page = await open_tab(home, uuid, context)
    loads: list[str] = []
    page.on("load", lambda _: loads.append("load"))
    await context.set_offline(True)
    await home.gateway._companions.drain(0)
    await connected(home, uuid, 0)
    await fall_asleep(home, uuid)
    await home.start(uuid)
    home.gateway._companions._sockets._is_closed = False
    await context.set_offline(False)
    await until(lambda: bool(loads), 10)


async def test_a_background_tab_says_nothing_and_counts_when_its_user_returns(
    home: House, context: BrowserContext, said: list[Message]
) -> None:
    uuid = await awake(home)
    page = await open_tab(home, uuid, context)
    session = await context.new_cdp_session(page)
    await session.send("Emulation.setFocusEmulationEnabled", {"enabled": False})
    other = await context.new_page()
    await other.bring_to_front()
    await quiet(said)
    await asyncio.sleep(3)
    assert said == []
    await page.bring_to_front()
    await page.mouse.move(100, 100)
    await page.mouse.move(150, 150)
    await until(lambda: bool(said))


async def test_it_speaks_the_browsers_language(home: House, browser: Browser) -> None:
    context = await browser.new_context(locale="de-DE")
    uuid = await awake(home)
    page = await open_tab(home, uuid, context)
    await sleeps_in(home, uuid, 20)
    await expect(page.get_by_role("button", name="wach bleiben")).to_be_visible()
    await fall_asleep(home, uuid)
    await expect(page.get_by_role("dialog", name=re.compile(r"Im Ruhezustand seit \d\d:\d\d"))).to_be_visible()
    await context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_notice_and_overlay_suit_light_and_dark_are_accessible_and_keep_still_where_that_is_wanted(
    home: House, browser: Browser, scheme: Any
) -> None:
    context = await browser.new_context(color_scheme=scheme, reduced_motion="reduce")
    uuid = await awake(home)
    page = await open_tab(home, uuid, context)
    await sleeps_in(home, uuid, 20)
    notice = page.get_by_role("group", name="Going to sleep soon")
    await expect(notice).to_be_visible()
    assert await _dark(notice) == (scheme == "dark")
    await accessible(page)
    await fall_asleep(home, uuid)
    overlay = page.get_by_role("dialog")
    await expect(overlay).to_be_visible()
    assert await _dark(overlay) == (scheme == "dark")
    await accessible(page)
    assert await overlay.evaluate("(each) => each.getAnimations({subtree: true}).length") == 0
    await picture(page, f"companion-asleep-{scheme}")
    await context.close()


async def _dark(place: Locator) -> bool:
    colour = await place.evaluate("(each) => getComputedStyle(each).backgroundColor")
    return int(re.findall(r"\d+", colour)[0]) < 128
