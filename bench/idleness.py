"""People with recorded patterns in a real browser: does the workspace stay awake while they work, and sleep in time?

Each pattern is what one person does in Chromium, with the pauses in between, on a VS Code and on a plain page. Every
key, turn of the wheel and touch is noted as it is sent. A sleep earlier than the last input + cooldown is *false*; one
later than the last input + lease + cooldown + poll + 2 s is *missed*. Pods, KEDA and browser are real; only the idle
times are short.
"""

import asyncio
import contextlib
import json
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import typer
from playwright.async_api import Browser, BrowserContext, Page, async_playwright
from rich.console import Console
from rich.table import Table

from bench.ground import lacks_for_real_pods
from devcluster.cluster import Cluster
from images import recipes
from images.recipes import Name
from stack.demo import free_port
from stack.stack import USERS, Stack

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
LEASE, COOLDOWN, POLL = 10, 15, 1
"""Short, for the run to take minutes. A shorter lease could end before the gateway has reported the last input."""
_MARGIN = 2.0
"""Seconds that KEDA may take to reconcile."""
_SAMPLING = 0.5
"""Seconds by which a sleep is seen late: status is read five times a second."""
_SECONDS = 120
"""Seconds that a page may take to load."""
_PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
_DESK = {"viewport": {"width": 960, "height": 560}}


@dataclass(frozen=True)
class Program:
    """`shown`: what is there once its page can be used."""

    name: str
    image: Name
    path: str
    shown: str


PROGRAMS = (
    Program("VS Code", Name.WORKSPACE, "/?folder=/home/coder", ".monaco-workbench .part.editor"),
    Program("plain page", Name.TINY, "/", "body"),
)


@dataclass
class Visitor:
    """One person in one window. `inputs`: when they did something (time.monotonic)."""

    window: BrowserContext
    page: Page
    link: str
    inputs: list[float] = field(default_factory=list)

    async def key(self, pause: float) -> None:
        await asyncio.sleep(pause)
        await self._did(self.page.keyboard.press("ArrowDown"))

    async def scroll(self, pause: float) -> None:
        await asyncio.sleep(pause)
        await self._did(self.page.mouse.wheel(0, 120))

    async def point(self, page: Page, pause: float, at: int) -> None:
        await asyncio.sleep(pause)
        await page.bring_to_front()
        await self._did(page.mouse.move(100 + at, 200, steps=3))

    async def touch(self, pause: float) -> None:
        await asyncio.sleep(pause)
        await self._did(self.page.touchscreen.tap(180, 500))

    async def freeze(self) -> None:
        """What a browser does to a page when the lid closes, or some time after its tab went to the background."""
        session = await self.window.new_cdp_session(self.page)
        await session.send("Page.setWebLifecycleState", {"state": "frozen"})

    async def _did(self, act: Awaitable[None]) -> None:
        await act
        self.inputs.append(time.monotonic())


async def typing(person: Visitor) -> None:
    """Bursts of keys, and pauses to think, one of them almost as long as the cooldown."""
    for pause in (*[0.2] * 15, 3.0, *[0.3] * 10, 8.0, *[0.2] * 10, COOLDOWN - 1, *[0.2] * 5):
        await person.key(pause)


async def reading(person: Visitor) -> None:
    """A turn of the wheel every now and then."""
    await person.point(person.page, 0.5, 0)
    for pause in (2.0, 4.0, 6.0, 9.0, 3.0, COOLDOWN - 1, 5.0):
        await person.scroll(pause)


async def two_tabs(person: Visitor) -> None:
    """The same workspace in two tabs, used in turns; the one in use changes, the other stays open."""
    other = await person.window.new_page()
    await other.goto(person.page.url, wait_until="commit")
    for at, pause in enumerate((2.0, 6.0, 9.0, 12.0, 6.0, COOLDOWN - 1)):
        await person.point((person.page, other)[at % 2], pause, 40 * at)


