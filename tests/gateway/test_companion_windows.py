"""The companion in windows that a program opens, in documents that it rewrites, in old browsers and on phones."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from service.domain.names import SessionId
from service.gateway.companion.messages import Message
from service.gateway.companion.tab import Tab
from tests.domain.conftest import World
from tests.gateway.conftest import House, Workspace
from tests.gateway.test_companion_page import (
    at_home,
    awake,
    connected,
    fall_asleep,
    heard_from_pages,
    link,
    open_tab,
    quiet,
    sleeps_in,
)
from tests.waiting import until

FREE = "<!doctype html><html lang='en'><title>Free</title><body><h1>Free</h1><input aria-label='Text'></body></html>"


async def _free(self: Workspace, _request: web.BaseRequest) -> web.StreamResponse:
    """A page without a policy of its own."""
    return web.Response(text=FREE, content_type="text/html")


@pytest.fixture
async def home(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setattr(Workspace, "_free", _free, raising=False)
    async with at_home(world, monkeypatch) as house:
        yield house


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    return heard_from_pages(monkeypatch)


@pytest.fixture
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    context = await browser.new_context(viewport={"width": 900, "height": 600})
    yield context
    await context.close()


async def told_soon(said: list[Message]) -> None:
    await until(lambda: bool(said))


WRITTEN = {
    "by elements": "opened.document.body.append(opened.document.createElement('input'))",
    "by document.write": "opened.document.open(); opened.document.write('<input>'); opened.document.close()",
    "and never closes it": "opened.document.open(); opened.document.write('<p>More to come<input>')",
    "from a frame": "opened.document.body.append(opened.document.createElement('input'))",
}


@pytest.mark.parametrize("how", WRITTEN)
async def test_input_counts_in_a_window_that_the_page_opens_and_writes(
    home: House, context: BrowserContext, said: list[Message], how: str
) -> None:
    uuid = await awake(home)
    page = await open_tab(home, uuid, context, "/free")
    async with context.expect_page() as opening:
        await page.evaluate(
            """async (frame) => {
                let from = window;
                if (frame) {
                    const inner = document.body.appendChild(document.createElement("iframe"));
                    inner.src = "/frame";
                    await new Promise((done) => { inner.onload = done; });
                    await new Promise((done) => { setTimeout(done, 1500); });
                    from = inner.contentWindow;
                }
                window.opened = from.open("about:blank", "", "width=300,height=200");
            }""",
            how == "from a frame",
        )
    opened = await opening.value
    await page.evaluate(f"() => {{ {WRITTEN[how]}; }}")
    await opened.locator("input").focus()
    await quiet(said)
    await opened.keyboard.press("a")
    await told_soon(said)
    await quiet(said)
    await opened.mouse.move(60, 60)
    await told_soon(said)
    assert await opened.locator("input").input_value() == "a"


async def test_a_window_that_the_page_has_opened_is_covered_at_a_sleep_and_free_after_the_wake(
    home: House, context: BrowserContext
) -> None:
    home.delay = 0.5
    uuid = await awake(home)
    page = await open_tab(home, uuid, context, "/free")
    async with context.expect_page() as opening:
        await page.evaluate("window.opened = window.open('about:blank')")
    opened = await opening.value
    await opened.evaluate("document.body.append(document.createElement('input'))")
    await opened.locator("input").focus()
    await fall_asleep(home, uuid)
    await expect(opened.get_by_role("dialog")).to_contain_text("Press any key to wake")
    async with page.expect_event("load"):
        await opened.keyboard.press("a")
        await page.bring_to_front()
    assert home.starts == 2
    assert await opened.locator("input").input_value() == ""
    await expect(page.get_by_role("dialog")).to_be_hidden()
    await expect(opened.get_by_role("dialog")).to_be_hidden()
    await opened.keyboard.type("kept")
    assert await opened.locator("input").input_value() == "kept", "the window does not go on as it was"


VS_CODE = "opened.document.createElement = () => { throw new Error('Not allowed'); };"
"""What VS Code does in the windows that it opens."""


@pytest.mark.parametrize("program", ["", VS_CODE], ids=["plain", "vs-code"])
async def test_an_opened_window_is_warned_and_counts_and_does_so_without_the_page_that_opened_it(
    home: House, context: BrowserContext, said: list[Message], program: str
) -> None:
    uuid = await awake(home)
    page = await open_tab(home, uuid, context, "/free")
    async with context.expect_page() as opening:
        await page.evaluate(f"() => {{ window.opened = window.open(''); {program} }}")
    opened = await opening.value
    await connected(home, uuid, 2)
    await page.reload()
    await connected(home, uuid, 2)
    await opened.bring_to_front()
    await quiet(said)
    await opened.keyboard.press("a")
    await told_soon(said)
    await quiet(said)
    await sleeps_in(home, uuid, 20)
    await expect(opened.get_by_role("button", name="Stay awake")).to_be_visible()
    await opened.keyboard.press("a")
    await expect(opened.get_by_role("button", name="Stay awake")).to_be_hidden(timeout=3000)


async def test_a_window_of_the_programs_own_making_has_a_companion_too(home: House, context: BrowserContext) -> None:
    uuid = await awake(home)
    page = await open_tab(home, uuid, context, "/free")
    async with context.expect_page() as opening:
        await page.evaluate("window.open(URL.createObjectURL(new Blob(['<input>'], {type: 'text/html'})))")
    await connected(home, uuid, 2)
    assert await (await opening.value).evaluate("!!window.userPods")


async def test_a_window_that_is_opened_empty_and_led_to_a_page_has_one_companion(
    home: House, context: BrowserContext, said: list[Message]
) -> None:
    """As programs do that must open a window during the click, and learn its address later."""
    uuid = await awake(home)
    page = await open_tab(home, uuid, context, "/free")
    async with context.expect_page() as opening:
        await page.evaluate("window.opened = window.open('')")
    opened = await opening.value
    await connected(home, uuid, 2)
    await page.evaluate("opened.location = '/free'")
    await opened.wait_for_url("**/free")
    await opened.locator("input").focus()
    await connected(home, uuid, 2)
    await quiet(said)
    await opened.keyboard.press("a")
    await asyncio.sleep(0.5)
    assert len(said) == 1
    await fall_asleep(home, uuid)
    await expect(opened.get_by_role("dialog")).to_contain_text("Press any key to wake")


async def test_a_window_with_a_page_of_the_workspace_reports_once_and_by_itself(
    home: House, context: BrowserContext, said: list[Message]
) -> None:
    uuid = await awake(home)
    page = await open_tab(home, uuid, context, "/free")
    async with context.expect_page() as opening:
        await page.evaluate("window.opened = window.open('/free')")
    opened = await opening.value
    await connected(home, uuid, 2)
    await opened.mouse.move(10, 10)
    await quiet(said)
    await opened.keyboard.press("a")
    await asyncio.sleep(0.5)
    assert len(said) == 1


async def test_what_opens_windows_looks_and_works_as_the_browsers_own(home: House, context: BrowserContext) -> None:
    uuid = await awake(home)
    page = await open_tab(home, uuid, context, "/free")
    shown = await page.evaluate(
        """() => [window.open.name, window.open.length, String(window.open).includes("[native code]"),
                  window.open("", "", "noopener"), window.open("", "_self") === window]"""
    )
    assert shown == ["open", 0, True, None, True]


REWRITTEN = {
    "written": "document.open(); document.write('<!doctype html><p>New<input>')",
    "replaced": "document.replaceChild(document.createElement('html'), document.documentElement)",
}


@pytest.mark.parametrize("how", REWRITTEN)
async def test_it_outlives_a_document_that_is_written_anew(
    home: House, context: BrowserContext, said: list[Message], how: str
) -> None:
    uuid = await awake(home)
    page = await open_tab(home, uuid, context, "/free")
    await page.evaluate(f"() => {{ {REWRITTEN[how]}; }}")
    await quiet(said)
    await page.keyboard.press("a")
    await told_soon(said)
    await fall_asleep(home, uuid)
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.evaluate("() => { document.open(); document.write('<!doctype html><p>Once more<input>'); }")
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.locator("input").focus()
    await page.keyboard.press("Shift")
    await page.keyboard.press("Control+a")
    async with page.expect_event("load"):
        await page.keyboard.press("b")
    assert home.starts == 2


async def test_keys_and_clicks_in_a_frame_of_another_origin_count_and_its_mere_focus_does_not(
    home: House, context: BrowserContext, said: list[Message]
) -> None:
    uuid = await awake(home)
    page = await open_tab(home, uuid, context, "/free")
    await page.evaluate(
        """() => {
            const frame = document.createElement("iframe");
            frame.src = "data:text/html,<input autofocus>";
            document.body.append(frame);
        }"""
    )
    await page.mouse.move(10, 10)
    inner = page.frames[-1].locator("input")
    await inner.click()
    await asyncio.sleep(7)  # until the click is over
    said.clear()
    began = datetime.now(UTC)
    await page.keyboard.press("a")
    await asyncio.sleep(1)
    await page.keyboard.press("b")
    last = datetime.now(UTC)
    async with asyncio.timeout(1.5):
        await until(lambda: bool(said))
    await asyncio.sleep(8)
    assert await inner.input_value() == "ab"
    noted = home.world.store.sessions[uuid].last_activity
    assert noted is not None
    assert began <= noted <= last + timedelta(seconds=1.5), "not for longer than it is true"
    assert len(said) <= 3


PADS = """
window.values = [0, 0.1, -1];
navigator.getGamepads = () => [null, {axes: values.slice(1), buttons: [{value: values[0], pressed: values[0] > 0}]}];
"""


async def test_a_gamepad_that_is_used_counts_and_one_that_trembles_does_not(
    home: House, context: BrowserContext, said: list[Message]
) -> None:
    await context.add_init_script(PADS)
    uuid = await awake(home)
    page = await open_tab(home, uuid, context, "/free")
    await page.evaluate("dispatchEvent(new Event('gamepadconnected'))")
    await quiet(said)
    await page.evaluate("window.trembling = setInterval(() => { values[1] = 0.1 + Math.random() * 0.1; }, 20)")
    await asyncio.sleep(1)
    assert said == []
    for change in ("values[0] = 1", "values[0] = 0", "clearInterval(trembling); values[1] = 0.9", "values[2] = 0"):
        await page.evaluate(change)
        await told_soon(said)
        await quiet(said)


OLD_BROWSER = """
delete HTMLElement.prototype.showPopover;
delete HTMLElement.prototype.hidePopover;
delete HTMLElement.prototype.popover;
delete window.CSSStyleSheet;
const matches = Element.prototype.matches;
Element.prototype.matches = function (selector) {
    if (selector.includes("popover")) throw new SyntaxError(selector);
    return matches.call(this, selector);
};
"""


async def test_notice_and_overlay_are_there_in_a_browser_without_popovers_and_style_sheets(
    home: House, context: BrowserContext
) -> None:
    await context.add_init_script(OLD_BROWSER)
    uuid = await awake(home)
    page = await open_tab(home, uuid, context)
    await sleeps_in(home, uuid, 20)
    await expect(page.get_by_role("button", name="Stay awake")).to_be_visible()
    await page.keyboard.press("a")
    await expect(page.get_by_role("button", name="Stay awake")).to_be_hidden(timeout=3000)
    await fall_asleep(home, uuid)
    await expect(page.get_by_role("dialog")).to_contain_text("Press any key to wake")
    async with page.expect_event("load"):
        await page.keyboard.press("a")
    assert home.starts == 2


@pytest.mark.parametrize("how", ["Enter", "voice"])
async def test_the_overlay_has_a_focused_button_that_voice_and_switch_control_can_press(
    home: House, context: BrowserContext, how: str
) -> None:
    uuid = await awake(home)
    page = await open_tab(home, uuid, context)
    await fall_asleep(home, uuid)
    button = page.get_by_role("button", name="Wake", exact=True)
    await expect(button).to_be_focused()
    async with page.expect_event("load"):
        if how == "voice":  # an assistive program presses it without a key or a pointer
            await button.evaluate("(button) => button.click()")
        else:
            await page.keyboard.press("Enter")
    assert home.starts == 2


@asynccontextmanager
async def with_cached_pages(home: House, path: str) -> AsyncIterator[tuple[Page, SessionId]]:
    """A page in a browser that keeps pages for its back button, as people's browsers do."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox"],
            ignore_default_args=["--disable-back-forward-cache"],
        )
        uuid = await awake(home)
        page = await browser.new_page()
        await page.goto(await link(home, uuid, path))
        await connected(home, uuid)
        yield page, uuid
        await browser.close()


