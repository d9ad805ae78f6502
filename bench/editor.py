"""What a person waits for: a sleeping VS Code, from opening it in a browser until it accepts input; with screenshots.

Each round opens a sleeping workspace, and then the same page again while its pod is awake, each time in a new window
without a cache. With `--against`, a second image takes turns with the first. Ratios are medians over rounds, so that
what else the machine does matters least; then trust the CPU seconds, and the seconds last. The pod and the browser are
real, and share the machine with the whole cluster. `docs/pictures/` gets the waiting page and the editor, for the
README.
"""

import asyncio
import contextlib
import json
import os
import shutil
import tarfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import psutil
import typer
from playwright.async_api import Browser, Page, async_playwright

from bench.figures import Figure, save, show
from bench.ground import lacks_for_real_pods, until
from devcluster.cluster import Cluster
from images import recipes
from images.recipes import Name
from stack.demo import free_port
from stack.stack import ROOT, USERS, Stack

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
PICTURES = ROOT / "docs" / "pictures"
_FOLDER = "/?folder=/home/coder"
_WINDOW = {"width": 960, "height": 560}
_WAITING = "Your workspace is waking up"
_EDITOR = ".monaco-workbench .part.editor"
_FILE = "hello.py"
_CODE = """from datetime import date

print(f"Awake since {date.today():%A}.")
"""
_INIT = "tini"
"""The images' first process."""
_CODER = 1000
"""The workspace's user."""
_SERVER = ("node", "MainThread")
"""Names of code-server's processes."""
_BROWSER = "chromium"
"""Name of the browser's program and of its processes."""
_SECONDS = 120
"""Seconds that one visit may take."""
_REST = 3
"""Seconds after a visit, in which the editor does what it has put off."""


@dataclass
class Times:
    """Seconds since the visit, of each round."""

    shown: list[float] = field(default_factory=list)
    ready: list[float] = field(default_factory=list)
    pod: list[float] = field(default_factory=list)
    """Until the container's first process starts."""
    server: list[float] = field(default_factory=list)
    """From there until the browser has the first answer of the pod."""
    page: list[float] = field(default_factory=list)
    """From there until a file is open."""
    usable: list[float] = field(default_factory=list)
    awake_server: list[float] = field(default_factory=list)
    awake_page: list[float] = field(default_factory=list)
    awake: list[float] = field(default_factory=list)
    awake_cpu: list[float] = field(default_factory=list)
    """CPU seconds of browser and pod until the editor is usable."""

    def figures(self, of: str = "") -> list[Figure]:
        """Each part of a visit beside the same part of the awake page."""
        server, page = (
            Figure(f"awake pod: {name}{of}", 1, "s", values)
            for name, values in (("server", self.awake_server), ("page", self.awake_page))
        )
        return [
            Figure(f"visit: waiting page shown{of}", 1, "s", self.shown),
            Figure(f"visit: pod{of}", 1, "s", self.pod),
            server,
            Figure.against(server, f"visit: server{of}", self.server),
            page,
            Figure.against(page, f"visit: page{of}", self.page),
            Figure(f"awake pod: editor usable{of}", 1, "s", self.awake),
            Figure(f"awake pod: CPU of browser and pod{of}", 1, "s", self.awake_cpu),
            Figure(f"visit: editor usable{of}", 1, "s", self.usable),
            Figure(f"visit / awake pod: editor usable{of}", 1, "ratio", _ratios(self.usable, self.awake)),
            Figure(f"visit: pod ready, as Kubernetes reports it{of}", 1, "s", self.ready),
        ]


def _ratios(ones: Sequence[float], others: Sequence[float]) -> list[float]:
    """Round by round."""
    return [one / other for one, other in zip(ones, others, strict=True)]


def compared(times: Times, other: Times) -> list[Figure]:
    """The figures of two images, and what the first one needs of the other's time, round by round."""
    return [
        *times.figures(),
        *other.figures(" (other image)"),
        Figure("image / other: awake pod: editor usable", 1, "ratio", _ratios(times.awake, other.awake)),
        Figure("image / other: awake pod: page", 1, "ratio", _ratios(times.awake_page, other.awake_page)),
        Figure("image / other: awake pod: CPU", 1, "ratio", _ratios(times.awake_cpu, other.awake_cpu)),
        Figure("image / other: visit: editor usable", 1, "ratio", _ratios(times.usable, other.usable)),
    ]


