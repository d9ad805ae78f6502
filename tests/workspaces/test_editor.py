"""A real VS Code in a real browser: what keeps it awake, and what its tabs and the page about it show."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, BrowserContext, Frame, expect

from devcluster import network
from examples import frontend
from service.gateway.sign_in.failures import SIGN_IN
from stack.stack import GATEWAY_DOMAIN, Stack
from tests.conftest import free_port
from tests.pages import picture
from tests.stack.client import until
from tests.workspaces.conftest import EDITOR_SLEEPS_AFTER, POLL, Visitor, Visitors
from tests.workspaces.vscode import (
    asleep,
    loaded,
    moved_to_a_window,
    opened,
    opened_terminal,
    opened_untitled,
    previewed,
    ran,
    text,
    waiting,
    woken,
)

FOLDER = "/?folder=/home/coder"
TYPED, DRAFT = "typed-just-before", "a-draft-just-before"
LIMIT = EDITOR_SLEEPS_AFTER[1] + 6
"""Seconds that a program may keep its pod awake, longer than the pod stays awake without one."""
SLOW_SERVER = """
import http.server, time
class Slow(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(bytes(1000))
            time.sleep(0.2)
http.server.HTTPServer(("127.0.0.1", 9000), Slow).serve_forever()
"""
"""What a user's program serves: a download that does not end."""


@pytest.fixture
async def visitors(editors: Stack) -> AsyncIterator[Visitors]:
    timeout, connector = aiohttp.ClientTimeout(total=90), aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector, trust_env=False) as http:
        yield Visitors(editors, http)
    await asyncio.sleep(0)


@pytest.fixture
def gateway_of_pods(editors: Stack) -> Iterator[None]:
    """A replica of the gateway where pods reach it: the other one listens only for browsers of this machine."""
    settings = {**editors.settings, "HOST": network.HOST, "ROLE": "gateway"}
    replica = Stack(editors.cluster, port=free_port(), settings=settings, image=editors.image, name="gateway-of-pods")
    replica.start()
    yield
    editors.cluster.stop(replica.name)


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("gateway_of_pods")
async def test_a_command_and_a_program_keep_the_workspace_awake_up_to_a_limit_in_german_and_dark(
    visitors: Visitors, browser: Browser
) -> None:
    visitor = await visitors.new(background=LIMIT)
    window = await browser.new_context(locale="de-DE", color_scheme="dark")
    page = await window.new_page()
    await page.goto(await visitor.link("/?folder=/home/coder"))
    await expect(page.get_by_role("heading", name="Ihr Arbeitsplatz wird geweckt")).to_be_visible()
    await picture(page, "german-1-waking")
    await loaded(page)
    async with waiting(page):  # nobody has a file yet
        await expect(page.get_by_role("tree", name="Files Explorer")).to_be_focused(timeout=30_000)
    await opened_terminal(page)
    await ran(page, "user-pods-keep-awake 2h | tee told.txt", "told.txt")
    (told,) = visitor.stack.cluster.state.glob("volumes/*/told.txt")
    assert told.read_text().startswith("Awake until ")
    assert (await visitor.status())["kept_awake_by"] == "extension"
    await picture(page, "german-2-command")
    about = await window.new_page()
    await about.goto(f"http://{visitor.host}/.user-pods/")
    await expect(about.get_by_text("Er ist wach, weil jemand ihn bis")).to_be_visible()
    await picture(about, "german-3-about")
    await about.close()

    async def by_program() -> bool:
        return bool((await visitor.status())["kept_awake_by"] == "background")

    await page.keyboard.type("user-pods-keep-awake off\n")
    visitor.kubectl(
        "exec", visitor.deployment, "--", "sh", "-c", 'nohup python3 -c "$0" > /dev/null 2>&1 &', SLOW_SERVER
    )
    async with page.expect_download() as downloading:
        await page.evaluate("Object.assign(document.createElement('a'), {href: '/proxy/9000/', download: ''}).click()")
    await until(by_program, EDITOR_SLEEPS_AFTER[1], lambda: "the download does not count")
    await (await downloading.value).cancel()

    await page.keyboard.type("while date; do sleep 1; done\n")
    last = time.monotonic()
    await until(by_program, EDITOR_SLEEPS_AFTER[1], lambda: "the program does not count")
    await expect(page.get_by_role("group", name="Bald im Ruhezustand")).to_be_visible(timeout=60_000)
    await picture(page, "german-4-notice")
    await expect(asleep(page, "Im Ruhezustand seit")).to_be_visible(timeout=60_000)
    assert EDITOR_SLEEPS_AFTER[1] + 2 < time.monotonic() - last < LIMIT + POLL + 2 + 2
    await expect(page.get_by_role("dialog")).to_contain_text("Ein Programm lief noch und wurde beendet")
    await picture(page, "german-5-asleep")


