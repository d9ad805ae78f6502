"""What one scrape of /metrics costs, on memory adapters: `python -m bench.scrape [sessions]`.

A tenth of the sessions is awake, half of those with a filled queue, and one in a hundred is released; all others are
out of date. The cache answers as the service's own does. Redis' part is not in it: one script call per 500
sessions, and one read of the index per 2,000.
"""

import asyncio
import statistics
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from service.adapters.prometheus.exposition import Exposition
from service.adapters.prometheus.gauges import ReleaseGauges, SessionGauges
from service.adapters.prometheus.metrics import PrometheusMetrics
from service.domain.idle_times import IdleTimes
from service.domain.names import SessionId
from service.domain.record import Record, RecordStatus
from service.domain.release import Release, ReleaseState
from service.domain.session_counts import SessionCounter
from service.domain.workload import Workload
from tests.domain.conftest import World

_RUNS = 20


async def world(sessions: int) -> World:
    now, made = datetime.now(UTC), World()
    release = Release("user", 1, ReleaseState.DEPLOYED, now)
    whole = Workload(
        SessionId(""), release=release, deployed=True, has_scaler=True, volume=True, idle_times=IdleTimes()
    )
    for number in range(sessions):
        uuid, user = SessionId(f"{number:08d}"), f"user-{number}"
        awake = number % 10 == 0
        workload = replace(whole, uuid=uuid, user_id=user, parked=not awake, replicas=int(awake), ready=int(awake))
        await made.store.save(Record(uuid, user, RecordStatus.CREATED, now))
        if number % 100 != 1:
            made.cluster.workloads[uuid] = workload
        if number % 20 == 0:
            made.queues.push_by_hand(uuid, now + timedelta(hours=1))
    return made


async def _other_task(waits: list[float]) -> None:
    """Append what the process computes until another task gets its next turn, in milliseconds of CPU."""
    while True:
        started = time.process_time()
        await asyncio.sleep(0)
        waits.append((time.process_time() - started) * 1000)


async def main(sessions: int) -> None:
    made = await world(sessions)
    metrics = PrometheusMetrics()
    # Each scrape counts: what it may share with others is not used.
    counted = (
        SessionGauges(SessionCounter(made.cluster, made.queues, made.store).count),
        ReleaseGauges(made.rollout_control.counts),
    )
    for gauges in counted:
        metrics.registry.register(gauges)
    exposition = Exposition(metrics.registry, *counted)
    spent, page, waits = [], b"", list[float]()
    for _ in range(_RUNS):
        started = time.process_time()
        page, _ = await exposition()
        spent.append((time.process_time() - started) * 1000)
    other = asyncio.create_task(_other_task(waits))
    await exposition()
    other.cancel()
    print(
        f"{sessions} sessions: {statistics.median(spent):.1f} ms of CPU (max {max(spent):.1f}), {len(page)} bytes;"
        f" another task waited for {max(waits):.1f} ms at most"
    )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
