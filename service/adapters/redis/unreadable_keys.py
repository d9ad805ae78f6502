"""Keys of single sessions that cannot be read: somebody else wrote them, by hand or by mistake."""

import logging
import time
from collections.abc import Callable, Iterable
from enum import StrEnum

from service.domain.names import SessionId, queue_key, session_key

log = logging.getLogger(__name__)


_OLD = 1800.0
"""Seconds after which a fault that nobody has seen again is forgotten: another replica may have deleted the session. A
recovery's pass over everything sees every record more often."""


class Part(StrEnum):
    QUEUE = "queue"
    RECORD = "record"


class Faults:
    """Which sessions are unreadable, as far as this replica has looked. Logs a change, not a look."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[Part, dict[SessionId, str]] = {part: {} for part in Part}
        self._seen: dict[tuple[Part, SessionId], float] = {}

    def __len__(self) -> int:
        """Sessions with a fault of any part."""
        for (part, uuid), at in list(self._seen.items()):
            if self._clock() - at > _OLD:
                self._drop(part, uuid)
        return len(set().union(*self._known.values()))

    def gone(self, uuid: SessionId) -> None:
        """The session has been forgotten, and its faults with it."""
        for part in Part:
            self._drop(part, uuid)

    def _drop(self, part: Part, uuid: SessionId) -> None:
        self._known[part].pop(uuid, None)
        self._seen.pop((part, uuid), None)

    def looked(self, part: Part, uuids: Iterable[SessionId], faults: dict[SessionId, str]) -> None:
        """These sessions have been looked at, and these of them were found unreadable."""
        known = self._known[part]
        if not known and not faults:
            return  # nearly always
        for uuid in uuids:
            fault, before = faults.get(uuid), known.get(uuid)
            if fault is not None:
                self._seen[part, uuid] = self._clock()
            if fault == before:
                continue
            if fault is None:
                self._drop(part, uuid)
                log.info("the session can be read again", extra={"uuid": uuid, "part": part.value})
            else:
                known[uuid] = fault
                log.error("a session cannot be read: %s", fault, extra={"uuid": uuid, "part": part.value})


def of_queue(uuid: SessionId, type_: str) -> str:
    """What is wrong with a queue that is no list, and what repairs it."""
    key = queue_key(uuid)
    return f"{key} in Redis is a {type_}, not a list; `redis-cli DEL {key}` repairs it, and so does a create"


def of_pending(uuid: SessionId) -> str:
    """What is wrong with a pending wake without a time, and what repairs it."""
    return (
        f"the time of its pending wake in Redis is none; `redis-cli ZREM user-pods:pending {uuid}` repairs it, and so"
        " does a create"
    )


def of_record(uuid: SessionId, problem: str) -> str:
    """What is wrong with a record, and what repairs it."""
    key = session_key(uuid)
    return f"{key} in Redis {problem}; `redis-cli DEL {key}`, then a create, restores it, and so does a create alone"