@pytest.mark.parametrize("meanwhile", ["nothing", "slept"])
async def test_a_page_that_the_back_button_brings_back_connects_again(
    home: House, said: list[Message], meanwhile: str
) -> None:
    async with with_cached_pages(home, "/free") as (page, uuid):
        await page.evaluate("addEventListener('pageshow', (event) => { window.kept = event.persisted; })")
        await page.goto("about:blank")
        await connected(home, uuid, 0)
        if meanwhile == "slept":
            await fall_asleep(home, uuid)
        await page.go_back(wait_until="commit")
        assert await page.evaluate("window.kept") is True, "the browser has not kept the page"
        await connected(home, uuid)
        if meanwhile == "slept":
            await expect(page.get_by_role("dialog")).to_be_visible()
        else:
            await page.mouse.move(10, 10)
            await quiet(said)
            await page.keyboard.press("a")
            await told_soon(said)


@pytest.mark.parametrize("meanwhile", ["nothing", "slept"])
async def test_a_page_under_a_closed_lid_says_nothing_and_its_user_counts_again_afterwards(
    home: House, context: BrowserContext, said: list[Message], meanwhile: str
) -> None:
    uuid = await awake(home)
    page = await open_tab(home, uuid, context, "/free")
    await page.keyboard.press("a")
    await quiet(said)
    before = home.world.store.sessions[uuid].last_activity
    await page.evaluate("document.dispatchEvent(new Event('freeze'))")  # as a browser does before it stops a page
    await context.set_offline(True)
    await connected(home, uuid, 0)
    await asyncio.sleep(3)
    assert said == []
    assert home.world.store.sessions[uuid].last_activity == before
    if meanwhile == "slept":
        await fall_asleep(home, uuid)
    await context.set_offline(False)
    await page.evaluate("document.dispatchEvent(new Event('resume'))")
    if meanwhile == "slept":
        await expect(page.get_by_role("dialog")).to_be_visible(timeout=15_000)
        return
    await page.keyboard.press("b")
    await until(lambda: bool(said), 15)


