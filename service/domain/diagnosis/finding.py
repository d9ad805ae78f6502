"""What a diagnosis finds."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from service.domain.names import SessionId, is_session_id

_OF_SESSIONS = frozenset(
    {
        "installation", "releases", "revisions", "orphans", "pods", "pauses", "sleeps", "unreadable", "redis-keys",
        "redis-lists", "records",
    }
)  # fmt: skip
"""Checks whose subjects are ids of sessions, or names that do not look like one. Names of profiles, storage classes and
charts often do."""


class Severity(StrEnum):
    OK = "ok"
    """Nothing to do; the finding says what was looked at, or what can only be seen elsewhere."""
    WARNING = "warning"
    """It works, but not for long, not for everybody or not as meant."""
    ERROR = "error"
    """Somebody's workspace, or the service itself, does not work."""


RANK = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.OK: 2}
"""The worst first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of a diagnosis. No two findings have the same check and subject."""

    check: str
    subject: str
    """The id of a session, the name of an object, or a part of the system."""
    severity: Severity
    what: str
    """What is the case."""
    meaning: str
    """What follows from it for users or operators."""
    next_step: str
    """What to do: a command, or where to read on; empty if there is nothing to do."""
    fixable: bool = False
    """Whether the service can mend it without losing anything of anybody's."""


def session_of(check: str, subject: str) -> SessionId | None:
    """The session that such a finding is about, if it is about one."""
    return SessionId(subject) if check in _OF_SESSIONS and is_session_id(subject) else None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The findings, the worst first, and when they were made."""

    at: datetime
    findings: tuple[Finding, ...]


class Outcome(StrEnum):
    """What became of a request to mend a finding."""

    FIXED = "fixed"
    GONE = "gone"
    """There is nothing to mend any more."""
    LEFT = "left"
    """The service cannot mend it without a loss; its next step says who can."""


@dataclass(frozen=True, slots=True)
class Mended:
    outcome: Outcome
    detail: str
