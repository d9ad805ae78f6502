"""The progress of a wake, from the accepted call to the ready pod, as a sequence of events."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from service.domain.workload import Workload


class Stage(StrEnum):
    """How far a wake has come. Each stage occurs once per wake; only warnings may repeat."""

    ACCEPTED = "accepted"
    """Begins a wake."""
    UNPARKED = "unparked"
    """KEDA polls the queue again. Happens concurrently with the scaling, so either may come first."""
    SCALED = "scaled"
    """A pod is wanted."""
    SCHEDULED = "scheduled"
    """The pod is assigned to a node."""
    PULLED = "pulled"
    """The image is on the node."""
    STARTED = "started"
    """The workspace's container runs."""
    READY = "ready"
    WARNING = "warning"
    """A warning in Kubernetes' own words."""
    FAILED = "failed"
    """Something failed. Kubernetes retries it unless it is final; `ready` may follow in either case."""
    ASLEEP = "asleep"
    """Put to sleep, or given up, before it was ready."""


@dataclass(frozen=True, slots=True)
class ProgressUpdate:
    """Something new about the wake in progress."""

    stage: Stage
    reason: str | None = None
    final: bool = False
    """Of `failed`: nothing retries it, so waiting does not help."""


@dataclass(frozen=True, slots=True)
class Event:
    """An update as it was written."""

    id: str
    """Two numbers, `1790000000000-0`, which grow from event to event, whichever replica wrote it."""
    stage: Stage
    at: datetime
    after: timedelta
    """Since the wake was accepted."""
    reason: str | None = None
    final: bool = False
    """See `ProgressUpdate`."""


def has_ended(wake: Sequence[Event]) -> bool:
    """Whether waiting for further events is pointless."""
    return any(event.stage in (Stage.READY, Stage.ASLEEP) or event.final for event in wake)


def events_after(wake: Sequence[Event], after: str | None) -> Sequence[Event]:
    """The events after the one with that id; all of them when `after` is None or not an id."""
    last = _order(after)
    return [event for event in wake if _order(event.id) > last]


def _order(id_: str | None) -> tuple[int, int]:
    """The id's two numbers: a time, and a counter within that time."""
    found = re.fullmatch(r"([0-9]{1,20})-([0-9]{1,20})", id_ or "")
    return (int(found[1]), int(found[2])) if found else (0, 0)


def reached(workload: Workload) -> Iterator[ProgressUpdate]:
    """The updates that the workload shows, in the order in which they occur."""
    if workload.deployed and workload.polled:
        yield ProgressUpdate(Stage.UNPARKED)
    if workload.paused:
        yield ProgressUpdate(Stage.WARNING, workload.paused)
    if workload.replicas:  # or else a pod that still exists belongs to the session's life before
        yield from _reached_by_pod(workload)


def _reached_by_pod(workload: Workload) -> Iterator[ProgressUpdate]:
    yield ProgressUpdate(Stage.SCALED)
    pod = workload.pod
    if pod is not None and pod.scheduled:
        yield ProgressUpdate(Stage.SCHEDULED)
    if pod is not None and pod.started:
        yield ProgressUpdate(Stage.PULLED)
        yield ProgressUpdate(Stage.STARTED)
    if workload.ready >= workload.replicas:
        if pod is not None and pod.ready:
            yield ProgressUpdate(Stage.READY)
        return
    if workload.warning:
        yield ProgressUpdate(Stage.WARNING, workload.warning)
    if workload.failure:
        yield ProgressUpdate(Stage.FAILED, workload.failure, workload.final)
