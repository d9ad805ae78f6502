"""`make bench-idleness`: does a workspace stay awake while its user works, and sleep in time once they are gone?

Each pattern of `people.py` on a VS Code, a JupyterLab and a plain page, in a real browser on real pods, with programs
that print every second all the while. `judgement.py` says what is false and what is missed. Only the idle times are
shorter than in use.
"""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import psutil
import typer
from playwright.async_api import Error, Page, Playwright, async_playwright
from rich.console import Console
from rich.table import Table

from bench import judgement, people
from bench.ground import lacks_for_real_pods
from bench.judgement import COOLDOWN, LEASE, LIMIT, POLL, Input, Results, Row, Seen, Sleep, judged
from bench.people import PATTERNS, Person
from devcluster.cluster import Cluster
from images import recipes
from images.recipes import Name
from stack.demo import free_port
from stack.stack import ROOT, USERS, Stack

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
DOCUMENT = ROOT / "docs" / "explanation" / "idleness.md"
_SECONDS = 150
"""Seconds that a pod or a page may take to come."""
_AFTERWARDS = 8
"""Seconds for which a workspace is watched once it sleeps: nothing but an input may wake it."""
_SAMPLING = 0.2
_PRESSURE = Path("/proc/pressure/cpu")


async def _work_in_vscode(page: Page) -> None:
    """Leave a program in the terminal that prints every second."""
    await page.wait_for_selector(".monaco-workbench .part.editor")
    terminal = page.locator(".terminal-wrapper.active .xterm-helper-textarea")
    while await terminal.count() == 0:  # an editor that is still loading does not hear the keys
        await page.keyboard.press("Control+Shift+Backquote")
        await asyncio.sleep(2)
    await terminal.focus()
    begun = page.get_by_role("treeitem", name="ticking")
    while await begun.count() == 0:  # a shell that has just started swallows what is typed
        await page.keyboard.type("touch ticking; while date; do sleep 1; done\n", delay=20)
        await asyncio.sleep(3)


async def _work_in_jupyter(page: Page) -> None:
    """Leave a cell in a notebook that prints every second."""
    await page.locator(".jp-LauncherCard[data-category='Notebook']").first.click()
    cells = page.locator(".jp-Notebook .jp-Cell .cm-content")
    await cells.first.click()
    await page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']")
    await page.keyboard.insert_text("import time\nwhile True: print(time.ctime(), flush=True); time.sleep(1)")
    prompt = page.locator(".jp-Notebook .jp-InputPrompt").first
    while "*" not in await prompt.inner_text():  # a kernel that has just come drops what is run
        await cells.first.click()
        await page.keyboard.press("Shift+Enter")
        await asyncio.sleep(3)
    await page.wait_for_selector(".jp-OutputArea-output", state="attached")
    await cells.last.click()


async def _look(page: Page) -> None:
    await page.wait_for_selector("h1:has-text('user-')")  # of the pod's own page


@dataclass(frozen=True)
class Program:
    """`begin`: what somebody does once its page has come, until it can be used and is at work by itself."""

    name: str
    image: Name
    path: str
    begin: Callable[[Page], Awaitable[None]]


PROGRAMS = (
    Program("VS Code", Name.WORKSPACE, "/?folder=/home/coder", _work_in_vscode),
    Program("JupyterLab", Name.JUPYTER, "/lab", _work_in_jupyter),
    Program("plain page", Name.TINY, "/", _look),
)


@app.command()
def main(
    programs: Annotated[str, typer.Option(help="Names of programs, separated by commas.")] = ",".join(
        each.name for each in PROGRAMS
    ),
    patterns: Annotated[str, typer.Option(help="Names of patterns, separated by commas.")] = ",".join(PATTERNS),
    at_a_time: Annotated[int, typer.Option(min=1, help="Workspaces at a time.")] = 3,
    state: Annotated[Path, typer.Option(help="Folder of the benchmark's own cluster.")] = Path(".cluster-bench"),
    output: Annotated[Path, typer.Option(help="Where the JSON goes.")] = Path("bench/results/idleness.json"),
) -> None:
    """Once all programs and patterns have been measured, in one run or several, the docs get their table.

    Exits with 1 if any sleep was false or missed, or the machine was too busy to tell.
    """
    chosen = [each for each in PROGRAMS if each.name in programs.split(",")]
    names = [name for name in PATTERNS if name in patterns.split(",")]
    if len(chosen) != len(programs.split(",")) or len(names) != len(patterns.split(",")):
        raise typer.BadParameter(f"there are {', '.join(each.name for each in PROGRAMS)}; {', '.join(PATTERNS)}")
    lacks = [*lacks_for_real_pods(), *people.missing()]
    lacks += [lack for each in chosen for lack in recipes.missing(each.image)]
    if lacks:
        raise typer.BadParameter(f"real pods and a browser need {', '.join(dict.fromkeys(lacks))}")
    wanted = [(program, name) for name in names for program in chosen]
    results = Results(output, [(program.name, name) for program in PROGRAMS for name in PATTERNS])
    with _stack(state, [each.image for each in chosen]) as (stack, references):
        began, before = time.monotonic(), psutil.cpu_times()
        rows = asyncio.run(_all(stack, references, wanted, at_a_time, results))
        facts = f"{os.cpu_count()} cores, {_used(before)} of them used, {time.monotonic() - began:.0f} s"
    if results.is_complete:
        judgement.write(DOCUMENT, results.rows)
    _show(rows)
    print(f"{facts}; as JSON: {output}")
    if not all(row.is_good for row in rows):
        raise typer.Exit(1)


