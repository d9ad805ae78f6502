"""Derives the transitions of each session's pods from its workloads. A life lasts while the session wants a pod."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from service.domain.names import SessionId
from service.domain.workload import Workload


class LifeEvent(StrEnum):
    WANTED = "wanted"
    READY = "ready"
    """Once for each pod."""
    FAILED = "failed"
    """Once for each kind of failure in a row: its message may change while it lasts."""
    SLEPT = "slept"
    GONE = "gone"
    """No pod is wanted, and the session is deleted or incomplete."""


@dataclass(frozen=True, slots=True)
class Transition:
    event: LifeEvent
    workload: Workload
    at: datetime
    since: datetime | None
    """When the pod was first wanted; None when this replica did not see that.

    For a ready pod that has replaced another one: when it was created.
    """
    pod: str | None
    """The uid of the life's newest pod."""

    @property
    def seconds(self) -> float | None:
        """How long the life has lasted."""
        return None if self.since is None else max(0.0, (self.at - self.since).total_seconds())


@dataclass(slots=True)
class _Life:
    since: datetime | None
    pod: str | None = None
    ready: str | None = None
    """The uid of the pod that was last seen ready."""
    failed: str | None = None
    """The kind of the last failure."""


class PodLives:
    """The present life of every session that has one."""

    def __init__(self) -> None:
        self._lives: dict[SessionId, _Life] = {}

    def start(self, workloads: Iterable[Workload], at: datetime) -> None:
        """Record the current state as known: it causes no transitions."""
        self._lives.clear()
        for workload in workloads:
            list(self.observe(workload, at))
        for life in self._lives.values():
            life.since = None

    def observe(self, workload: Workload, at: datetime) -> Iterator[Transition]:
        """What has changed since the last workload of the session."""
        gone = workload.broken_reason is not None or workload.deleting
        if workload.replicas == 0:
            life = self._lives.pop(workload.uuid, None)
            if gone or life is not None:
                life = life or _Life(None)
                yield Transition(LifeEvent.GONE if gone else LifeEvent.SLEPT, workload, at, life.since, life.pod)
        elif not gone:
            life = self._lives.get(workload.uuid)
            events = [] if life is not None else [LifeEvent.WANTED]
            life = life or self._lives.setdefault(workload.uuid, _Life(at))
            replaces = life.ready is not None
            for event in events + _advance(life, workload):
                since = life.since
                if event is LifeEvent.READY and replaces:
                    since = workload.pod.created_at if workload.pod is not None else None
                yield Transition(event, workload, at, since, life.pod)


def _advance(life: _Life, workload: Workload) -> list[LifeEvent]:
    pod, failure = workload.pod, workload.failure
    life.pod = pod.uid if pod is not None else life.pod
    if pod is not None and pod.ready and workload.ready >= workload.replicas:
        if life.ready != pod.uid:
            life.ready, life.failed = pod.uid, None
            return [LifeEvent.READY]
    elif failure is not None and life.failed != (kind := failure.partition(":")[0]):
        life.failed = kind
        return [LifeEvent.FAILED]
    return []
