"""Whether load balancers should send requests to this process."""

from typing import Protocol

from service.edge.drain import Drain


class Cache(Protocol):
    @property
    def has_synced(self) -> bool:
        """Whether everything has been listed once."""


class Readiness:
    """Ready once the cache is filled, until the process begins to drain. A process that drains still serves."""

    def __init__(self, cache: Cache, drain: Drain) -> None:
        self._cache = cache
        self.drain = drain

    def is_ready(self) -> bool:
        return self._cache.has_synced and not self.drain.begun.is_set()

    @property
    def closing(self) -> bool:
        """Event streams must end now; their clients resume at another replica."""
        return self.drain.over.is_set()

    def close(self) -> None:
        """The servers are closing, drained or not."""
        self.drain.begun.set()
        self.drain.over.set()
