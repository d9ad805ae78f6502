"""What a page of the dashboard's list costs: `python -m bench.dashboard [sessions]`.

The sessions are in memory, as the service's cache has them. Redis' part, one read of the records of a page, is not in
it. The time is this process's own, from the request to the whole answer, over HTTP.
"""

import asyncio
import statistics
import sys
import time

from tests.dashboard.conftest import OPERATOR, serving
from tests.dashboard.sessions import fill
from tests.domain.conftest import World

_RUNS = 20
_PAGES = {
    "first page": "/dashboard",
    "search for a part of a user id": "/dashboard?q=er0424",
    "search that finds nothing": "/dashboard?q=nobody",
    "sessions that do not start": "/dashboard?phase=failed",
    "one reason": "/dashboard?reason=image",
    "last page, newest first": "/dashboard?sort=-created&page=9999",
}


async def main(sessions: int) -> None:
    world = World()
    fill(world, sessions)
    async with serving(world) as board:
        visitor = await board.visitor(OPERATOR)
        await visitor.read("/dashboard")
        for name, path in _PAGES.items():
            spent = []
            for _ in range(_RUNS):
                started = time.process_time()
                await visitor.read(path)
                spent.append((time.process_time() - started) * 1000)
            print(f"{sessions:,} sessions, {name}: {statistics.median(spent):.0f} ms (max {max(spent):.0f})")
    await world.provisioner.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