@app.command()
def main(
    rounds: Annotated[int, typer.Option(min=1, help="Visits.")] = 10,
    state: Annotated[Path, typer.Option(help="Folder of the benchmark's own cluster.")] = Path(".cluster-bench"),
    output: Annotated[Path, typer.Option(help="Where the JSON goes.")] = Path("bench/results/editor.json"),
    against: Annotated[
        Path | None, typer.Option(help="Archive of another workspace's image, measured in turns with this one.")
    ] = None,
) -> None:
    lacks = [
        *lacks_for_real_pods(),
        *recipes.missing(Name.WORKSPACE),
        *([] if shutil.which(_BROWSER) else [_BROWSER]),
    ]
    if lacks:
        raise typer.BadParameter(f"a VS Code in a real pod needs {', '.join(dict.fromkeys(lacks))}")
    image, cluster = recipes.build(Name.WORKSPACE), Cluster(state)
    cluster.down(purge=True)
    try:
        cluster.up(real_node=True)
        stack = Stack(cluster, port=free_port(), gateway_port=free_port(), image=image, volume=True)
        stack.up()
        images = [image.reference]
        if against is not None:
            cluster.load_image(against)
            images.append(_reference(against))
        times = asyncio.run(_measured(stack, rounds, images))
    finally:
        cluster.down(purge=True)
    figures = times[0].figures() if against is None else compared(*times)
    facts = {"cores": os.cpu_count(), "program": "VS Code (code-server)", "browser": "Chromium, headless"}
    save(figures, facts=facts, path=output)
    show(figures, facts=facts)
    print(f"as JSON: {output}; pictures: {PICTURES.relative_to(ROOT)}")


def _reference(archive: Path) -> str:
    """The name of the image in an archive of Docker's format."""
    with tarfile.open(archive) as content:
        manifest = content.extractfile("manifest.json")
        assert manifest is not None
        return str(json.load(manifest)[0]["RepoTags"][0])


async def _measured(stack: Stack, rounds: int, images: list[str]) -> list[Times]:
    """Times of each image; one session each, in turns."""
    times = [Times() for _ in images]
    async with (
        aiohttp.ClientSession(stack.url, raise_for_status=True, trust_env=False) as http,
        async_playwright() as playwright,
    ):
        # Chromium has no sandbox for root; it sees nothing but the benchmark's own pod.
        browser = await playwright.chromium.launch(executable_path=shutil.which(_BROWSER), args=["--no-sandbox"])
        uuids = [await _prepared(http, stack, image) for image in images]
        for uuid in uuids:
            await _round(http, browser, uuid, Times())  # the first one fills the caches
        for _ in range(rounds):
            for uuid, each in reversed(list(zip(uuids, times, strict=True))):  # the first image takes the last pictures
                await _round(http, browser, uuid, each)
        await browser.close()
    return times


async def _prepared(http: aiohttp.ClientSession, stack: Stack, image: str) -> str:
    """A session with that image, asleep, and a file to open in its volume, which its first pod makes."""
    uuid = await _created(http, f"{image.partition(':')[2]}@example.com")
    stack.cluster.kubectl("-n", USERS, "set", "image", f"deployment/user-{uuid}", f"workspace={image}")
    await _call(http, "POST", f"/session/{uuid}/wake")
    await _ready(http, uuid, 0)
    volume = stack.cluster.kubectl("-n", USERS, "get", "pvc", f"user-{uuid}", "-o", "jsonpath={.spec.volumeName}")
    file = stack.cluster.state / "volumes" / volume / _FILE
    file.write_text(_CODE)
    os.chown(file, _CODER, _CODER)
    await _sleep(http, uuid)
    return uuid


async def _created(http: aiohttp.ClientSession, user: str) -> str:
    """A service that has just started refuses creates until it has its index."""
    async with asyncio.timeout(_SECONDS):
        while True:
            with contextlib.suppress(aiohttp.ClientResponseError):
                return str((await _call(http, "POST", "/session/create", {"user_id": user}))["uuid"])
            await asyncio.sleep(0.5)


async def _round(http: aiohttp.ClientSession, browser: Browser, uuid: str, times: Times) -> None:
    await _visit(http, browser, uuid, times)
    await asyncio.sleep(_REST)
    await _visit_awake(http, browser, uuid, times)
    await _sleep(http, uuid)


