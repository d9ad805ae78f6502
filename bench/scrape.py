"""What one scrape of /metrics costs, on memory adapters: `python -m bench.scrape [sessions]`.

A tenth of the sessions is awake, half of those with a filled queue; the cache answers as the service's own does. Redis'
part (one script call per 500 sessions) is not in it.
"""

import asyncio
import statistics
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from service.adapters.prometheus.exposition import Exposition
from service.adapters.prometheus.gauges import SessionGauges
from service.adapters.prometheus.metrics import PrometheusMetrics
from service.domain.idle_times import IdleTimes
from service.domain.names import SessionId
from service.domain.release import Release, ReleaseState
from service.domain.session_counts import SessionCounter
from service.domain.workload import Workload
from tests.fakes import MemoryCluster, MemoryQueues

_RUNS = 20


def world(sessions: int) -> tuple[MemoryCluster, MemoryQueues]:
    now = datetime.now(UTC)
    cluster, queues = MemoryCluster(), MemoryQueues(index_is_complete=True)
    release = Release("user", 1, ReleaseState.DEPLOYED, now)
    whole = Workload(
        SessionId(""), release=release, deployed=True, has_scaler=True, volume=True, idle_times=IdleTimes()
    )
    for number in range(sessions):
        uuid = SessionId(f"{number:08d}")
        awake = number % 10 == 0
        cluster.workloads[uuid] = replace(whole, uuid=uuid, parked=not awake, replicas=int(awake), ready=int(awake))
        if number % 20 == 0:
            queues.push_by_hand(uuid, now + timedelta(hours=1))
    return cluster, queues


async def main(sessions: int) -> None:
    cluster, queues = world(sessions)
    metrics = PrometheusMetrics()
    counted = SessionGauges(SessionCounter(cluster, queues))
    metrics.registry.register(counted)
    exposition = Exposition(metrics.registry, counted)
    spent, page = [], b""
    for _ in range(_RUNS):
        started = time.process_time()
        page, _ = await exposition()
        spent.append((time.process_time() - started) * 1000)
    print(f"{sessions} sessions: {statistics.median(spent):.1f} ms of CPU (max {max(spent):.1f}), {len(page)} bytes")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
