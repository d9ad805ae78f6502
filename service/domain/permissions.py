"""Who may do what: the one table of operations, roles and sessions. `service/web/access.py` enforces it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum

from service.domain.errors import GroupRefused
from service.domain.names import user_hash


class CallerRole(StrEnum):
    OPERATOR = "operator"
    """Runs the service: everything."""
    FRONTEND = "frontend"
    """A program that acts for users: everything about sessions."""
    VIEWER = "viewer"
    """Reads, and changes nothing."""
    USER = "user"
    """A person: everything about their own session."""


PERSON = "person"
"""The name of every caller who is a person: logs and histories hold no user ids."""
SERVICE = "_service"
"""The name of the service itself, where it acts without a request. No key can have it."""
PROGRAM = "program"
"""The name of every program in a workspace that keeps its own pod awake."""


class Subject(Enum):
    """What an operation is about, which decides what a caller with one user may reach by it."""

    SESSION = "session"
    """The session whose id is in the path."""
    USER = "user"
    """The user whom the request names."""
    SERVICE = "service"
    """All sessions, or the service as a whole: nothing for a caller with one user."""
    CALLER = "caller"
    """Only the caller."""


class Reach(Enum):
    """For whom a caller may use an operation."""

    NOBODY = "nobody"
    OWN = "own"
    """The caller's one user."""
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Rule:
    subject: Subject
    roles: frozenset[CallerRole]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whoever sends a request. `name` is for logs, history and audit."""

    name: str
    role: CallerRole
    user_id: str | None = None
    """The only user whom the caller may act for; None: everybody."""
    group: str | None = None
    """The group of every session that the caller creates; None: whoever may act for everybody names one."""
    key_id: str | None = None
    """The part of the API key that names it, and is no secret."""
    person: str | None = None
    """The user id of a person; None for a program."""
    since: int | None = None
    """When the person's token was issued, in seconds since 1970."""

    @property
    def name_for_rates(self) -> str:
        """What names the caller where their requests are counted, without a user id."""
        return self.name if self.person is None else f"{self.name}:{user_hash(self.person)}"


_OPERATOR, _FRONTEND, _VIEWER, _USER = CallerRole
_ACTS = frozenset({_OPERATOR, _FRONTEND, _USER})
_READS = frozenset({_OPERATOR, _FRONTEND, _VIEWER, _USER})
_OVERSEES = frozenset({_OPERATOR, _VIEWER})

RULES: Mapping[str, Rule] = {
    "create": Rule(Subject.USER, _ACTS),
    "wake": Rule(Subject.SESSION, _ACTS),
    "sleep": Rule(Subject.SESSION, _ACTS),
    "activity": Rule(Subject.SESSION, _ACTS),
    "extend": Rule(Subject.SESSION, _ACTS),
    "open": Rule(Subject.SESSION, _ACTS),
    "keep": Rule(Subject.SESSION, _ACTS),
    "revoke": Rule(Subject.SESSION, _ACTS),
    "delete": Rule(Subject.SESSION, _ACTS),
    "restart": Rule(Subject.SESSION, _ACTS),  # a sleep and a wake, at once: the dashboard has it, the API has both
    "status": Rule(Subject.SESSION, _READS),
    "events": Rule(Subject.SESSION, _READS),
    "history": Rule(Subject.SESSION, _READS),
    "list_sessions": Rule(Subject.USER, _READS),
    "summary": Rule(Subject.SERVICE, _OVERSEES),
    "profiles": Rule(Subject.CALLER, _READS),
    "metrics": Rule(Subject.SERVICE, _OVERSEES),
    "upgrade": Rule(Subject.SESSION, frozenset({_OPERATOR})),
    "start_upgrade": Rule(Subject.SERVICE, frozenset({_OPERATOR})),
    "show_upgrade": Rule(Subject.SERVICE, _OVERSEES),
    "continue_upgrade": Rule(Subject.SERVICE, frozenset({_OPERATOR})),
    "stop_upgrade": Rule(Subject.SERVICE, frozenset({_OPERATOR})),
    "audit": Rule(Subject.SERVICE, frozenset({_OPERATOR})),
    "diagnosis": Rule(Subject.SERVICE, _OVERSEES),
    "fix": Rule(Subject.SERVICE, frozenset({_OPERATOR})),
    "whoami": Rule(Subject.CALLER, _READS),
}
"""By the name of each operation that needs a caller. One without a rule is for nobody."""


def group_of_create(caller: Caller, asked: str | None) -> str | None:
    """The group of a session that the caller creates. Raises GroupRefused.

    Nobody chooses whose quota their own session counts for.
    """
    if caller.user_id is None and caller.group is None:
        return asked
    if asked not in (None, caller.group):
        raise GroupRefused(f"you create sessions in {f'the group {caller.group}' if caller.group else 'no group'} only")
    return caller.group


def user_for_rates(operation: str, caller: Caller, uuid: str | None) -> str | None:
    """What names the user at whose cost a permitted request is counted; None: nobody in particular.

    For a caller with one user it is that user's hash, whatever they do. For others it is the session in the path, if
    they act on it: whoever only reads must not keep a user from working. The two are counted apart.
    """
    if reach(operation, caller) is Reach.NOBODY:
        return None
    if caller.user_id is not None:
        return user_hash(caller.user_id)
    return uuid if CallerRole.VIEWER not in RULES[operation].roles else None


def reach(operation: str, caller: Caller) -> Reach:
    """For whom the caller may use the operation."""
    rule = RULES.get(operation)
    if rule is None or caller.role not in rule.roles:
        return Reach.NOBODY
    if caller.user_id is None or rule.subject is Subject.CALLER:
        return Reach.ALL
    return Reach.NOBODY if rule.subject is Subject.SERVICE else Reach.OWN
