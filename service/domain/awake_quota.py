"""How many sessions may be awake in all, so that wakes stop before the cluster is full."""

import time
from collections.abc import Callable

from service.domain.errors import AwakeLimitReached
from service.domain.names import SessionId
from service.domain.ports import WorkloadCache

_SHOWS_WITHIN = 30.0
"""Seconds for which a session counts after it was let through, until the cache shows that its pod is wanted."""


class AwakeQuota:
    """`limit`: sessions whose pod is wanted. It counts as the workload cache shows changes, so a wake costs nothing."""

    def __init__(self, cache: WorkloadCache, *, limit: int, now: Callable[[], float] = time.monotonic) -> None:
        self._cache = cache
        self._limit = limit
        self._now = now
        self._awake: set[SessionId] = set()
        self._admitted: dict[SessionId, float] = {}
        """When sessions were let through that the cache does not show awake yet, the oldest first."""
        self._has_begun = False
        cache.subscribe(self._changed)

    def check(self, uuid: SessionId) -> None:
        """Let the session wake, if it is not awake already. Raises AwakeLimitReached."""
        if not self._has_begun:
            self._has_begun = True
            for each in self._cache.uuids():
                self._changed(each)
        if uuid in self._awake or uuid in self._admitted:
            return
        self._forget_old()
        if len(self._awake) + len(self._admitted) >= self._limit:
            raise AwakeLimitReached
        self._admitted[uuid] = self._now()

    def keep(self, uuid: SessionId) -> None:
        """Let a session through whatever the limit: it is awake, although the cache shows it asleep for a moment."""
        self._admitted[uuid] = self._now()

    def _changed(self, uuid: SessionId) -> None:
        if self._cache.workload(uuid).replicas > 0:
            self._awake.add(uuid)
            self._admitted.pop(uuid, None)
        else:
            self._awake.discard(uuid)

    def _forget_old(self) -> None:
        oldest = self._now() - _SHOWS_WITHIN
        while self._admitted and next(iter(self._admitted.values())) < oldest:
            self._admitted.pop(next(iter(self._admitted)))
