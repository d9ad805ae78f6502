"""Takes the pictures of the dashboard in the README and the documents: `python -m bench.dashboard_pictures`.

The 10,000 sessions, and all that has happened to them, are made up.
"""

import asyncio
import io
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from PIL import Image
from playwright.async_api import Page, ViewportSize, async_playwright

from service.domain.awake_quota import AwakeLimits
from service.domain.clock import utc_now
from service.domain.cluster_facts import Node
from service.domain.idle_times import IdleTimes
from service.domain.rollout import Rollout, RolloutOptions
from service.domain.savings import Prices
from service.domain.workload import Pod, Requests
from tests.dashboard.conftest import OPERATOR, Board, serving
from tests.dashboard.sessions import fill
from tests.domain.conftest import World
from tests.domain.test_wake_times import wake

_PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
_SIZE = ViewportSize(width=1280, height=800)
_COLORS = 64
"""A page has few. Fewer colors make a picture of a quarter of the size."""
_BROWSER = "chromium"
_WHOLE = frozenset({"dashboard-overview"})
"""Pages of which more is to be seen than fits on a screen."""
_PAGES = {"dashboard": "", "dashboard-overview": "/overview", "dashboard-upgrade": "/upgrade"}


def _world() -> World:
    world, now = World(), utc_now()
    fill(world, 10_000)
    for number, (uuid, workload) in enumerate(world.cluster.workloads.items()):
        world.cluster.workloads[uuid] = replace(
            workload,
            requests=Requests(cpu=0.5, memory=1),
            pod=Pod("pod", node=f"node-{number % 12}") if workload.replicas else None,
            idle_times=IdleTimes(),
            last_active=now - timedelta(minutes=number % 4000),
            revision="second" if number % 10 < 7 and not workload.replicas else "first",
        )
    world.facts.allowed = True
    world.facts.machines = [Node(name=f"node-{number}", cpu=31.85, memory=118, pods=110) for number in range(12)]
    world.measured.wakes = [
        wake(
            2.4 + number % 89 / 21, pod=str(number), at=now - timedelta(seconds=40 * number),
            scaled=0.06 + number % 7 / 90, scheduled=0.2 + number % 11 / 50, started=1.9 + number % 83 / 24,
        )
        for number in range(2_000)
    ]  # fmt: skip
    world.releases.target = "second"
    options = RolloutOptions(max_parallel=4)
    started = now - timedelta(minutes=21)
    world.rollouts.stored = Rollout(id="a", target="second", options=options, started_by="ops", started_at=started)
    return world


async def main() -> None:
    prices, limits = Prices(cpu=0.03, memory=0.004, currency="EUR"), AwakeLimits(total=600)
    async with serving(_world(), prices=prices, awake_limits=limits) as board, async_playwright() as playwright:
        # Chromium has no sandbox for root; it sees nothing but these pages.
        browser = await playwright.chromium.launch(executable_path=shutil.which(_BROWSER), args=["--no-sandbox"])
        page = await browser.new_page(viewport=_SIZE, color_scheme="light")
        await _sign_in(page, board)
        for name, path in _PAGES.items():
            await page.goto(f"{board.origin}/dashboard{path}")
            await page.get_by_role("heading", level=1).wait_for()
            picture = Image.open(io.BytesIO(await page.screenshot(full_page=name in _WHOLE)))
            picture.convert("RGB").quantize(_COLORS).save(_PICTURES / f"{name}.png", optimize=True)
        await browser.close()


async def _sign_in(page: Page, board: Board) -> None:
    await page.goto(f"{board.origin}/dashboard")
    await page.get_by_label("API key").fill(await board.add_key("ops", OPERATOR))
    await page.keyboard.press("Enter")
    await page.get_by_role("heading", name="Sessions").wait_for()


if __name__ == "__main__":
    asyncio.run(main())
