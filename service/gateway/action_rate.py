"""How often a session may be asked to wake, stay awake, sleep or restart."""

import math
import time
from collections.abc import Callable

from service.domain.names import SessionId
from service.gateway.errors import GatewayError, PageKind

BURST = 10
"""Actions at once."""
INTERVAL = 5.0
"""Seconds that each further one takes."""
_REMEMBERED = 10_000
"""Sessions whose actions are remembered."""


class ActionRate:
    """A token bucket for each session, in this process. `clock` returns monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._paid: dict[SessionId, float] = {}
        """Until when each session's actions last, at one in each INTERVAL; those that acted last at the end."""

    def take(self, uuid: SessionId) -> None:
        """Allow one action. Raises GatewayError when there were too many."""
        now = self._clock()
        paid = max(self._paid.pop(uuid, now), now) + INTERVAL
        wait = math.ceil(paid - now - BURST * INTERVAL)
        self._paid[uuid] = paid if wait <= 0 else paid - INTERVAL
        if len(self._paid) > _REMEMBERED:
            del self._paid[next(iter(self._paid))]
        if wait > 0:
            detail = f"Wait {wait} s, then try again."
            raise GatewayError(429, "That was too often", detail, retry_after=wait, page=PageKind.TOO_OFTEN)
