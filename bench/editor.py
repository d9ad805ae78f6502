"""What a person waits for: a sleeping VS Code, from opening it in a browser until it accepts input; with screenshots.

The pod and the browser are real, and share the machine with the whole cluster. `docs/pictures/` gets the waiting page
and the editor, for the README.
"""

import asyncio
import contextlib
import json
import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import typer
from playwright.async_api import Browser, async_playwright

from bench.figures import Figure, save, show
from bench.ground import lacks_for_real_pods, until
from devcluster.cluster import Cluster
from images import recipes
from images.recipes import Name
from stack.demo import free_port
from stack.stack import ROOT, Stack

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
PICTURES = ROOT / "docs" / "pictures"
_USER = "editor@example.com"
_FOLDER = "/?folder=/home/coder"
_WINDOW = {"width": 960, "height": 560}
_WAITING = "Your workspace is waking up"
_EDITOR = ".monaco-workbench .part.editor"
_FILE = "hello.py"
_CODE = """from datetime import date

print(f"Awake since {date.today():%A}.")
"""
_SETTINGS = ".local/share/code-server/User/settings.json"
_QUIET = {"workbench.secondarySideBar.defaultVisibility": "hidden", "workbench.startupEditor": "none"}
_CODER = 1000
"""The workspace's user."""
_SECONDS = 120
"""Seconds that one visit may take."""


@dataclass
class Times:
    """Seconds since the visit, of each round."""

    page: list[float] = field(default_factory=list)
    ready: list[float] = field(default_factory=list)
    drawn: list[float] = field(default_factory=list)
    usable: list[float] = field(default_factory=list)

    def figures(self) -> list[Figure]:
        ready = Figure("pod ready", 1, "s", self.ready)
        return [
            Figure("waiting page shown", 1, "s", self.page),
            ready,
            Figure.against(ready, "editor drawn", self.drawn),
            Figure.against(ready, "editor usable: a file is open", self.usable),
        ]


@app.command()
def main(
    rounds: Annotated[int, typer.Option(min=1, help="Visits.")] = 10,
    state: Annotated[Path, typer.Option(help="Folder of the benchmark's own cluster.")] = Path(".cluster-bench"),
    output: Annotated[Path, typer.Option(help="Where the JSON goes.")] = Path("bench/results/editor.json"),
) -> None:
    lacks = [
        *lacks_for_real_pods(),
        *recipes.missing(Name.WORKSPACE),
        *([] if shutil.which("chromium") else ["chromium"]),
    ]
    if lacks:
        raise typer.BadParameter(f"a VS Code in a real pod needs {', '.join(dict.fromkeys(lacks))}")
    image, cluster = recipes.build(Name.WORKSPACE), Cluster(state)
    cluster.down(purge=True)
    try:
        cluster.up(real_node=True)
        stack = Stack(cluster, port=free_port(), gateway_port=free_port(), image=image, volume=True)
        stack.up()
        figures = asyncio.run(_measured(stack, rounds)).figures()
    finally:
        cluster.down(purge=True)
    facts = {"cores": os.cpu_count(), "program": "VS Code (code-server)", "browser": "Chromium, headless"}
    save(figures, facts=facts, path=output)
    show(figures, facts=facts)
    print(f"as JSON: {output}; pictures: {PICTURES.relative_to(ROOT)}")


async def _measured(stack: Stack, rounds: int) -> Times:
    times = Times()
    async with (
        aiohttp.ClientSession(stack.url, raise_for_status=True, trust_env=False) as http,
        async_playwright() as playwright,
    ):
        # Chromium has no sandbox for root; it sees nothing but the benchmark's own pod.
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        uuid = await _created(http)
        await _prepare_home(http, stack, uuid)
        await _visit(http, browser, uuid, Times())  # the first one fills the caches
        for _ in range(rounds):
            await _visit(http, browser, uuid, times)
        await browser.close()
    return times


async def _created(http: aiohttp.ClientSession) -> str:
    """Retry, because a service that has just started refuses creates until its index is complete."""
    async with asyncio.timeout(_SECONDS):
        while True:
            with contextlib.suppress(aiohttp.ClientResponseError):
                return str((await _call(http, "POST", "/session/create", {"user_id": _USER}))["uuid"])
            await asyncio.sleep(0.5)


async def _prepare_home(http: aiohttp.ClientSession, stack: Stack, uuid: str) -> None:
    """Put a file to open into the session's volume, which its first pod creates."""
    await _call(http, "POST", f"/session/{uuid}/wake")
    await _ready(http, uuid, 0)
    (home,) = stack.cluster.state.glob("volumes/*")
    for path, text in {_FILE: _CODE, _SETTINGS: json.dumps(_QUIET)}.items():
        file = home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        for made in (file, *file.parents):
            if made == home:
                break
            os.chown(made, _CODER, _CODER)
    await _sleep(http, uuid)


async def _visit(http: aiohttp.ClientSession, browser: Browser, uuid: str, times: Times) -> None:
    """Visit a sleeper once, in a new browser context, so that nothing is cached."""
    window = await browser.new_context(viewport=_WINDOW)  # type: ignore[arg-type]  # a TypedDict of the library
    page = await window.new_page()
    link = (await _call(http, "POST", f"/session/{uuid}/open?to={_FOLDER}"))["url"]
    began = time.perf_counter()
    ready = asyncio.create_task(_ready(http, uuid, began))
    await page.goto(link, wait_until="commit")
    await page.get_by_role("heading", name=_WAITING).wait_for()
    times.page.append(time.perf_counter() - began)
    await page.screenshot(path=_picture("waiting"))
    times.ready.append(await ready)
    await page.wait_for_selector(_EDITOR, timeout=_SECONDS * 1000)
    times.drawn.append(time.perf_counter() - began)
    file = page.get_by_role("treeitem", name=_FILE)
    await file.dblclick(timeout=_SECONDS * 1000)
    await page.get_by_text("Awake since").first.wait_for(timeout=_SECONDS * 1000)
    times.usable.append(time.perf_counter() - began)
    await page.screenshot(path=_picture("vscode"))
    await window.close()
    await _sleep(http, uuid)


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
