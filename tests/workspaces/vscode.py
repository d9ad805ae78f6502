"""What a person does in VS Code, and what its page shows."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Locator, Page, expect

_TERMINAL = ".terminal-wrapper.active .xterm-helper-textarea"


@asynccontextmanager
async def waiting(page: Page) -> AsyncIterator[None]:
    """Be a person who waits and moves the pointer: loading may take longer than an idle editor stays awake."""

    async def move() -> None:
        while True:
            for x in (80, 120):
                await page.mouse.move(x, 450)
                await asyncio.sleep(1)

    moving = asyncio.create_task(move())
    try:
        yield
    finally:
        moving.cancel()
        await asyncio.gather(moving, return_exceptions=True)


async def loaded(page: Page) -> None:
    async with waiting(page):
        await page.wait_for_selector(".monaco-workbench .part.editor", timeout=60_000)


async def opened_terminal(page: Page) -> None:
    """An editor that is still loading does not hear the keys, so they are pressed until there is a terminal."""
    terminal = page.locator(_TERMINAL)
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


async def opened(page: Page, file: str) -> None:
    """Open a file of the explorer, with the cursor at its start."""
    await page.get_by_role("treeitem", name=file).dblclick()
    await expect(page.locator(".tab.active")).to_contain_text(file)
    await page.locator(".monaco-editor .view-lines").last.click()
    await page.keyboard.press("Control+Home")


async def opened_untitled(page: Page) -> None:
    """Open a file that has no name yet."""
    await page.keyboard.press("F1")
    await page.keyboard.type("File: New Untitled Text File", delay=20)
    await page.get_by_role("option", name=re.compile(r"^File: New Untitled Text File(?!s)")).first.click()
    await expect(page.locator(".tab.active")).to_contain_text("Untitled-1")


async def moved_to_a_window(page: Page) -> Page:
    """Move the editor that is shown into a window of its own, which VS Code opens empty and fills; returns it."""
    await page.keyboard.press("F1")
    await page.keyboard.type("View: Move Editor into New Window", delay=20)
    async with page.expect_popup() as opening:
        await page.get_by_role("option", name=re.compile("^View: Move Editor into New Window")).first.click()
    window = await opening.value
    await expect(text(window)).to_be_visible(timeout=30_000)
    return window


async def previewed(page: Page, file: str) -> Locator:
    """Show the preview of a Markdown file, which is a frame in a frame; returns the preview's heading."""
    await opened(page, file)
    await page.keyboard.press("Control+Shift+V")
    inside = page.frame_locator("iframe.webview.ready").frame_locator("#active-frame")
    heading = inside.get_by_role("heading")
    await expect(heading).to_be_visible(timeout=30_000)
    return heading


def text(page: Page) -> Locator:
    """The lines of the editor that is shown."""
    return page.locator(".monaco-editor .view-lines").last


def asleep(page: Page, title: str = "Asleep since") -> Locator:
    return page.get_by_role("dialog", name=re.compile(rf"{title} \d"))


async def woken(page: Page) -> None:
    """Wait until nothing covers the page, and its editor is there."""
    await expect(page.get_by_role("dialog")).to_be_hidden(timeout=60_000)
    await loaded(page)
