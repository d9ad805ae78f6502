"""Records each visit of a person once, however many pages it opens."""

import time
from collections.abc import Callable

from service.domain.journal import Journal, Visited, hashed
from service.domain.names import SessionId
from service.domain.ports import WorkloadCache

_VISIT_ENDS = 600.0
"""Seconds without a page opened after which the next one begins a new visit."""
_WAITING_VISIT_ENDS = 60.0
"""The same for pages of a sleeping workspace: the waiting page reloads itself every few seconds."""
_REMEMBERED = 10_000
"""Sessions whose last page is remembered."""


class VisitRecorder:
    """`clock` returns monotonic seconds."""

    def __init__(self, journal: Journal, cache: WorkloadCache, clock: Callable[[], float] = time.monotonic) -> None:
        self._journal = journal
        self._cache = cache
        self._clock = clock
        self._last: dict[SessionId, float] = {}
        """When each session's last page was opened, the oldest first."""

    def page_opened(self, uuid: SessionId, *, asleep: bool, seconds: float) -> None:
        """A person opened a page and got a response after `seconds`. `asleep`: the workspace was asleep."""
        now, last = self._clock(), self._last.pop(uuid, float("-inf"))
        self._last[uuid] = now
        if len(self._last) > _REMEMBERED:
            del self._last[next(iter(self._last))]
        if now - last >= (_WAITING_VISIT_ENDS if asleep else _VISIT_ENDS):
            user = hashed(self._cache.workload(uuid).user_id)
            self._journal.note(Visited(uuid=uuid, user=user, asleep=asleep, seconds=seconds))
