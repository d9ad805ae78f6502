"""What delays a wake, once a person should hear of it.

Kubernetes raises warnings on ordinary wakes too: a volume is not attached yet, a node is still being added. It retries
by itself and usually succeeds within seconds, so people hear only of what lasts.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from service.domain.names import SessionId
from service.domain.workload import Workload

LASTS = 12.0
"""Seconds after which a delay is told."""
_SAME = 10.0
"""Seconds without the delay after which the next one is another: a pod that crashes looks fine for moments."""
_LATE = 3
"""So many times as long as usual is late."""
_REMEMBERED = 10_000
"""Sessions whose delays are remembered."""


class DelayKind(StrEnum):
    """The catalogue's text is `page.waiting.<kind>`."""

    RETRIED = "retried"
    """Kubernetes retries by itself."""
    PAUSED = "paused"
    """An operator has paused the session, so nothing happens until they resume it."""
    FINAL = "final"
    """Nothing retries it."""
    LATE = "late"
    """The wake takes longer than it usually does, and nothing says why."""


@dataclass(frozen=True, slots=True)
class Delay:
    kind: DelayKind
    reason: str
    """In Kubernetes' own words, if it says any."""


def is_late(waited: float, usual: float | None) -> bool:
    """Whether a wake has taken longer than people were told to expect. Both in seconds; `usual` is None if unknown."""
    return usual is not None and waited >= max(LASTS, _LATE * usual)


class Delays:
    """Since when each session that is watched has been delayed. Another replica measures anew."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seen: dict[SessionId, tuple[float, float]] = {}
        """When a delay was first seen, and last."""

    def lasting(self, workload: Workload, reason: str | None) -> Delay | None:
        """What to tell people, given what delays the workload now. Call it every few seconds while somebody waits."""
        if reason is None:
            return None
        if workload.paused or workload.final:
            return Delay(DelayKind.FINAL if workload.final else DelayKind.PAUSED, reason)
        now = self._now()
        first, last = self._seen.pop(workload.uuid, (now, now))
        if now - last > _SAME:
            first = now
        if len(self._seen) >= _REMEMBERED:
            self._seen.pop(next(iter(self._seen)))
        self._seen[workload.uuid] = first, now
        return Delay(DelayKind.RETRIED, reason) if now - first >= LASTS else None