@contextlib.contextmanager
def _stack(state: Path, names: list[Name]) -> Iterator[tuple[Stack, dict[Name, str]]]:
    """A running stack in its own cluster, and each image's name on its node; all of it is removed afterwards."""
    images, cluster = {name: recipes.build(name) for name in names}, Cluster(state)
    cluster.down(purge=True)
    settings = {"LEASE": str(LEASE), "COOLDOWN": str(COOLDOWN), "POLLING_INTERVAL": str(POLL)}
    try:
        cluster.up(real_node=True)
        ports, first = (free_port(), free_port()), images[names[0]]
        stack = Stack(cluster, port=ports[0], gateway_port=ports[1], settings=settings, image=first)
        stack.up()
        for image in images.values():
            if image is not first:
                cluster.load_image(image.archive)
        yield stack, {name: image.reference for name, image in images.items()}
    finally:
        cluster.down(purge=True)


async def _all(
    stack: Stack, references: dict[Name, str], wanted: list[tuple[Program, str]], at_a_time: int, results: Results
) -> list[Row]:
    """The rows in the order of `wanted`. Those in doubt are tried once more, each alone."""
    async with (
        aiohttp.ClientSession(stack.url, raise_for_status=True, trust_env=False) as http,
        async_playwright() as playwright,
    ):
        turns = asyncio.Semaphore(at_a_time)

        async def one(program: Program, pattern: str) -> Row:
            async with turns:
                row = await _row(Workspaces(stack, references, http), playwright, program, pattern)
            results.add(row)
            return row

        rows = await asyncio.gather(*(one(program, pattern) for program, pattern in wanted))
        for at, (program, pattern) in enumerate(wanted):
            if rows[at].doubts:
                rows[at] = await one(program, pattern)
    return rows


@dataclass(frozen=True)
class Workspaces:
    """`references`: the image of each program, as a node knows it."""

    stack: Stack
    references: dict[Name, str]
    http: aiohttp.ClientSession

    @contextlib.asynccontextmanager
    async def one(self, image: Name, user: str) -> AsyncIterator[str]:
        """The id of a new session with that image, asleep; deleted afterwards."""
        uuid = await self._created(user)
        # The chart's startup probe needs a shell, which not every image has.
        probe = {"exec": None, "tcpSocket": {"port": "http"}, "periodSeconds": 1, "failureThreshold": _SECONDS}
        container = {"name": "workspace", "image": self.references[image], "startupProbe": probe}
        patch = json.dumps({"spec": {"template": {"spec": {"containers": [container]}}}})
        kubectl = self.stack.cluster.kubectl
        await asyncio.to_thread(kubectl, "-n", USERS, "patch", "deployment", f"user-{uuid}", "--patch", patch)
        try:
            yield uuid
        finally:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                await self.call("DELETE", f"/session/{uuid}")

    async def ready(self, uuid: str) -> None:
        async with asyncio.timeout(_SECONDS):
            while (await self.call("GET", f"/session/{uuid}/status"))["phase"] != "ready":  # noqa: ASYNC110
                await asyncio.sleep(_SAMPLING)

    async def watch(self, uuid: str, seen: Seen) -> None:
        """Note when the pod is wanted and when not, until cancelled. A read that fails makes it less exact."""
        awake: float | None = None
        while True:
            asked = time.monotonic()
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                is_awake = bool((await self.call("GET", f"/session/{uuid}/status"))["replicas"])
                if awake is not None and not is_awake:
                    seen.sleeps.append(Sleep(awake, time.monotonic()))
                elif awake is None and is_awake and seen.sleeps:
                    seen.wakes.append(time.monotonic())
                awake = asked if is_awake else None
            await asyncio.sleep(_SAMPLING)

    async def call(self, method: str, path: str, body: dict[str, str] | None = None) -> dict[str, Any]:
        async with self.http.request(method, path, json=body) as answer:
            found: dict[str, Any] = await answer.json() if answer.content_length else {}
            return found

    async def _created(self, user: str) -> str:
        """A service that has just started refuses creates until it has its index."""
        async with asyncio.timeout(_SECONDS):
            while True:
                with contextlib.suppress(aiohttp.ClientResponseError):
                    return str((await self.call("POST", "/session/create", {"user_id": user}))["uuid"])
                await asyncio.sleep(0.5)


