"""Who has done what to which session, and with what result: every change that the API was asked for, and every refusal.

Each change that was made by the API is entered. Heartbeats change nothing: a frontend calls `wake` on every message,
and a thousand users would push out the rest within minutes. Entered once a minute, if they are equal, are refusals,
failures, actions at the gateway, sign-ins to the dashboard, and all but deletes of callers with one user: a program
that fails, or a user who plays with a button, may try again for ever. Of such a caller's sleeps, and wakes of a
sleeper, up to five a minute are entered. The last one that was left out is entered when its minute is over, with
their number.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from service.domain.background_writer import BackgroundWriter
from service.domain.clock import utc_now
from service.domain.names import SessionId
from service.domain.permissions import PROGRAM, Caller
from service.domain.ports import WorkloadCache
from service.domain.request_context import current_request_id
from service.domain.wake_cause import VISIT

DONE = "done"
UNKNOWN = "unknown"
"""The name of a caller whom no key or token has identified."""
_WITHOUT_KEY = frozenset({VISIT, PROGRAM})
"""Callers at the gateway."""
_HEARTBEATS = frozenset({"wake", "activity"})
"""Unless they wake a sleeping session."""
_SIGN_INS = frozenset({"sign_in", "sign_out"})
"""Of the dashboard: no rate of requests limits them."""
_LOSES = "delete"
_STARTS_OR_ENDS_A_POD = frozenset({"wake", "sleep", "restart"})
_REFUSALS = frozenset({"unauthorized", "forbidden", "cross-site", "too-many-requests"})
_NOT_FOUND = "session-not-found"
_CONFLICT = 409
_AWAKE_LIMIT = "awake-limit-reached"
_REPEAT_SECONDS = 60.0
_TURNS = 5
"""How many of these are entered within that time if they are equal: people look for each of them."""
_LOOKS = 2.0
"""Seconds between two looks for repeats whose minute is over."""
_REMEMBERED = 10_000
"""Equal entries that are known."""
_SCAN = 500
_SCANS = 10

_Equal = tuple[Caller | None, str, str | None, str]
"""What equal requests have in common: caller, operation, session, result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One request. It contains no credential, and of its body or query only the user whose session it has created."""

    caller: str
    role: str | None = None
    key: str | None = None
    """The id of the API key."""
    person: str | None = None
    """The user id of a person."""
    operation: str
    uuid: str | None = None
    user_id: str | None = None
    """The session's user, where that was known without a look-up."""
    result: str
    """`done`, or the type of the problem that was answered."""
    status: int
    repeats: int = 0
    """How many equal requests since the entry before were left out."""
    at: datetime = field(default_factory=utc_now)
    request: str = field(default_factory=current_request_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which entries are asked for; None: any."""

    uuid: str | None = None
    caller: str | None = None
    """The name of a caller, or a person's user id."""
    user_id: str | None = None
    """The session's user."""
    text: str | None = None
    """Any of the three."""

    def has(self, entry: AuditEntry) -> bool:
        return (
            self.uuid in (None, entry.uuid)
            and self.caller in (None, entry.caller, entry.person)
            and self.user_id in (None, entry.user_id)
            and self.text in (None, entry.uuid, entry.caller, entry.person, entry.user_id)
        )


EVERY_ENTRY = AuditFilter()


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Newest first. `cursor`: where the next page begins; None on the last page."""

    entries: Sequence[AuditEntry]
    cursor: str | None


class AuditTrail(Protocol):
    """The last entries, in Redis."""

    async def append(self, entry: AuditEntry) -> None: ...

    async def before(self, cursor: str | None, limit: int) -> Sequence[tuple[str, AuditEntry | None]]:
        """Entries older than the cursor, newest first, each after its own cursor; None for one that cannot be read."""


@dataclass(slots=True)
class _Minute:
    """Equal requests. `last`: the last that was left out, and is entered if none follows; `left_out`: those before."""

    began: float
    entered: int = 1
    last: AuditEntry | None = None
    left_out: int = 0


class AuditLog(Protocol):
    """The entries as log lines. Returns at once."""

    def note(self, entry: AuditEntry) -> None: ...


class Audit:
    """Enters requests in the log at once, and in the trail in the background while `run` runs. Repeats that were left
    out are entered within seconds after their minute, while `run` runs, and at its end.

    `cache` knows whose most sessions are.
    """

    def __init__(
        self, trail: AuditTrail, log: AuditLog, cache: WorkloadCache, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._trail = trail
        self._log = log
        self._cache = cache
        self._now = now
        self._writer: BackgroundWriter[AuditEntry] = BackgroundWriter("the audit trail", trail.append)
        self._minutes: dict[_Equal, _Minute] = {}
        """Those that began first come first."""

    def user_of(self, uuid: str | None) -> str | None:
        """The session's user, as far as the cache knows: ask it before a session is deleted."""
        return self._cache.workload(SessionId(uuid)).user_id if uuid is not None else None

    def note(
        self,
        caller: Caller | None,
        operation: str,
        *,
        uuid: str | None,
        result: str,
        status: int,
        changes: bool,
        user_id: str | None = None,
        woke: bool = False,
    ) -> None:
        """Enter a request, if it `changes` something or is refused, and is no heartbeat. `user_id`: the session's, if
        it is known. `woke`: it has woken a sleeping session.
        """
        refused = result in _REFUSALS or _is_of_no_session_of_theirs(caller, result)
        is_heartbeat = operation in _HEARTBEATS and result == DONE and not woke
        if is_heartbeat or not (changes or refused):
            return
        entry = AuditEntry(
            caller=caller.name if caller is not None else UNKNOWN,
            role=caller.role.value if caller is not None else None,
            key=caller.key_id if caller is not None else None,
            person=caller.person if caller is not None else None,
            operation=operation,
            uuid=uuid,
            # Whose a session is that the caller was told nothing of is not looked up.
            user_id=(user_id or self.user_of(uuid)) if result != _NOT_FOUND else None,
            result=result,
            status=status,
        )
        if result != DONE or _is_cheap(caller, operation):
            most = _TURNS if result == DONE and operation in _STARTS_OR_ENDS_A_POD else 1
            equal = (caller, operation, uuid if _is_of_a_session(result, status) else None, result)
            if not self._is_new(equal, entry, most):
                return
        self._enter(entry)

    async def page(self, *, cursor: str | None, limit: int, chosen: AuditFilter = EVERY_ENTRY) -> AuditPage:
        """Entries that were asked for. A page may be short although more follow: go by the cursor."""
        found: list[AuditEntry] = []
        for _ in range(_SCANS):
            size = limit if chosen == EVERY_ENTRY else _SCAN
            batch = await self._trail.before(cursor, size)
            for place, entry in batch:
                cursor = place
                if entry is not None and chosen.has(entry):
                    found.append(entry)
                    if len(found) == limit:
                        return AuditPage(found, cursor)
            if len(batch) < size:
                return AuditPage(found, None)
        return AuditPage(found, cursor)

    async def run(self) -> None:
        """Write the trail until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._writer.run(), name="entries of the audit trail")
            try:
                while True:
                    await asyncio.sleep(_LOOKS)
                    self.enter_repeats()
            finally:
                self.enter_repeats(all_=True)  # before the writer, which is cancelled next, writes what remains

    def enter_repeats(self, *, all_: bool = False) -> None:
        """Enter the last of the requests that were left out in each minute that is over, or in `all_`."""
        while self._minutes:
            equal, first = next(iter(self._minutes.items()))
            if not all_ and self._now() < first.began + _REPEAT_SECONDS:
                return
            self._end(equal)
            if first.last is not None and not all_:
                self._minutes[equal] = _Minute(self._now())

    def _is_new(self, equal: _Equal, entry: AuditEntry, most: int) -> bool:
        """Whether to enter it now. If not, it has been counted."""
        self.enter_repeats()
        minute = self._minutes.get(equal)
        if minute is None:
            if len(self._minutes) >= _REMEMBERED:
                self._end(next(iter(self._minutes)))
            self._minutes[equal] = _Minute(self._now())
            return True
        if minute.entered < most:
            minute.entered += 1
            return True
        minute.left_out += minute.last is not None
        minute.last = entry
        return False

    def _end(self, equal: _Equal) -> None:
        minute = self._minutes.pop(equal)
        if minute.last is not None:
            self._enter(replace(minute.last, repeats=minute.left_out))

    def _enter(self, entry: AuditEntry) -> None:
        self._log.note(entry)
        self._writer.put(entry)


def _is_cheap(caller: Caller | None, operation: str) -> bool:
    """Whether a caller who is not to be trusted with the whole audit may have it done again and again."""
    if caller is None or caller.name in _WITHOUT_KEY or operation in _SIGN_INS:
        return True
    return caller.user_id is not None and operation != _LOSES


def _is_of_a_session(result: str, status: int) -> bool:
    """Whether the session exists, so that there are not many. Otherwise, callers may try one id after the other."""
    return result in (DONE, _AWAKE_LIMIT) or status == _CONFLICT


def _is_of_no_session_of_theirs(caller: Caller | None, result: str) -> bool:
    """Whether a caller with one user has asked for a session that is not theirs, or does not exist."""
    return caller is not None and caller.user_id is not None and result == _NOT_FOUND