@pytest.fixture
async def second(editors: Stack) -> AsyncIterator[Stack]:
    """A second replica, whose users sign in at the frontend of the examples."""
    home, gateway = free_port(), free_port()
    settings = {name: value for name, value in editors.settings.items() if not name.startswith("OIDC")}
    settings |= {"GATEWAY_PORT": str(gateway), "GATEWAY_HOME_URL": f"http://{GATEWAY_DOMAIN}:{home}/workspace"}
    replica = Stack(editors.cluster, port=free_port(), settings=settings, image=editors.image, name="second-replica")
    async with TestServer(frontend.make_app(replica.url), port=home):
        replica.start()
        yield replica
        editors.cluster.stop(replica.name)


@pytest.mark.timeout(900)
async def test_two_browsers_at_two_replicas_show_the_same_save_before_a_sleep_and_end_with_a_revocation(
    visitors: Visitors, second: Stack, browser: Browser
) -> None:
    visitor = await visitors.new()
    zone = afternoon()
    one, other = [await (await browser.new_context(timezone_id=zone)).new_page() for _ in range(2)]
    about = await other.context.new_page()
    there = f"http://{visitor.host.rpartition(':')[0]}:{second.settings['GATEWAY_PORT']}"
    await other.goto(f"{there}{FOLDER}")
    await other.get_by_label("E-mail").fill(visitor.user)
    await picture(other, "two-1-frontend")
    await other.get_by_role("button", name="Sign in").click()
    await visitor.caller.until(visitor.uuid, "ready", 60)
    made = "echo '# Read me' > /home/coder/read.md; touch /home/coder/notes.txt"
    visitor.kubectl("exec", visitor.deployment, "--", "sh", "-c", made)
    await loaded(other)
    async with waiting(other):
        await one.goto(await visitor.link(FOLDER))
        await loaded(one)
    await opened_untitled(one)
    async with waiting(other):
        own = await moved_to_a_window(one)
        read = await previewed(other, "read.md")
    await about.goto(f"{there}/.user-pods/")

    windows = (one, own, other)
    notices = [page.get_by_role("button", name="Stay awake") for page in windows]
    for notice in notices:
        await expect(notice).to_be_visible(timeout=20_000)
    # Frames have no companion of their own. What somebody does in one counts all the same.
    assert [await has_companion(frame) for frame in other.frames] == [True] + [False] * (len(other.frames) - 1)
    await read.click()
    for notice in notices:
        await expect(notice).to_be_hidden()
    await picture(other, "two-2-frame")
    await opened(other, "notes.txt")
    for notice in notices:
        await expect(notice).to_be_visible(timeout=20_000)
    await picture(own, "two-3-own-window")
    await notices[0].click()
    await expect(one.get_by_role("group", name="Going to sleep soon")).to_contain_text("Awake until")
    await picture(one, "two-3-stays-awake")
    for notice in notices:
        await expect(notice).to_be_hidden(timeout=10_000)
    assert (await visitor.status())["kept_awake_by"] == "extension"

    # Just before the sleep, they type into a file, and into one without a name.
    state = about.locator(".state")
    await expect(state).to_have_text("Awake")
    await text(own).click()
    await own.keyboard.type(DRAFT)
    await other.keyboard.type(TYPED)
    await about.get_by_role("button", name="Sleep now").click()
    for page in windows:
        await expect(asleep(page)).to_be_visible(timeout=10_000)
    await expect(state).to_have_text("Asleep", timeout=20_000)
    await picture(about, "two-4-about")
    await other.mouse.click(100, 100)
    for page in (one, other):
        await page.bring_to_front()
        await woken(page)
    await expect(text(other)).to_contain_text(TYPED, timeout=30_000)
    # VS Code opens its window anew.
    await until(partial(has_window_with, one.context, DRAFT), 30, lambda: "the draft is lost")
    await picture(one, "two-5-back")

    before = pods(visitor)
    await about.goto(f"{there}/.user-pods/")
    async with one.expect_event("load", timeout=60_000):
        await about.get_by_role("button", name="Restart").click()
        await loaded(about)
        await one.bring_to_front()
    assert len(pods(visitor) - before) == 1, "it was not restarted"
    await about.goto(f"{there}/.user-pods/")
    lines = await about.locator(".history li").all_inner_texts()
    await picture(about, "two-6-history")
    assert [line.split("\n")[1] for line in lines] == [
        "Woke up: somebody opened it",
        "Went to sleep: somebody asked for it on this workspace's page",
    ] * 2 + ["Woke up: somebody opened it"]
    await expect(about.get_by_role("timer")).to_contain_text(re.compile(r"\d\d:\d\d"))
    for button, hours in (("For 1 hour", 1.0), ("For 4 hours", 4.0), ("Until tonight, 10:00 PM", hours_until_ten())):
        await about.get_by_role("button", name=button).click()
        await until(partial(kept_for, visitor, hours), 10, partial("not awake {}".format, button.lower()))
    await expect(about.get_by_text("Done: it stays awake.")).to_be_visible()
    await about.close()

    # Each replica ends what it has let in. One frontend still knows its user, the other asks who they are.
    await other.bring_to_front()
    async with one.expect_request(f"**{SIGN_IN}*"), other.expect_request(f"**{second.settings['GATEWAY_HOME_URL']}*"):
        assert (await visitor.caller.call("POST", f"/session/{visitor.uuid}/revoke"))[0] == 202
        await one.bring_to_front()
    await picture(one, "two-7-revoked")
    await other.wait_for_url(f"{there}{FOLDER}")
    await loaded(other)

    # A setting turns the companion off.
    visitor.stack.cluster.stop(second.name)
    second.settings["GATEWAY_COMPANION"] = "false"
    second.start()
    await other.reload()
    await loaded(other)
    assert not await has_companion(other.main_frame)
    await picture(other, "two-8-without-companion")


def afternoon() -> str:
    """A time zone where it is between four and five now."""
    ahead = (16 - datetime.now(UTC).hour + 11) % 24 - 11
    return f"Etc/GMT{-ahead:+d}"


def hours_until_ten() -> float:
    """From that afternoon until 22:00."""
    now = datetime.now(UTC)
    return 6 - now.minute / 60 - now.second / 3600


async def kept_for(visitor: Visitor, hours: float) -> bool:
    kept = datetime.fromisoformat((await visitor.status())["kept_until"]) - datetime.now(UTC)
    return abs(kept - timedelta(hours=hours)) < timedelta(minutes=2)


async def has_window_with(context: BrowserContext, words: str) -> bool:
    return any([words in "".join(await text(page).all_inner_texts()) for page in context.pages])


async def has_companion(frame: Frame) -> bool:
    return bool(await frame.evaluate("window.userPods"))


def pods(visitor: Visitor) -> set[str]:
    """The session's pods, those that end included."""
    names = visitor.kubectl("get", "pods", "-l", f"uuid={visitor.uuid}", "-o", "name")
    return set(names.split())