async def _row(workspaces: Workspaces, playwright: Playwright, program: Program, pattern: str) -> Row:
    """What came of one person with a workspace of their own. A program or page that does not come is a doubt."""
    user = f"{pattern}-{program.name}-{time.monotonic_ns()}@example.com".replace(" ", "-")
    began, waited = time.monotonic(), _waited()
    try:
        async with workspaces.one(program.image, user) as uuid, people.person(playwright) as who:
            row = await _played(workspaces, uuid, who, program, pattern)
    except (Error, TimeoutError, aiohttp.ClientError) as error:
        row = Row(program.name, pattern, doubts=[f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"])
    if waited is not None:
        row.pressure = round(((_waited() or 0) - waited) / (time.monotonic() - began), 2)
    print(
        f"{program.name}, {pattern}: {row.seconds} s; {'; '.join([*row.findings, *row.doubts]) or 'good'}", flush=True
    )
    return row


async def _played(workspaces: Workspaces, uuid: str, who: Person, program: Program, name: str) -> Row:
    """One person with a workspace that is asleep, until it sleeps again or should have."""
    pattern, seen = PATTERNS[name], Seen()
    watching = asyncio.create_task(workspaces.watch(uuid, seen))
    try:
        await who.did(_opened(workspaces, uuid, who, program))
        await pattern.act(who)
        await _asleep(seen, who.inputs[-1])
        if pattern.returns:
            who.machine.resume()
        await asyncio.sleep(_AFTERWARDS)
    finally:
        watching.cancel()
    return judged(program.name, name, who.inputs, seen)


async def _opened(workspaces: Workspaces, uuid: str, who: Person, program: Program) -> None:
    to = program.path.replace("?", "%3F").replace("=", "%3D")
    link = str((await workspaces.call("POST", f"/session/{uuid}/open?to={to}"))["url"])
    who.page.set_default_timeout(_SECONDS * 1000)
    waiting = asyncio.create_task(who.move_about())
    try:
        async with asyncio.timeout(_SECONDS):
            await who.page.goto(link, wait_until="commit")
            await program.begin(who.page)
            await workspaces.ready(uuid)
    except (Error, TimeoutError):
        picture = ROOT / "bench" / "results" / f"idleness-{program.image}.png"
        with contextlib.suppress(Error):
            await who.page.screenshot(path=picture)
        raise TimeoutError(f"{program.name} cannot be used: see {picture.relative_to(ROOT)}") from None
    finally:
        waiting.cancel()
    if not await who.page.evaluate("Boolean(window.userPods)"):
        raise RuntimeError(f"{program.name}: the page has no companion, so something else would be measured")


async def _asleep(seen: Seen, last: Input) -> None:
    """Wait for the sleep after the last input, up to twice as long as it may take."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2 * LIMIT):
            while not any(sleep.asleep >= last.done for sleep in seen.sleeps):  # noqa: ASYNC110 - another process
                await asyncio.sleep(_SAMPLING)


def _waited() -> float | None:
    """Seconds since the machine started in which something waited for a CPU; None where the kernel does not count."""
    try:
        return float(_PRESSURE.read_text().split("total=")[1].split()[0]) / 1e6
    except (OSError, IndexError):
        return None


def _used(before: Any) -> str:
    """The share of all cores that was used since then, by whomever."""
    spent = [new - old for new, old in zip(psutil.cpu_times(), before, strict=True)]
    idle = spent[before._fields.index("idle")] + spent[before._fields.index("iowait")]
    return f"{1 - idle / sum(spent):.0%}"


def _show(rows: list[Row]) -> None:
    table = Table(title=f"sleep allowed from {COOLDOWN} s, due by {LIMIT:g} s after the last input")
    for name in ("program", "pattern", "sleeps", "false", "missed", "last input → sleep", "waited for CPU", "findings"):
        table.add_column(name)
    for row in rows:
        seconds = "never" if row.seconds is None else f"{row.seconds:.1f} s"
        pressure = "" if row.pressure is None else f"{row.pressure:.0%}"
        cells = (row.program, row.pattern, row.sleeps, row.false, row.missed, seconds, pressure)
        table.add_row(*map(str, cells), "; ".join([*row.findings, *row.doubts]))
    Console(width=150).print(table)


if __name__ == "__main__":
    app()
