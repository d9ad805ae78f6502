"""Metrics that are read when somebody scrapes, since they are states and totals that other parts hold anyway."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.domain.lifecycle import Step
from service.domain.metrics import Traffic
from service.domain.session import Phase
from service.domain.session_counts import SessionCounts
from service.domain.supervisor import PartState

PREFIX = "user_pods_"


async def _nobody() -> SessionCounts:
    return SessionCounts()


@dataclass(frozen=True, kw_only=True)
class Readings:
    """Where to read; each but the session counts answers at once."""

    session_counts: Callable[[], Awaitable[SessionCounts]] = _nobody
    behind: Callable[[], timedelta | None] = lambda: None
    breaks: Callable[[], Mapping[str, int]] = dict
    leads: Callable[[], bool] = lambda: False
    listens: Callable[[], bool | None] = lambda: None
    steps: Callable[[], Mapping[Step, int]] = dict
    retries: Callable[[], int] = lambda: 0
    line: Callable[[], int] = lambda: 0
    refused: Callable[[], int] = lambda: 0
    unreadable: Callable[[], int] = lambda: 0
    traffic: Callable[[], Traffic | None] = lambda: None
    """None where no gateway is."""
    parts: Callable[[], Mapping[str, PartState]] = dict
    restarts: Callable[[], Mapping[str, int]] = dict


class States(Collector):
    """Puts the readings into families. Without counts (Redis is away) those families are missing: unknown is not 0."""

    def __init__(self) -> None:
        self.readings = Readings()
        self.session_counts: SessionCounts | None = None

    def collect(self) -> Iterator[Metric]:
        yield from _replica(self.readings)
        yield from _parts(self.readings)
        yield from _reconciler(self.readings)
        traffic = self.readings.traffic()
        if traffic is not None:
            yield from _gateway(traffic)
        if self.session_counts is not None:
            yield from _sessions(self.session_counts)


def _replica(read: Readings) -> Iterator[Metric]:
    behind, listens = read.behind(), read.listens()
    yield _gauge("leader", "1 on the replica that leads, 0 on the others.", read.leads())
    if listens is not None:
        yield _gauge(
            "listening", "Whether the leader hears of pushes by others at once; only the leader tells.", listens
        )
    yield _gauge("watch_behind_seconds", "How old the view may be; 0 while its watches keep up.", _seconds(behind))
    yield _total("watch_breaks", "Times that a watch could not simply go on, by reason.", read.breaks(), "reason")
    yield _gauge(
        "sessions_unreadable",
        "Sessions whose queue or record in Redis this replica found unreadable; their status says what repairs them.",
        read.unreadable(),
    )
    yield _gauge("helm_line", "Creates and deletes that run helm or wait for it.", read.line())
    yield _total("refused", "Creates and deletes answered 429, since the line for helm was full.", read.refused())


def _parts(read: Readings) -> Iterator[Metric]:
    up = GaugeMetricFamily(
        f"{PREFIX}part_up",
        "1 while a part that must never end runs well, 0 while it fails; those that run in this process now, by part.",
        labels=["part"],
    )
    for name, state in read.parts().items():
        up.add_metric([name], not state.failure)
    yield up
    yield _total("part_restarts", "Restarts of parts that must never end and did, by part.", read.restarts(), "part")


def _reconciler(read: Readings) -> Iterator[Metric]:
    done = read.steps()
    steps = {step.value: done.get(step, 0) for step in Step}
    yield _total("steps", "Steps that the keeper has carried out, by step.", steps, "step")
    yield _total("retries", "Looks at a session that the keeper put off because a step had failed.", read.retries())


def _gateway(traffic: Traffic) -> Iterator[Metric]:
    yield _gauge("gateway_connections", "Connections of browsers that are open.", traffic.connections)
    yield _gauge("gateway_websockets", "WebSockets that are open.", traffic.websockets)
    yield _gauge("gateway_held", "Requests and pages that wait for a pod.", traffic.held)
    yield _gauge("gateway_queued", "Requests that wait for others of their session to end.", traffic.queued)


def _sessions(session_counts: SessionCounts) -> Iterator[Metric]:
    phases = GaugeMetricFamily(
        f"{PREFIX}sessions",
        "Sessions by phase; released ones as far as a kept volume is left of them. Every replica tells the same.",
        labels=["phase"],
    )
    for phase in Phase:
        phases.add_metric([phase], session_counts.phases[phase])
    yield phases
    yield _gauge("sessions_parked", "Sessions that KEDA is told to leave alone.", session_counts.parked)
    yield _gauge("queues_filled", "Sessions whose wake queue is not empty.", session_counts.queued)
    yield _gauge("queue_tokens", "Tokens in all wake queues.", session_counts.tokens)
    yield _gauge(
        "wakes_pending",
        "Wakes whose pod is not up yet, or that KEDA is not known to have seen.",
        session_counts.pending,
    )
    yield _gauge(
        "wakes_pending_oldest_seconds", "Age of the oldest of those, 0 without any.", _seconds(session_counts.oldest)
    )


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}{name}", text, value=value)


def _total(name: str, text: str, value: float | Mapping[str, int], label: str = "") -> Metric:
    if not isinstance(value, Mapping):
        return CounterMetricFamily(f"{PREFIX}{name}", text, value=value)
    family = CounterMetricFamily(f"{PREFIX}{name}", text, labels=[label])
    for key, number in value.items():
        family.add_metric([key], number)
    return family


def _seconds(span: timedelta | None) -> float:
    return span.total_seconds() if span else 0.0
