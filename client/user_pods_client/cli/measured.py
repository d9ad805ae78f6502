"""What one session, wake or call costs, as `make bench` and `make bench-scale` measured it;
docs/explanation/scale.md has the runs.

On other machines the seconds of CPU differ; connections, requests and bytes do not.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """One constant and the line of the benchmark's table that it comes from."""

    value: float
    unit: str
    line: str


KEDA_REQUESTS_PER_WAKE = Measured(30, "requests", "parked: of these by KEDA")
API_REQUESTS_PER_WAKE = Measured(68, "requests", "parked: API requests per wake and sleep")
KEDA_REQUESTS_PER_POLL = Measured(
    1, "requests", "read in KEDA, not measured: a status patch per poll of an awake session"
)
KEDA_RECONCILE = Measured(0.07, "s", "parked: wake to ready, of which KEDA's part is less")
KEDA_MEMORY = Measured(123, "MB", "nobody: memory of keda")
KEDA_MEMORY_PARKED = Measured(0.09, "MB", "parked: memory of keda, per session")
KEDA_MEMORY_AWAKE = Measured(0.5, "MB", "plain KEDA: memory of keda, per session")
REDIS_CONNECTIONS_PER_AWAKE = Measured(1, "connections", "plain KEDA: Redis connections, per session")
REDIS_DATA = Measured(0.0005, "MB", "parked: data in Redis, per session")
REDIS_HISTORY = Measured(0.0062, "MB", "a full history, MEMORY USAGE of its key (tests/contracts/test_history.py)")
API_MEMORY = Measured(430, "MB", "nobody: memory of kube-apiserver")
API_MEMORY_PARKED = Measured(0.55, "MB", "parked: memory of kube-apiserver, per session")
SERVICE_MEMORY = Measured(82, "MB", "nobody: memory of service")
SERVICE_MEMORY_PARKED = Measured(0.0025, "MB", "service: memory after start, per session")
STATUS_PER_SECOND = Measured(5700, "calls", "status, per second of one core")
CREATES_PER_SECOND = Measured(3.2, "creates", "creates, 2 at once")
