"""A real VS Code in a real browser: it wakes on a visit, sleeps when its user is gone, and is as it was on the next."""

import asyncio
import re
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
from playwright.async_api import Page, expect

from stack.stack import Stack
from tests.conftest import SHORT
from tests.pages import picture
from tests.waiting import until
from tests.workspaces.conftest import EDITOR_COOLDOWN as COOLDOWN
from tests.workspaces.conftest import Visitor, Visitors

LEASE, POLL = int(SHORT["LEASE"]), int(SHORT["POLLING_INTERVAL"])
REPORTED_WITHIN = 7
"""Seconds by which page and gateway may report a key late, which outlasts a lease as short as this one."""
TYPED = "typed-before-the-sleep"
TERMINAL = ".terminal-wrapper.active .xterm-helper-textarea"


@pytest.fixture
async def visitor(editors: Stack) -> AsyncIterator[Visitor]:
    timeout, connector = aiohttp.ClientTimeout(total=90), aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector, trust_env=False) as http:
        yield await Visitors(editors, http).new()
    await asyncio.sleep(0)


async def loaded(page: Page) -> None:
    await page.wait_for_selector(".monaco-workbench .part.editor", timeout=60_000)


async def opened_terminal(page: Page) -> None:
    """An editor that is still loading does not hear the keys, so they are pressed until there is a terminal."""
    terminal = page.locator(TERMINAL)
    async with asyncio.timeout(60):
        while await terminal.count() == 0:
            await page.keyboard.press("Control+Shift+Backquote")
            await asyncio.sleep(2)


async def ran(page: Page, command: str, file: str) -> None:
    """Type a command until it has made its file: a shell that has just started swallows what is typed meanwhile."""
    made = page.get_by_role("treeitem", name=file)
    async with asyncio.timeout(60):
        while await made.count() == 0:
            await page.keyboard.type(f"{command}\n", delay=20)
            await asyncio.sleep(3)


@pytest.mark.timeout(400)
async def test_an_editor_sleeps_when_its_user_leaves_and_resumes_as_it_was(
    editors: Stack, visitor: Visitor, page: Page
) -> None:
    await page.goto(await visitor.link("/?folder=/home/coder"))
    await expect(page.get_by_role("heading", name="Your workspace is waking up")).to_be_visible()
    await picture(page, "1-waking")
    await loaded(page)
    assert "folder=/home/coder" in page.url
    await opened_terminal(page)
    await ran(page, "echo kept > kept.txt", "kept.txt")
    await picture(page, "2-editor")
    (file,) = editors.cluster.state.glob("volumes/*/kept.txt")
    await until(lambda: file.read_text() == "kept\n")

    # Its user types for longer than a pod stays awake by itself, and it does not fall asleep.
    for _ in range(2 * COOLDOWN):
        await page.keyboard.type("true\n")
        await asyncio.sleep(1)
        assert (await visitor.status())["phase"] == "ready"
    assert (await visitor.status())["activity_source"] == "input"

    # Nobody touches the tab; something prints and writes meanwhile. The last key was in a file.
    await page.keyboard.type("while date > now.txt; do date; sleep 1; done\n")
    await page.get_by_role("treeitem", name="kept.txt").dblclick()
    await expect(page.locator(".tab.active")).to_contain_text("kept.txt")
    await page.locator(".monaco-editor .view-lines").last.click()
    await page.keyboard.press("Control+Home")
    await page.keyboard.type(TYPED)
    last = time.monotonic()
    await expect(page.get_by_role("button", name="Stay awake")).to_be_visible(timeout=15_000)
    await picture(page, "3-notice")
    overlay = page.get_by_role("dialog", name=re.compile(r"Asleep since \d"))
    await expect(overlay).to_be_visible(timeout=30_000)
    idle = time.monotonic() - last
    latest = max(LEASE, REPORTED_WITHIN) + COOLDOWN + POLL + 2 + 2
    assert LEASE + COOLDOWN - POLL - 1 < idle < latest, "the last key decides, to the second"
    await picture(page, "4-asleep")
    await page.keyboard.press("Shift")
    await visitor.stays_asleep(5)

    await page.keyboard.press("a")
    await expect(page.get_by_role("dialog", name=re.compile("Waking|Starting|Loading|Opening"))).to_be_visible()
    await picture(page, "5-waking")
    await expect(overlay).to_be_hidden(timeout=60_000)
    await loaded(page)
    await expect(page.locator(".monaco-editor .view-lines").last).to_contain_text(TYPED, timeout=60_000)
    await picture(page, "6-back")
    assert file.read_text() == f"{TYPED}kept\n"
    await visitor.caller.until(visitor.uuid, "ready", 20)
