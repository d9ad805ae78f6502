"""People with recorded patterns, each at a Chromium of their own, as on a computer of their own.

While somebody uses the browser, Playwright drives it. But Playwright keeps every page visible and focused, and such a
page is never frozen. So a person who leaves lets go of it: then the browser itself hides and freezes the page.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from playwright.async_api import Browser, CDPSession, Error, Page, Playwright

from bench.judgement import COOLDOWN, Input

_LONG = COOLDOWN - 1.0
"""Seconds of the longest pause: a workspace must not sleep in it."""
_START = 120.0
"""Seconds that a browser may take."""
_OPTIONS = (
    "--headless",
    "--no-sandbox",  # which Chromium does not have for root; it sees nothing but the benchmark's own pods
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
    "--remote-debugging-port=0",
    "--window-size=960,560",
)
_PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}


def missing() -> list[str]:
    """What this machine lacks for people."""
    return [] if shutil.which("chromium") else ["chromium"]


class Chromium:
    """A process of its own. `address`: where it can be driven from, on loopback."""

    def __init__(self, process: int, address: str) -> None:
        self._process = process
        self.address = address

    def suspend(self) -> None:
        """As a computer does whose lid is closed: nothing runs, and no connection is closed."""
        os.killpg(self._process, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self._process, signal.SIGCONT)

    async def abandon(self, page: str, seconds: float) -> None:
        """Open another tab in front of the page, which is frozen that many seconds later. Nobody may drive it."""
        async with aiohttp.ClientSession(self.address, raise_for_status=True, trust_env=False) as http:
            async with http.put("/json/new?about:blank"):
                pass
            await asyncio.sleep(seconds)
            async with http.ws_connect(f"/devtools/page/{page}") as tab:
                hidden = await _call(tab, "Runtime.evaluate", expression="document.hidden")
                if hidden["result"]["value"] is not True:
                    raise RuntimeError("the page behind another tab is still visible")
                await _call(tab, "Page.setWebLifecycleState", state="frozen")


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Chromium]:
    """Start one. Its processes are ended, and its profile is removed."""
    program = shutil.which("chromium") or "chromium"
    with tempfile.TemporaryDirectory(prefix="person-", ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            program,
            *(*_OPTIONS, f"--user-data-dir={profile}"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield Chromium(process.pid, await _address(Path(profile, "DevToolsActivePort")))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


@dataclass
class Person:
    """`inputs`: what they have done so far."""

    machine: Chromium
    browser: Browser
    page: Page
    devtools: CDPSession
    inputs: list[Input] = field(default_factory=list)

    async def did(self, act: Awaitable[Any]) -> None:
        began = time.monotonic()
        await act
        self.inputs.append(Input(began, time.monotonic()))

    async def key(self, pause: float) -> None:
        await asyncio.sleep(pause)
        await self.did(self.page.keyboard.press("x"))

    async def scroll(self, pause: float) -> None:
        await asyncio.sleep(pause)
        await self.did(self.page.mouse.wheel(0, 120))

    async def point(self, page: Page, pause: float, at: int) -> None:
        await asyncio.sleep(pause)
        await page.bring_to_front()
        await self.did(page.mouse.move(100 + at, 200, steps=3))

    async def touch(self, pause: float) -> None:
        await asyncio.sleep(pause)
        await self.did(self._tap(180, 500))

    async def move_about(self) -> None:
        """Move the pointer now and then, as people do who wait for a slow page, until cancelled."""
        while True:
            for x in (40, 70):
                await asyncio.sleep(3)
                with contextlib.suppress(Error):  # between two pages
                    await self.page.mouse.move(x, 300, steps=3)

    async def hold_a_phone(self) -> None:
        """From now on, the page is on a screen of that size, to be touched."""
        await self.devtools.send("Emulation.setDeviceMetricsOverride", _PHONE)
        await self.devtools.send("Emulation.setTouchEmulationEnabled", {"enabled": True})

    async def leave(self, seconds: float) -> None:
        """Have something else on the screen; the browser freezes the page that many seconds later."""
        page = (await self.devtools.send("Target.getTargetInfo"))["targetInfo"]["targetId"]
        await self.browser.close()  # only lets go of it
        await self.machine.abandon(page, seconds)

    async def _tap(self, x: int, y: int) -> None:
        for kind, points in (("touchStart", [{"x": x, "y": y}]), ("touchEnd", [])):
            await self.devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


@contextlib.asynccontextmanager
async def person(playwright: Playwright) -> AsyncIterator[Person]:
    """Somebody with an empty page before them."""
    async with chromium() as machine:
        browser = await playwright.chromium.connect_over_cdp(machine.address, timeout=_START * 1000)
        window = browser.contexts[0]
        page = window.pages[0] if window.pages else await window.new_page()
        yield Person(machine, browser, page, await window.new_cdp_session(page))


async def typing(who: Person) -> None:
    """Bursts of keys, and pauses to think, one of them almost as long as the cooldown."""
    for pause in (*[0.2] * 15, 3.0, *[0.3] * 10, 8.0, *[0.2] * 10, _LONG, *[0.2] * 5):
        await who.key(pause)


async def reading(who: Person) -> None:
    """A turn of the wheel every now and then."""
    await who.point(who.page, 0.5, 300)
    for pause in (2.0, 4.0, 6.0, 9.0, 3.0, _LONG, 5.0):
        await who.scroll(pause)


async def two_tabs(who: Person) -> None:
    """The same workspace in two tabs, used in turns; the one in use changes, the other stays open."""
    other = await who.page.context.new_page()
    await other.goto(who.page.url, wait_until="commit")
    for at, pause in enumerate((2.0, 6.0, 9.0, 12.0, 6.0, _LONG)):
        await who.point((who.page, other)[at % 2], pause, 40 * at)


async def closed_lid(who: Person) -> None:
    """Some keys, and then the computer is suspended: nothing is sent any more, and no connection is closed."""
    for pause in (*[0.3] * 10, 4.0, 6.0, 0.3, 0.3):
        await who.key(pause)
    await asyncio.sleep(1)
    who.machine.suspend()


async def background_tab(who: Person) -> None:
    """Some keys, and then another site in another tab. The browser freezes the workspace behind it."""
    for pause in (*[0.3] * 10, 4.0):
        await who.key(pause)
    await asyncio.sleep(1)
    await who.leave(5)


async def phone(who: Person) -> None:
    """Touches with pauses, and then the phone goes into the pocket."""
    await who.hold_a_phone()
    for pause in (1.0, 3.0, 5.0, 8.0, _LONG, 4.0):
        await who.touch(pause)
    await asyncio.sleep(1)
    await who.leave(2)


@dataclass(frozen=True)
class Pattern:
    """`act`: what a person does. `returns`: after the sleep, the lid is opened again, and nobody touches anything."""

    act: Callable[[Person], Awaitable[None]]
    returns: bool = False


PATTERNS = {
    "typing": Pattern(typing),
    "reading with scrolling": Pattern(reading),
    "two tabs": Pattern(two_tabs),
    "closed lid": Pattern(closed_lid, returns=True),
    "background tab": Pattern(background_tab),
    "phone": Pattern(phone),
}


async def _address(file: Path) -> str:
    """Chromium writes its port there once it listens."""
    async with asyncio.timeout(_START):
        while not (lines := await asyncio.to_thread(_lines, file)):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
    return f"http://127.0.0.1:{lines[0]}"


def _lines(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []


async def _call(tab: aiohttp.ClientWebSocketResponse, method: str, **parameters: object) -> dict[str, Any]:
    await tab.send_json({"id": 1, "method": method, "params": parameters})
    async with asyncio.timeout(_START):
        while (answer := await tab.receive_json()).get("id") != 1:
            pass
    if "error" in answer:
        raise RuntimeError(f"{method}: {answer['error']}")
    found: dict[str, Any] = answer["result"]
    return found