async def test_a_page_replaces_a_connection_that_a_sleeping_computer_may_have_lost(
    home: House, context: BrowserContext, said: list[Message]
) -> None:
    await context.add_init_script(
        "const real = Date.now; window.ahead = 0; Date.now = () => real() + ahead;"  # as after two minutes of sleep
    )
    uuid = await awake(home)
    page = await open_tab(home, uuid, context, "/free")
    await quiet(said)

    def tabs() -> set[Tab]:
        return {each for session in home.gateway._companions._sessions.values() for each in session._tabs}

    before = tabs()
    await page.keyboard.press("a")
    await told_soon(said)
    said.clear()
    await page.evaluate("window.origin = 'of the game'; ahead = 120_000")
    await until(lambda: bool(tabs()) and not tabs() & before)
    await until(lambda: bool(said))  # what was sent before may have got nowhere


async def test_touching_a_phone_counts_and_a_phone_that_lies_still_does_not(
    home: House, browser: Browser, said: list[Message]
) -> None:
    async with async_playwright() as playwright:
        phone = await browser.new_context(**playwright.devices["Pixel 7"])
    uuid = await awake(home)
    page = await open_tab(home, uuid, phone)
    await quiet(said)
    await asyncio.sleep(1)
    assert said == []
    devtools = await phone.new_cdp_session(page)
    for name, at in (("touchStart", 400), ("touchMove", 300), ("touchMove", 200), ("touchEnd", None)):
        points = [{"x": 100, "y": at}] if at is not None else []
        await devtools.send("Input.dispatchTouchEvent", {"type": name, "touchPoints": points})
    await told_soon(said)
    await quiet(said)
    await sleeps_in(home, uuid, 20)
    await expect(page.get_by_role("group", name="Going to sleep soon")).to_be_visible()
    await page.touchscreen.tap(50, 200)
    await expect(page.get_by_role("group", name="Going to sleep soon")).to_be_hidden(timeout=3000)
    await fall_asleep(home, uuid)
    async with page.expect_event("load"):
        await page.get_by_role("button", name="Wake", exact=True).tap()
    assert home.starts == 2
    await phone.close()