async def closed_lid(person: Visitor) -> None:
    """Some keys, and then the computer sleeps: nothing is sent any more, and no connection is closed."""
    for pause in (*[0.3] * 10, 4.0, 6.0):
        await person.key(pause)
    await person.freeze()
    await person.window.set_offline(True)


async def background_tab(person: Visitor) -> None:
    """Some keys, and then another site in another tab, while the workspace stays open behind it."""
    for pause in (*[0.3] * 10, 4.0):
        await person.key(pause)
    await (await person.window.new_page()).bring_to_front()
    await asyncio.sleep(3)
    await person.freeze()


async def phone(person: Visitor) -> None:
    """Touches with pauses."""
    for pause in (1.0, 3.0, 5.0, 8.0, COOLDOWN - 1, 4.0):
        await person.touch(pause)


Pattern = Callable[[Visitor], Awaitable[None]]
PATTERNS: dict[str, Pattern] = {
    "typing": typing,
    "reading with scrolling": reading,
    "two tabs": two_tabs,
    "closed lid": closed_lid,
    "background tab": background_tab,
    "phone": phone,
}


@dataclass
class Row:
    """What came of one pattern with one program."""

    program: str
    pattern: str
    sleeps: int
    false: int
    missed: int
    seconds: float | None
    """From the last input to the sleep; None when it never came."""


def judged(program: str, pattern: str, inputs: list[float], sleeps: list[float]) -> Row:
    """The row, from the times of the inputs and of the sleeps."""
    last, limit = inputs[-1], LEASE + COOLDOWN + POLL + _MARGIN + _SAMPLING
    false = sum(sleep - max(at for at in inputs if at <= sleep) < COOLDOWN for sleep in sleeps if sleep >= inputs[0])
    after = next((sleep - last for sleep in sleeps if sleep >= last), None)
    return Row(program, pattern, len(sleeps), false, int(after is None or after > limit), after)


@app.command()
def main(
    programs: Annotated[str, typer.Option(help="Names of programs, separated by commas.")] = ",".join(
        each.name for each in PROGRAMS
    ),
    patterns: Annotated[str, typer.Option(help="Names of patterns, separated by commas.")] = ",".join(PATTERNS),
    at_a_time: Annotated[int, typer.Option(min=1, help="Workspaces at a time.")] = 2,
    state: Annotated[Path, typer.Option(help="Folder of the benchmark's own cluster.")] = Path(".cluster-bench"),
    output: Annotated[Path, typer.Option(help="Where the JSON goes.")] = Path("bench/results/idleness.json"),
) -> None:
    chosen = [each for each in PROGRAMS if each.name in programs.split(",")]
    lacks = [*lacks_for_real_pods(), *([] if shutil.which("chromium") else ["chromium"])]
    lacks += [lack for each in chosen for lack in recipes.missing(each.image)]
    if lacks:
        raise typer.BadParameter(f"real pods and a browser need {', '.join(dict.fromkeys(lacks))}")
    images, cluster = {each.image: recipes.build(each.image) for each in chosen}, Cluster(state)
    cluster.down(purge=True)
    settings = {"LEASE": str(LEASE), "COOLDOWN": str(COOLDOWN), "POLLING_INTERVAL": str(POLL)}
    try:
        cluster.up(real_node=True)
        stack = Stack(
            cluster, port=free_port(), gateway_port=free_port(), settings=settings, image=images[chosen[0].image]
        )
        stack.up()
        for image in list(images.values())[1:]:
            cluster.load_image(image.archive)
        wanted = [(program, name) for name in patterns.split(",") for program in chosen]
        references = {name: image.reference for name, image in images.items()}
        rows = asyncio.run(_all(stack, references, wanted, at_a_time))
    finally:
        cluster.down(purge=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    facts = {"cores": os.cpu_count(), "lease": LEASE, "cooldown": COOLDOWN, "poll": POLL}
    output.write_text(json.dumps({"facts": facts, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    _show(rows)
    if any(row.false or row.missed for row in rows):
        raise typer.Exit(1)


async def _all(
    stack: Stack, references: dict[Name, str], wanted: list[tuple[Program, str]], at_a_time: int
) -> list[Row]:
    turns = asyncio.Semaphore(at_a_time)
    async with (
        aiohttp.ClientSession(stack.url, raise_for_status=True, trust_env=False) as http,
        async_playwright() as playwright,
    ):
        # Chromium has no sandbox for root; it sees nothing but the benchmark's own pods.
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])

        async def one(program: Program, pattern: str) -> Row:
            async with turns:
                uuid = await _created(http, f"{pattern}-{program.name}@example.com".replace(" ", "-"))
                image = f"workspace={references[program.image]}"
                stack.cluster.kubectl("-n", USERS, "set", "image", f"deployment/user-{uuid}", image)
                return await _played(uuid, http, browser, program, pattern)

        rows = await asyncio.gather(*(one(program, pattern) for program, pattern in wanted))
        await browser.close()
    return rows


async def _played(uuid: str, http: aiohttp.ClientSession, browser: Browser, program: Program, pattern: str) -> Row:
    """One person with a workspace that is asleep, until it sleeps again or should have."""
    async with _visitor(http, browser, uuid, program, _PHONE if pattern == "phone" else _DESK) as person:
        sleeps: list[float] = []
        watch = asyncio.create_task(_watch(http, uuid, sleeps))
        await person.page.goto(person.link, wait_until="commit")
        await person.page.wait_for_selector(program.shown, timeout=_SECONDS * 1000)
        while (await _call(http, "GET", f"/session/{uuid}/status"))["phase"] != "ready":  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        await PATTERNS[pattern](person)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * (LEASE + COOLDOWN + POLL)):
                while not any(sleep > person.inputs[-1] for sleep in sleeps):  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.2)
        watch.cancel()
        row = judged(program.name, pattern, person.inputs, sleeps)
    print(row)
    await _call(http, "DELETE", f"/session/{uuid}")
    return row


