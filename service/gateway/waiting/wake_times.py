"""How long a wake takes here, for people who wait for one."""

import statistics
from collections import deque
from collections.abc import Iterable

from service.domain.errors import SessionError
from service.domain.history import Entry, Kind
from service.domain.names import SessionId
from service.domain.queries import SessionQueries

_RECENT = 5
"""A session's own last wakes that count."""
_REMEMBERED = 50
"""Wakes of other sessions that count."""


class WakeTimes:
    """The session's own recent wakes tell most: they have its image, its files and its node.

    A session that has none, on its first visit, is expected to wake like those that pages of this process waited for.
    """

    def __init__(self, queries: SessionQueries) -> None:
        self._queries = queries
        self._recent: deque[float] = deque(maxlen=_REMEMBERED)

    def record(self, seconds: float) -> None:
        """A wake was watched from its beginning until its pod responded."""
        if seconds > 0:
            self._recent.append(seconds)

    async def expected(self, uuid: SessionId) -> float | None:
        """The seconds that a wake usually takes, from its request; None when nothing is known. Reads Redis once."""
        try:
            history = await self._queries.history(uuid)
        except SessionError:
            history = ()
        own = list(_wakes(history))[:_RECENT]
        seen = own or self._recent
        return statistics.median(seen) if seen else None


def _wakes(history: Iterable[Entry]) -> Iterable[float]:
    """The seconds of each wake that reached a ready pod, newest first."""
    return (entry.seconds for entry in history if entry.kind is Kind.WAKE and entry.ready_at and entry.seconds)
