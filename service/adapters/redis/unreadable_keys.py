"""Keys of sessions that cannot be read because another program or a person has overwritten them."""

import logging
import time
from collections.abc import Callable, Iterable
from enum import StrEnum

from service.domain.names import SessionId, queue_key, session_key

log = logging.getLogger(__name__)


_FORGET_AFTER = 1800.0
"""Seconds after which a read error that has not occurred again is forgotten: another replica may have deleted the
session. Recovery reads every record more often than that."""


class Part(StrEnum):
    QUEUE = "queue"
    RECORD = "record"


class UnreadableKeys:
    """The sessions that this replica found unreadable. Logs each change once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[tuple[Part, SessionId], tuple[str, float]] = {}
        """Each read error, and when it last occurred."""

    def __len__(self) -> int:
        """The number of unreadable sessions."""
        oldest = self._clock() - _FORGET_AFTER
        self._known = {key: (error, at) for key, (error, at) in self._known.items() if at >= oldest}
        return len({uuid for _, uuid in self._known})

    def forget(self, uuid: SessionId) -> None:
        """Forget the session and its read errors."""
        for part in Part:
            self._known.pop((part, uuid), None)

    def update(self, part: Part, uuids: Iterable[SessionId], errors: dict[SessionId, str]) -> None:
        """Note that these sessions were read, and which of them have a read error."""
        if not self._known and not errors:
            return  # the usual case
        for uuid in uuids:
            error, before = errors.get(uuid), self._known.pop((part, uuid), None)
            if error is not None:
                self._known[part, uuid] = (error, self._clock())
                if before is None or error != before[0]:
                    log.error("a session cannot be read: %s", error, extra={"uuid": uuid, "part": part.value})
            elif before is not None:
                log.info("the session can be read again", extra={"uuid": uuid, "part": part.value})


def queue_error(uuid: SessionId, type_: str) -> str:
    """The read error of a queue that is not a list, with the repair."""
    key = queue_key(uuid)
    return f"{key} in Redis is a {type_}, not a list; `redis-cli DEL {key}` repairs it, and so does a create"


def pending_error(uuid: SessionId) -> str:
    """The read error of a pending wake without a valid time, with the repair."""
    return (
        f"the time of its pending wake in Redis is invalid; `redis-cli ZREM user-pods:pending {uuid}` repairs it, and"
        " so does a create"
    )


def record_error(uuid: SessionId, problem: str) -> str:
    """The read error of a record, with the repair."""
    key = session_key(uuid)
    return f"{key} in Redis {problem}; `redis-cli DEL {key}`, then a create, restores it, and so does a create alone"