@contextlib.asynccontextmanager
async def _visitor(
    http: aiohttp.ClientSession, browser: Browser, uuid: str, program: Program, device: dict[str, Any]
) -> AsyncIterator[Visitor]:
    window = await browser.new_context(**device)
    to = program.path.replace("?", "%3F").replace("=", "%3D")
    link = str((await _call(http, "POST", f"/session/{uuid}/open?to={to}"))["url"])
    try:
        yield Visitor(window, await window.new_page(), link)
    finally:
        await window.close()


async def _watch(http: aiohttp.ClientSession, uuid: str, sleeps: list[float]) -> None:
    """Note when the pod is no longer wanted."""
    awake = False
    while True:
        status = await _call(http, "GET", f"/session/{uuid}/status")
        if awake and not status["replicas"]:
            sleeps.append(time.monotonic())
        awake = bool(status["replicas"])
        await asyncio.sleep(0.2)


async def _created(http: aiohttp.ClientSession, user: str) -> str:
    """A service that has just started refuses creates until it has its index."""
    async with asyncio.timeout(_SECONDS):
        while True:
            with contextlib.suppress(aiohttp.ClientResponseError):
                return str((await _call(http, "POST", "/session/create", {"user_id": user}))["uuid"])
            await asyncio.sleep(0.5)


async def _call(
    http: aiohttp.ClientSession, method: str, path: str, body: dict[str, str] | None = None
) -> dict[str, Any]:
    async with http.request(method, path, json=body) as answer:
        found: dict[str, Any] = await answer.json() if answer.content_length else {}
        return found


def _show(rows: list[Row]) -> None:
    limit = LEASE + COOLDOWN + POLL + _MARGIN
    table = Table(title=f"sleep allowed from {COOLDOWN} s, due by {limit:g} s after the last input")
    for name in ("program", "pattern", "sleeps", "false", "missed", "last input → sleep (s)"):
        table.add_column(name)
    for row in rows:
        seconds = "never" if row.seconds is None else f"{row.seconds:.1f}"
        table.add_row(row.program, row.pattern, str(row.sleeps), str(row.false), str(row.missed), seconds)
    Console().print(table)


if __name__ == "__main__":
    app()