async def _visit(http: aiohttp.ClientSession, browser: Browser, uuid: str, times: Times) -> None:
    """Open a sleeping workspace."""
    async with _window(http, browser, uuid) as (page, link):
        answered = asyncio.get_running_loop().create_future()
        booted, began = _uptime(), time.perf_counter()
        ready = asyncio.create_task(_ready(http, uuid, began))
        page.on("response", lambda got: _note(answered, got.status, got.request.is_navigation_request()))
        await page.goto(link, wait_until="commit")
        await page.get_by_role("heading", name=_WAITING).wait_for()
        times.shown.append(time.perf_counter() - began)
        await page.screenshot(path=_picture("waiting"))
        await _usable(page)
        usable = time.perf_counter() - began
        times.ready.append(await ready)
        pod, server = _first_process(booted) - booted, await answered - began
        times.pod.append(pod)
        times.server.append(server - pod)
        times.page.append(usable - server)
        times.usable.append(usable)
        await page.screenshot(path=_picture("vscode"))


async def _visit_awake(http: aiohttp.ClientSession, browser: Browser, uuid: str, times: Times) -> None:
    """Open a workspace whose pod is awake."""
    async with _window(http, browser, uuid) as (page, link):
        answered = asyncio.get_running_loop().create_future()
        began, used = time.perf_counter(), _cpu()
        page.on("response", lambda got: _note(answered, got.status, got.request.is_navigation_request()))
        await page.goto(link, wait_until="commit")
        await _usable(page)
        usable = time.perf_counter() - began
        times.awake_cpu.append(sum(seconds - used.get(process, 0) for process, seconds in _cpu().items()))
        server = await answered - began
        times.awake_server.append(server)
        times.awake_page.append(usable - server)
        times.awake.append(usable)


@contextlib.asynccontextmanager
async def _window(http: aiohttp.ClientSession, browser: Browser, uuid: str) -> AsyncIterator[tuple[Page, str]]:
    """A window of its own, so that nothing is cached, and a link that signs it in."""
    window = await browser.new_context(viewport=_WINDOW)  # type: ignore[arg-type]  # a TypedDict of the library
    link = str((await _call(http, "POST", f"/session/{uuid}/open?to={_FOLDER}"))["url"])
    try:
        yield await window.new_page(), link
    finally:
        await window.close()


async def _usable(page: Page) -> None:
    """Wait until the editor has opened a file."""
    await page.wait_for_selector(_EDITOR, timeout=_SECONDS * 1000)
    await page.get_by_role("treeitem", name=_FILE).dblclick(timeout=_SECONDS * 1000)
    await page.get_by_text("Awake since").first.wait_for(timeout=_SECONDS * 1000)


def _note(answered: "asyncio.Future[float]", status: int, navigation: bool) -> None:
    """The time of the first page that the pod answered: the gateway's own are 303 and 503."""
    if navigation and status == 200 and not answered.done():
        answered.set_result(time.perf_counter())


def _uptime() -> float:
    """Seconds since the machine booted, which is how Linux counts the starts of processes."""
    return float(Path("/proc/uptime").read_text().split()[0])


def _first_process(after: float) -> float:
    """When the first process of a container started, in seconds since boot."""
    ticks = os.sysconf("SC_CLK_TCK")
    starts = []
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(OSError):
            if process.info["name"] == _INIT:
                fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
                starts.append(int(fields[19]) / ticks)
    return min(start for start in starts if start >= after)


def _cpu() -> dict[psutil.Process, float]:
    """CPU seconds so far of each process of this program's browser and of the workspaces."""
    ours = set(psutil.Process().children(recursive=True))
    seconds = {}
    for process in psutil.process_iter(["name", "uids"]):
        name, uids = process.info["name"], process.info["uids"]
        browser = name == _BROWSER and process in ours
        if browser or (name in _SERVER and uids and uids.real == _CODER):
            with contextlib.suppress(psutil.NoSuchProcess):
                used = process.cpu_times()
                seconds[process] = used.user + used.system
    return seconds


async def _sleep(http: aiohttp.ClientSession, uuid: str) -> None:
    await _call(http, "POST", f"/session/{uuid}/sleep")

    async def asleep() -> bool:
        status = await _call(http, "GET", f"/session/{uuid}/status")
        return bool(status["phase"] == "asleep" and status["parked"])

    await until(asleep)


async def _ready(http: aiohttp.ClientSession, uuid: str, began: float) -> float:
    while (await _call(http, "GET", f"/session/{uuid}/status"))["phase"] != "ready":  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.02)
    return time.perf_counter() - began


def _picture(name: str) -> Path:
    PICTURES.mkdir(parents=True, exist_ok=True)
    return PICTURES / f"{name}.png"


async def _call(
    http: aiohttp.ClientSession, method: str, path: str, body: dict[str, str] | None = None
) -> dict[str, Any]:
    async with http.request(method, path, json=body) as answer:
        found: dict[str, Any] = await answer.json()
        return found


if __name__ == "__main__":
    app()
