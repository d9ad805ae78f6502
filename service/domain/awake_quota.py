"""How many sessions may be awake, in all and of each group, so that wakes stop before the cluster is full."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from service.domain.errors import AwakeLimitReached
from service.domain.names import SessionId
from service.domain.ports import WorkloadCache

_SHOWS_WITHIN = 30.0
"""Seconds for which a session counts after it was let through, until the cache shows that its pod is wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AwakeLimits:
    """The most sessions that may be awake."""

    total: int | None = None
    groups: Mapping[str, int] = field(default_factory=dict)
    """By group. Sessions of other groups count for the total alone."""

    def __bool__(self) -> bool:
        return self.total is not None or bool(self.groups)

    def overlooks(self, group: str | None) -> bool:
        """Whether other groups have a limit, and this one has none: its name may be mistyped."""
        return bool(self.groups) and group is not None and group not in self.groups


@dataclass(slots=True)
class _Places:
    """Sessions and their groups."""

    groups: dict[SessionId, str | None] = field(default_factory=dict)
    taken: Counter[str | None] = field(default_factory=Counter)
    """How many there are of each group."""

    def add(self, uuid: SessionId, group: str | None) -> None:
        self.discard(uuid)
        self.groups[uuid] = group
        self.taken[group] += 1

    def discard(self, uuid: SessionId) -> None:
        if uuid in self.groups:
            self.taken[self.groups.pop(uuid)] -= 1


class AwakeQuota:
    """A session counts while its pod is wanted, as the workload cache shows changes: a wake costs nothing."""

    def __init__(self, cache: WorkloadCache, *, limits: AwakeLimits, now: Callable[[], float] = time.monotonic) -> None:
        self._cache = cache
        self._limits = limits
        self._now = now
        self._awake = _Places()
        self._admitted = _Places()
        """Those that were let through and that the cache does not show awake yet."""
        self._since: dict[SessionId, float] = {}
        """When each of those was let through, the oldest first."""
        self._has_begun = False
        cache.subscribe(self._changed)

    def check(self, uuid: SessionId) -> None:
        """Let the session wake, if it is not awake already. Raises AwakeLimitReached."""
        if not self._has_begun:
            self._has_begun = True
            for each in self._cache.uuids():
                self._changed(each)
        if uuid in self._awake.groups or uuid in self._since:
            return
        self._forget_old()
        group = self._cache.workload(uuid).assignment.group
        if _is_full(self._limits.total, len(self._awake.groups) + len(self._since)):
            raise AwakeLimitReached
        if group is not None and _is_full(self._limits.groups.get(group), self._taken(group)):
            raise AwakeLimitReached(group)
        self._admit(uuid)

    def keep(self, uuid: SessionId) -> None:
        """Let a session through whatever the limit: it is awake, although the cache shows it asleep for a moment."""
        self._admit(uuid)

    def _taken(self, group: str) -> int:
        return self._awake.taken[group] + self._admitted.taken[group]

    def _admit(self, uuid: SessionId) -> None:
        self._since[uuid] = self._now()
        self._admitted.add(uuid, self._cache.workload(uuid).assignment.group)

    def _changed(self, uuid: SessionId) -> None:
        workload = self._cache.workload(uuid)
        if workload.replicas > 0:
            self._awake.add(uuid, workload.assignment.group)
            self._release(uuid)
        else:
            self._awake.discard(uuid)

    def _release(self, uuid: SessionId) -> None:
        self._since.pop(uuid, None)
        self._admitted.discard(uuid)

    def _forget_old(self) -> None:
        oldest = self._now() - _SHOWS_WITHIN
        while self._since and next(iter(self._since.values())) < oldest:
            self._release(next(iter(self._since)))


def _is_full(limit: int | None, taken: int) -> bool:
    return limit is not None and taken >= limit
