"""Notes the people who open their workspaces: once each, and not every page they turn."""

import time
from collections.abc import Callable

from service.domain.journal import Journal, Visited, hashed
from service.domain.names import SessionId
from service.domain.ports import WorkloadCache

_STAY = 600.0
"""Seconds without a page opened after which the next one is a new visit."""
_WAITING = 60.0
"""The same of pages that find a sleeper: the page that waits opens itself again every few seconds."""
_SESSIONS = 10_000
"""Remembered at most."""


class Arrivals:
    """`clock` gives seconds that never go back."""

    def __init__(self, journal: Journal, cache: WorkloadCache, clock: Callable[[], float] = time.monotonic) -> None:
        self._journal = journal
        self._cache = cache
        self._clock = clock
        self._last: dict[SessionId, float] = {}
        """When a page was last opened, in that order."""

    def opened(self, uuid: SessionId, *, asleep: bool, seconds: float) -> None:
        """Somebody has opened a page of the workspace, and been answered after `seconds`."""
        now, last = self._clock(), self._last.pop(uuid, float("-inf"))
        self._last[uuid] = now
        if len(self._last) > _SESSIONS:
            del self._last[next(iter(self._last))]
        if now - last >= (_WAITING if asleep else _STAY):
            user = hashed(self._cache.workload(uuid).user_id)
            self._journal.note(Visited(uuid=uuid, user=user, asleep=asleep, seconds=seconds))