async def test_what_a_page_sends_counts_where_something_blocks_its_companion(
    home: House, context: BrowserContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.gateway.activity.presence.CHECK", 0.5)
    uuid = await awake(home)
    await context.route_web_socket("**/.user-pods/companion", lambda socket: socket.close())
    page = await context.new_page()
    await page.goto(await link(home, uuid, "/free"))
    await until(lambda: not home.gateway._activity._timers)
    before = home.world.store.sessions[uuid].last_activity
    await page.evaluate(
        """async () => {
            const socket = new WebSocket("ws://" + location.host + "/ws");
            await new Promise((done) => { socket.onopen = done; });
            socket.send("typed");
        }"""
    )
    await until(lambda: home.world.store.sessions[uuid].last_activity != before)
    assert home.world.store.sessions[uuid].activity_source == "input"


async def test_pages_hear_of_a_sleep_that_somebody_asked_for_when_it_has_come(
    home: House, context: BrowserContext
) -> None:
    uuid = await awake(home)
    page = await open_tab(home, uuid, context, "/free")
    await page.evaluate(
        "window.saved = []; addEventListener('user-pods:sleep', (event) => saved.push(event.detail.seconds))"
    )
    await home.world.activity.sleep(uuid, now=True)
    await fall_asleep(home, uuid)
    await expect(page.get_by_role("dialog")).to_be_visible()
    assert await page.evaluate("window.saved") == [0]


async def test_pages_hear_of_a_sleep_that_somebody_asks_for_before_it_comes(
    home: House, context: BrowserContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.domain.activity.SAVE_TIME", timedelta(seconds=1))
    uuid = await awake(home)
    page = await open_tab(home, uuid, context, "/free")
    await page.evaluate(
        "window.saved = []; addEventListener('user-pods:sleep', (event) => saved.push(event.detail.seconds))"
    )
    sleeping = asyncio.create_task(home.world.activity.sleep(uuid))
    await page.wait_for_function("window.saved.length")
    (seconds,) = await page.evaluate("window.saved")
    assert 0 < seconds <= 1
    await expect(page.get_by_role("dialog")).to_be_hidden()
    await sleeping
