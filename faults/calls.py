"""One call to the service, and whether its answer was right, an honest refusal, or bad."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Operation(StrEnum):
    CREATE = "create"
    WAKE = "wake"
    ACTIVITY = "activity"
    SLEEP = "sleep"
    DELETE = "delete"
    STATUS = "status"
    LIST = "list"
    HEALTH = "health"


PATIENCE: Mapping[Operation, float] = {
    # What reads or writes Redis only: its timeout (2 s) and a margin for a busy machine.
    **dict.fromkeys((Operation.WAKE, Operation.ACTIVITY, Operation.STATUS, Operation.LIST), 4.0),
    # The API server's timeout (3 s) beside that of Redis.
    **dict.fromkeys((Operation.SLEEP, Operation.HEALTH), 7.0),
    # The session's lease and then helm, each for as long as helm may take (15 s), and the calls around them.
    **dict.fromkeys((Operation.CREATE, Operation.DELETE), 40.0),
}
"""Seconds after which an answer counts as a hang."""

_PROBLEM = "application/problem+json"
_HONEST: Mapping[Operation, frozenset[str]] = {
    Operation.CREATE: frozenset({"session-busy", "too-many-creates"}),
    Operation.DELETE: frozenset({"session-busy", "too-many-creates"}),
    Operation.ACTIVITY: frozenset({"session-asleep"}),
}
"""Refusals that are right at any time."""
_GONE = frozenset({"session-not-found", "session-deleting", "session-released"})
_MEMBERS: Mapping[Operation, frozenset[str]] = {
    Operation.CREATE: frozenset({"uuid", "user_id", "status"}),
    **dict.fromkeys((Operation.WAKE, Operation.ACTIVITY, Operation.SLEEP), frozenset({"uuid", "action"})),
    Operation.STATUS: frozenset({"uuid", "session", "queue_length", "replicas", "phase"}),
    Operation.LIST: frozenset({"sessions", "cursor"}),
    Operation.HEALTH: frozenset({"status"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request. Times are those of `time.monotonic`, in seconds."""

    operation: Operation
    replica: str
    user: str
    uuid: str = ""
    began: float
    ended: float
    status: int | None = None
    """None: no answer came."""
    media: str = ""
    body: Any = None
    error: str = ""
    """Why there is no answer."""
    excused: bool = False
    """Whether the trial killed or froze the replica during the call."""

    @property
    def accepted(self) -> bool:
        return self.status is not None and self.status < 300

    @property
    def problem(self) -> str:
        """Kind of the problem document; empty for any other answer."""
        if self.media != _PROBLEM or not isinstance(self.body, dict):
            return ""
        return str(self.body.get("type", "")).removeprefix("/problems/")

    def __str__(self) -> str:
        about = self.uuid or self.user
        told = self.error if self.status is None else f"{self.status} {self.problem}".strip()
        return f"{self.operation} {about} at {self.replica} after {self.ended - self.began:.1f} s: {told}"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What callers must tolerate during one fault."""

    parts: frozenset[str] = frozenset()
    """Parts that a 503 or 504 may name."""
    kinds: frozenset[str] = frozenset()
    """Kinds of problems that are also honest."""
    victims: set[str] = field(default_factory=set)
    """Ids of the sessions under fault; all others must work as usual."""
    stale: float = 10
    """Seconds after which a status must match the cluster, or say that it is behind."""


def fault_of(call: Call, rules: Rules, *, may_be_gone: bool = False) -> str | None:
    """What is bad about the answer; None when it is right or an honest refusal.

    `may_be_gone`: a delete of the session was asked for.
    """
    if call.status is None:
        return None if call.excused else f"no answer: {call.error}"
    if call.ended - call.began > PATIENCE[call.operation] and not call.excused:
        return "the answer was too late"
    if call.accepted or call.operation is Operation.HEALTH:
        return _fault_of_shape(call)
    return _fault_of_refusal(call, rules, may_be_gone=may_be_gone)


def _fault_of_shape(call: Call) -> str | None:
    wanted = _MEMBERS.get(call.operation, frozenset())
    found = call.body.keys() if isinstance(call.body, dict) else set()
    missing = ", ".join(sorted(wanted - found))
    return f"the answer lacks {missing}" if missing else None


def _fault_of_refusal(call: Call, rules: Rules, *, may_be_gone: bool) -> str | None:
    kind = call.problem
    if not kind or call.body.get("status") != call.status or not call.body.get("detail"):
        return "the error is not a problem document"
    if call.status == 500:
        return "an internal error"
    if kind in _HONEST.get(call.operation, frozenset()) | rules.kinds or (may_be_gone and kind in _GONE):
        return None
    part = call.body.get("part")
    if part in rules.parts or call.uuid in rules.victims:
        return None
    return f"names the wrong part ({part})" if part else "refused without a reason"
