"""Metrics that are read at each scrape, since other parts hold these states and totals anyway: a collector per part.

A part that this process does not run has no collector, and so no series.
"""

import logging
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Protocol

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.domain.admission_queue import AdmissionQueue
from service.domain.errors import Unavailable
from service.domain.lifecycle import Step
from service.domain.metrics import Traffic
from service.domain.session import Phase
from service.domain.session_counts import SessionCounts
from service.domain.supervisor import PartState

log = logging.getLogger(__name__)

PREFIX = "user_pods_"


class LeaderState(Protocol):
    @property
    def leads(self) -> bool: ...
    @property
    def listens(self) -> bool | None:
        """Whether Redis notifies of pushes; None while another replica leads."""


class WatchState(Protocol):
    def behind(self) -> timedelta | None: ...
    @property
    def breaks(self) -> Mapping[str, int]:
        """How often a watch broke off, by reason."""


class StoreState(Protocol):
    @property
    def unreadable(self) -> int: ...


class ReconcilerState(Protocol):
    @property
    def done(self) -> Mapping[Step, int]: ...
    @property
    def retries(self) -> int: ...


class GatewayState(Protocol):
    @property
    def traffic(self) -> Traffic: ...


class SupervisorState(Protocol):
    def states(self) -> Mapping[str, PartState]: ...
    @property
    def restarts(self) -> Mapping[str, int]: ...


class SessionCounter(Protocol):
    async def count(self) -> SessionCounts:
        """Raises RedisUnavailable."""


class LeaderGauges(Collector):
    def __init__(self, leader: LeaderState) -> None:
        self._leader = leader

    def collect(self) -> Iterator[Metric]:
        yield _gauge("leader", "1 on the replica that leads, 0 on the others.", self._leader.leads)
        if self._leader.listens is not None:
            yield _gauge(
                "listening",
                "Whether Redis notifies the leader of pushes; only the leader reports it.",
                self._leader.listens,
            )


class WatchGauges(Collector):
    def __init__(self, cache: WatchState) -> None:
        self._cache = cache

    def collect(self) -> Iterator[Metric]:
        yield _gauge(
            "watch_behind_seconds",
            "How old the workload cache may be; 0 while its watches keep up.",
            _seconds(self._cache.behind()),
        )
        yield _total("watch_breaks", "Watches that could not resume, by reason.", self._cache.breaks, "reason")


class StoreGauges(Collector):
    def __init__(self, store: StoreState) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        yield _gauge(
            "sessions_unreadable",
            "Sessions whose queue or record in Redis this replica cannot read; their status says how to repair them.",
            self._store.unreadable,
        )


class AdmissionGauges(Collector):
    def __init__(self, admission: AdmissionQueue) -> None:
        self._admission = admission

    def collect(self) -> Iterator[Metric]:
        yield _gauge("helm_line", "Creates and deletes that run helm or wait for it.", self._admission.admitted)
        yield _total(
            "refused", "Creates and deletes answered 429 because the queue for helm was full.", self._admission.refused
        )


class PartGauges(Collector):
    def __init__(self, supervisor: SupervisorState) -> None:
        self._supervisor = supervisor

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily(
            f"{PREFIX}part_up",
            "1 while a background task of this process works, 0 while it fails, by task.",
            labels=["part"],
        )
        for name, state in self._supervisor.states().items():
            up.add_metric([name], not state.failure)
        yield up
        yield _total(
            "part_restarts",
            "Restarts of background tasks, by task.",
            self._supervisor.restarts,
            "part",
        )


class ReconcilerGauges(Collector):
    def __init__(self, reconciler: ReconcilerState) -> None:
        self._reconciler = reconciler

    def collect(self) -> Iterator[Metric]:
        steps = {step.value: self._reconciler.done.get(step, 0) for step in Step}
        yield _total("steps", "Steps that the reconciler has carried out, by step.", steps, "step")
        yield _total(
            "retries",
            "Reconciliations that were retried because a step failed.",
            self._reconciler.retries,
        )


class GatewayGauges(Collector):
    def __init__(self, gateway: GatewayState) -> None:
        self._gateway = gateway

    def collect(self) -> Iterator[Metric]:
        traffic = self._gateway.traffic
        yield _gauge("gateway_connections", "Open client connections.", traffic.connections)
        yield _gauge("gateway_websockets", "Open WebSockets.", traffic.websockets)
        yield _gauge("gateway_held", "Requests and waiting pages that wait for a pod.", traffic.held)
        yield _gauge("gateway_queued", "Requests that wait for other requests of their session.", traffic.queued)


class SessionGauges(Collector):
    """Without counts (Redis is unavailable) these families are missing: unknown is not 0."""

    def __init__(self, counter: SessionCounter, counts: SessionCounts | None = None) -> None:
        self._counter = counter
        self._counts = counts

    async def refresh(self) -> None:
        """Count the sessions; call it before each scrape, since a collector cannot wait for Redis."""
        try:
            self._counts = await self._counter.count()
        except Unavailable as unavailable:
            log.warning("sessions are not counted: %s does not answer", unavailable.part)
            self._counts = None

    def collect(self) -> Iterator[Metric]:
        if self._counts is not None:
            yield from _sessions(self._counts)


def _sessions(counts: SessionCounts) -> Iterator[Metric]:
    phases = GaugeMetricFamily(
        f"{PREFIX}sessions",
        "Sessions by phase; released ones only while a kept volume is left. Every replica reports the same.",
        labels=["phase"],
    )
    for phase in Phase:
        phases.add_metric([phase], counts.phases[phase])
    yield phases
    yield _gauge("sessions_parked", "Parked sessions, which KEDA ignores.", counts.parked)
    yield _gauge("queues_filled", "Sessions whose wake queue is not empty.", counts.queued)
    yield _gauge("queue_tokens", "Tokens in all wake queues.", counts.tokens)
    yield _gauge("wakes_pending", "Wakes whose pod is not ready yet, or that KEDA has not seen yet.", counts.pending)
    yield _gauge(
        "wakes_pending_oldest_seconds", "Age of the oldest pending wake; 0 if there is none.", _seconds(counts.oldest)
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
