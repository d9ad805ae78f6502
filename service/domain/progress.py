"""A wake's way from its call to the ready pod, as news that are noted one by one and told to whoever follows."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from service.domain.session import Workload


class Stage(StrEnum):
    """What a piece of news is about. All but warnings are told once per wake."""

    ACCEPTED = "accepted"
    """Begins a wake."""
    UNPARKED = "unparked"
    """KEDA looks after the session again. Done beside the scaling, so either may come first."""
    SCALED = "scaled"
    """A pod is wanted."""
    SCHEDULED = "scheduled"
    """A node has taken the pod."""
    PULLED = "pulled"
    """The image is there."""
    STARTED = "started"
    """The workspace's container runs."""
    READY = "ready"
    WARNING = "warning"
    """Kubernetes' own words about what is not as it should be."""
    FAILED = "failed"
    """Something failed. Unless it is final Kubernetes retries it; in either case `ready` may still come."""
    ASLEEP = "asleep"
    """Sent to sleep, or given up, before it was ready."""


LAST = frozenset({Stage.READY, Stage.FAILED, Stage.ASLEEP})
"""After one of these the next `accepted` begins a new wake."""


@dataclass(frozen=True, slots=True)
class ProgressUpdate:
    """Something to note of the wake that is under way."""

    stage: Stage
    reason: str | None = None
    final: bool = False
    """Of `failed`: nothing retries it, so waiting is of no use."""


@dataclass(frozen=True, slots=True)
class Event:
    """News as they were noted."""

    id: str
    """Two numbers, `1790000000000-0`: greater from event to event, whichever replica tells of it."""
    stage: Stage
    at: datetime
    after: timedelta
    """Since the wake was accepted."""
    reason: str | None = None
    final: bool = False
    """As in News."""


def over(wake: Sequence[Event]) -> bool:
    """Whether nothing more is to be waited for."""
    return any(event.stage in (Stage.READY, Stage.ASLEEP) or event.final for event in wake)


def later(wake: Sequence[Event], after: str | None) -> Sequence[Event]:
    """What came after the event of that id; all of it when there was no such id, or none that is an id."""
    place = _place(after)
    return [event for event in wake if _place(event.id) > place]


def _place(id_: str | None) -> tuple[int, int]:
    """Where the id stands among all: it is made of a time and a number within that time."""
    found = re.fullmatch(r"([0-9]{1,20})-([0-9]{1,20})", id_ or "")
    return (int(found[1]), int(found[2])) if found else (0, 0)


def reached(workload: Workload) -> Iterator[ProgressUpdate]:
    """Everything that a wake has come to by now, in its order, as far as the cluster can tell."""
    if workload.deployed and workload.polled:
        yield ProgressUpdate(Stage.UNPARKED)
    yield from _pause(workload)
    if workload.replicas == 0:
        return  # a pod that is still to be seen is one of the life before
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


def _pause(workload: Workload) -> Iterator[ProgressUpdate]:
    if workload.paused:
        yield ProgressUpdate(Stage.WARNING, workload.paused)
