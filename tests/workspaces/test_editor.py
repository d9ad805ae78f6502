"""A real VS Code in a real browser: what keeps it awake, and what its tabs and the page about it show."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
from playwright.async_api import Browser, expect

from devcluster import network
from service.gateway.sign_in.failures import SIGN_IN
from stack.stack import USERS, Stack
from tests.conftest import free_port
from tests.pages import picture
from tests.stack.client import until
from tests.workspaces.conftest import EDITOR_SLEEPS_AFTER, POLL, Visitor, Visitors
from tests.workspaces.vscode import asleep, loaded, opened_terminal, ran, waiting, woken

LIMIT = EDITOR_SLEEPS_AFTER[1] + 6
"""Seconds that a program may keep its pod awake, longer than the pod stays awake without one."""


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


@pytest.mark.timeout(300)
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

    await page.keyboard.type("user-pods-keep-awake off; while date; do sleep 1; done\n")
    last = time.monotonic()

    async def by_program() -> bool:
        return bool((await visitor.status())["kept_awake_by"] == "background")

    await until(by_program, EDITOR_SLEEPS_AFTER[1], lambda: "the program does not count")
    await expect(page.get_by_role("group", name="Bald im Ruhezustand")).to_be_visible(timeout=60_000)
    await picture(page, "german-4-notice")
    await expect(asleep(page, "Im Ruhezustand seit")).to_be_visible(timeout=60_000)
    assert EDITOR_SLEEPS_AFTER[1] + 2 < time.monotonic() - last < LIMIT + POLL + 2 + 2
    await expect(page.get_by_role("dialog")).to_contain_text("Ein Programm lief noch und wurde beendet")
    await picture(page, "german-5-asleep")


@pytest.mark.timeout(300)
async def test_two_tabs_and_the_page_about_the_workspace_show_the_same_and_a_revocation_ends_all(
    visitors: Visitors, browser: Browser
) -> None:
    visitor, window = await visitors.new(), await browser.new_context()
    one, other, about = [await window.new_page() for _ in range(3)]
    await one.goto(await visitor.link("/?folder=/home/coder"))
    await loaded(one)
    async with waiting(one):
        await other.goto(f"http://{visitor.host}/?folder=/home/coder")
        await loaded(other)
    for page in (one, other):
        await expect(page.get_by_role("button", name="Stay awake")).to_be_visible(timeout=20_000)
    await other.keyboard.press("ArrowDown")
    await expect(one.get_by_role("button", name="Stay awake")).to_be_hidden()

    state = about.locator(".state")
    await about.goto(f"http://{visitor.host}/.user-pods/")
    await expect(state).to_have_text("Awake")
    await picture(about, "tabs-1-about")
    await about.get_by_role("button", name="Sleep now").click()
    await expect(state).to_have_text("Asleep", timeout=20_000)
    for page in (one, other):
        await expect(asleep(page)).to_be_visible(timeout=1000)
    await other.mouse.click(100, 100)
    for page in (one, other):
        await page.bring_to_front()
        await woken(page)

    before = pods(visitor)
    await about.goto(f"http://{visitor.host}/.user-pods/")
    async with one.expect_event("load", timeout=60_000):
        await about.get_by_role("button", name="Restart").click()
        await loaded(about)
        await one.bring_to_front()
    assert len(pods(visitor) - before) == 1, "it was not restarted"
    await about.goto(f"http://{visitor.host}/.user-pods/")
    lines = await about.locator(".history li").all_inner_texts()
    await picture(about, "tabs-2-history")
    assert [line.split("\n")[1] for line in lines] == [
        "Woke up: somebody opened it",
        "Went to sleep: somebody asked for it",
    ] * 2 + ["Woke up: somebody opened it"]

    async with one.expect_request(f"**{SIGN_IN}*"), other.expect_request(f"**{SIGN_IN}*"):
        assert (await visitor.caller.call("POST", f"/session/{visitor.uuid}/revoke"))[0] == 202
        await one.bring_to_front()
        await other.bring_to_front()
    await picture(other, "tabs-3-revoked")


def pods(visitor: Visitor) -> set[str]:
    """The session's pods, those that end included."""
    names = visitor.stack.cluster.kubectl("-n", USERS, "get", "pods", "-l", f"uuid={visitor.uuid}", "-o", "name")
    return set(names.split())
