"""Metrics that are read at each scrape, since other parts hold these states and totals anyway: a collector per part.

A part that this process does not run has no collector, and so no series.
"""

import logging
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import timedelta
from typing import Generic, Protocol, TypeVar

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.domain.admission_queue import AdmissionQueue
from service.domain.errors import Unavailable
from service.domain.expiry import ExpiryReason
from service.domain.lifecycle import Step
from service.domain.metrics import Traffic
from service.domain.phase import Phase
from service.domain.rollout import RolloutCounts
from service.domain.session_counts import SessionCounts
from service.domain.supervisor import PartState

log = logging.getLogger(__name__)

PREFIX = "user_pods_"
T = TypeVar("T")
M = TypeVar("M", GaugeMetricFamily, CounterMetricFamily)


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


class ExpirerState(Protocol):
    @property
    def warned(self) -> Mapping[ExpiryReason, int] | None:
        """Sessions whose users are warned of a deletion; None while another replica leads."""


class SupervisorState(Protocol):
    def states(self) -> Mapping[str, PartState]: ...
    @property
    def restarts(self) -> Mapping[str, int]: ...


class _Part(Collector, Generic[T]):
    """Reads one part of the process."""

    def __init__(self, part: T) -> None:
        self._part = part


class LeaderGauges(_Part[LeaderState]):
    def collect(self) -> Iterator[Metric]:
        yield _gauge("leader", "1 on the replica that leads, 0 on the others.", self._part.leads)
        if self._part.listens is not None:
            about = "Whether Redis notifies the leader of pushes; only the leader reports it."
            yield _gauge("listening", about, self._part.listens)


class WatchGauges(_Part[WatchState]):
    def collect(self) -> Iterator[Metric]:
        behind, about = self._part.behind(), "How old the workload cache may be; 0 while its watches keep up."
        yield _gauge("watch_behind_seconds", about, _seconds(behind))
        yield _total("watch_breaks", "Watches that could not resume, by reason.", self._part.breaks, "reason")


class StoreGauges(_Part[StoreState]):
    def collect(self) -> Iterator[Metric]:
        yield _gauge(
            "sessions_unreadable",
            "Sessions whose queue or record in Redis this replica cannot read; their status says how to repair them.",
            self._part.unreadable,
        )


class AdmissionGauges(_Part[AdmissionQueue]):
    def collect(self) -> Iterator[Metric]:
        yield _gauge("helm_line", "Creates and deletes that run helm or wait for it.", self._part.admitted)
        about = "Creates and deletes answered 429 because the queue for helm was full."
        yield _total("refused", about, self._part.refused)


class PartGauges(_Part[SupervisorState]):
    def collect(self) -> Iterator[Metric]:
        up = {name: not state.failure for name, state in self._part.states().items()}
        yield _gauge(
            "part_up", "1 while a background task of this process works, 0 while it fails, by task.", up, "part"
        )
        yield _total("part_restarts", "Restarts of background tasks, by task.", self._part.restarts, "part")


class ReconcilerGauges(_Part[ReconcilerState]):
    def collect(self) -> Iterator[Metric]:
        steps = {step.value: self._part.done.get(step, 0) for step in Step}
        yield _total("steps", "Steps that the reconciler has carried out, by step.", steps, "step")
        yield _total("retries", "Reconciliations that were retried because a step failed.", self._part.retries)


class ExpirerGauges(_Part[ExpirerState]):
    def collect(self) -> Iterator[Metric]:
        if (warned := self._part.warned) is not None:
            counts = {reason.value: warned.get(reason, 0) for reason in ExpiryReason}
            about = "Sessions whose users are warned of a deletion, by its reason; only the leader reports it."
            yield _gauge("sessions_expiring", about, counts, "reason")


class GatewayGauges(_Part[GatewayState]):
    def collect(self) -> Iterator[Metric]:
        traffic = self._part.traffic
        yield _gauge("gateway_connections", "Open client connections.", traffic.connections)
        yield _gauge("gateway_websockets", "Open WebSockets.", traffic.websockets)
        yield _gauge("gateway_held", "Requests and waiting pages that wait for a pod.", traffic.held)
        yield _gauge("gateway_queued", "Requests that wait for other requests of their session.", traffic.queued)


class CountedGauges(Collector, Generic[T]):
    """Gauges of a count. Without one (Redis is unavailable) their families are missing: unknown is not 0."""

    def __init__(self, count: Callable[[], Awaitable[T]], counts: T | None = None) -> None:
        """`count` raises RedisUnavailable."""
        self._count = count
        self._counts = counts

    async def refresh(self) -> None:
        """Count; call it before each scrape, since a collector can neither wait nor let other tasks run."""
        try:
            self._counts = await self._count()
        except Unavailable as unavailable:
            log.warning("sessions are not counted: %s does not answer", unavailable.part)
            self._counts = None

    def collect(self) -> Iterator[Metric]:
        if self._counts is not None:
            yield from self._families(self._counts)

    @abstractmethod
    def _families(self, counts: T) -> Iterator[Metric]: ...


class ReleaseGauges(CountedGauges[RolloutCounts]):
    def _families(self, counts: RolloutCounts) -> Iterator[Metric]:
        about = (
            "Sessions that an upgrade of all would take: their release has another chart or other chart values than"
            " new ones, or a failed upgrade. Every replica reports it."
        )
        yield _gauge("sessions_outdated", about, counts.outdated)


class SessionGauges(CountedGauges[SessionCounts]):
    def _families(self, counts: SessionCounts) -> Iterator[Metric]:
        about = "Sessions by phase, as `GET /summary` counts them. Every replica reports the same."
        yield _gauge("sessions", about, {phase.value: counts.phases[phase] for phase in Phase}, "phase")
        yield _gauge("sessions_parked", "Parked sessions, which KEDA ignores.", counts.parked)
        yield _gauge("queues_filled", "Sessions whose wake queue is not empty.", counts.queued)
        yield _gauge("queue_tokens", "Tokens in all wake queues.", counts.tokens)
        yield _gauge(
            "wakes_pending", "Wakes whose pod is not ready yet, or that KEDA has not seen yet.", counts.pending
        )
        oldest = _seconds(counts.oldest)
        yield _gauge("wakes_pending_oldest_seconds", "Age of the oldest pending wake; 0 if there is none.", oldest)


def _gauge(name: str, about: str, value: float | Mapping[str, float], label: str = "") -> Metric:
    return _filled(GaugeMetricFamily(f"{PREFIX}{name}", about, labels=[label] if label else ()), value)


def _total(name: str, about: str, value: float | Mapping[str, float], label: str = "") -> Metric:
    return _filled(CounterMetricFamily(f"{PREFIX}{name}", about, labels=[label] if label else ()), value)


def _filled(family: M, value: float | Mapping[str, float]) -> M:
    """Add the series: one for each value of the label, or the only one of a family without a label."""
    series = {(key,): number for key, number in value.items()} if isinstance(value, Mapping) else {(): value}
    for labels, number in series.items():
        family.add_metric(labels, number)
    return family


def _seconds(span: timedelta | None) -> float:
    return span.total_seconds() if span else 0.0
