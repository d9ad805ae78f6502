"""Keys of single sessions that cannot be read: somebody else wrote them, by hand or by mistake."""

import logging
from collections.abc import Iterable
from enum import StrEnum

from service.domain.names import SessionId, queue_key, session_key

log = logging.getLogger(__name__)


class Part(StrEnum):
    QUEUE = "queue"
    RECORD = "record"


class Faults:
    """Which sessions are unreadable, as far as this replica has looked. Logs a change, not a look."""

    def __init__(self) -> None:
        self._known: dict[Part, dict[SessionId, str]] = {part: {} for part in Part}

    def __len__(self) -> int:
        """Sessions with a fault of any part."""
        return len(set().union(*self._known.values()))

    def looked(self, part: Part, uuids: Iterable[SessionId], faults: dict[SessionId, str]) -> None:
        """These sessions have been looked at, and these of them were found unreadable."""
        known = self._known[part]
        if not known and not faults:
            return  # nearly always
        for uuid in uuids:
            fault = faults.get(uuid)
            if fault == known.get(uuid):
                continue
            if fault is None:
                del known[uuid]
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
