"""Read sessions: their status, their history, lists of them, and whether a session can be used."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from service.domain import names
from service.domain.errors import (
    InvalidCursor,
    SessionBroken,
    SessionDeleting,
    SessionNotFound,
    SessionReleased,
    SessionUnreadable,
)
from service.domain.expiry import NEVER, ExpiryRule
from service.domain.history import Entry, entries
from service.domain.idle_times import IdleTimes
from service.domain.names import SessionId
from service.domain.phase import Phase
from service.domain.ports import Cluster, History, Store, WorkloadCache
from service.domain.record import Record, RecordStatus
from service.domain.session import Session

_SCAN_PAGE = 200
_SCAN_PAGES = 10
_SETTLING = timedelta(seconds=30)
"""For this long after helm ran, a cache that reports something missing may only be behind: the cluster is asked."""


@dataclass(frozen=True, slots=True)
class Page:
    sessions: Sequence[Session]
    cursor: str | None
    """Where the next page begins; None on the last page."""


class SessionQueries:
    """Answers from Redis and the workload cache. `idle_times` are those of sessions that have none of their own."""

    def __init__(
        self,
        *,
        store: Store,
        history: History,
        cluster: Cluster,
        cache: WorkloadCache,
        idle_times: IdleTimes,
        expiry_rule: ExpiryRule = NEVER,
    ) -> None:
        self._store = store
        self._history = history
        self._cluster = cluster
        self._cache = cache
        self._idle_times = idle_times
        self._expiry_rule = expiry_rule

    async def status(self, uuid: SessionId) -> Session:
        """Raises SessionNotFound, IndexIncomplete."""
        (session,) = await self._join([await self._store.record(uuid)])
        return session

    async def sessions(self, uuids: Sequence[SessionId]) -> Sequence[Session]:
        """Those of the sessions that have a record, in the given order."""
        return await self._join(await self._store.records(uuids))

    async def history(self, uuid: SessionId) -> Sequence[Entry]:
        """The session's last wakes, sleeps and failures, newest first. Raises SessionNotFound, IndexIncomplete."""
        await self._store.record(uuid)
        return entries(await self._history.events(uuid))

    async def owns(self, user_id: str, uuid: SessionId) -> bool:
        """Whether the session is the user's. It takes the same steps for an unknown session as for somebody else's.

        Raises IndexIncomplete.
        """
        return self._cache.workload(uuid).user_id == user_id or await self._store.owner(user_id) == uuid

    async def session_of(self, user_id: str) -> SessionId | None:
        """The user's session, or None. Raises SessionUnreadable, IndexIncomplete."""
        return await self._store.owner(user_id)

    def revoked_since(self, uuid: SessionId, since: int) -> bool:
        """Whether sign-ins to the session were revoked after `since`, in seconds since 1970, or in that second."""
        at = self._cache.workload(uuid).revoked_at
        return at is not None and since <= int(at.timestamp())

    def behind(self) -> timedelta | None:
        """How old the cluster's part of an answer may be; None while the watch keeps up."""
        return self._cache.behind()

    async def page(
        self,
        *,
        cursor: str | None = None,
        limit: int = 50,
        user_id: str | None = None,
        phase: Phase | None = None,
        awake: bool = False,
    ) -> Page:
        """Sessions in the order of their ids. A page may be short although more follow: go by the cursor.

        `awake`: only those that have or want a pod. The cache knows them, so that sleepers cost nothing.
        """
        if user_id is not None:
            uuid = await self._store.owner(user_id)
            return Page([s for s in await self.sessions([uuid] if uuid else []) if phase in (None, s.phase)], None)
        after = _parse_cursor(cursor)
        if awake:
            uuids = self._awake(after, limit)
            found = [session for session in await self.sessions(uuids) if phase in (None, session.phase)]
            return Page(found, uuids[-1] if len(uuids) == limit else None)
        found = []
        for _ in range(_SCAN_PAGES):
            batch = await self._store.page(after, min(_SCAN_PAGE, limit if phase is None else _SCAN_PAGE))
            for session in await self.sessions(batch):
                if phase in (None, session.phase):
                    found.append(session)
                    if len(found) == limit:
                        return Page(found, session.record.uuid)
            if not batch:
                return Page(found, None)
            after = batch[-1]
        return Page(found, after)

    # --- can it be used? ---

    async def check_usable_cached(self, uuid: SessionId) -> IdleTimes:
        """The session's idle times, if a wake can succeed as far as the cache knows; else raises like `check_usable`.

        Costs nothing while the cache shows an intact session.
        """
        workload = self._cache.workload(uuid)
        if workload.broken_reason is None and workload.read_error is None:
            return workload.idle_times or self._idle_times
        return await self.check_usable(uuid)

    async def check_usable(self, uuid: SessionId) -> IdleTimes:
        """The same by the record too, which alone says that a session is being deleted. Reads Redis once.

        Raises SessionNotFound, SessionUnreadable, SessionReleased, SessionDeleting, SessionBroken, IndexIncomplete.
        """
        session = await self.status(uuid)
        if session.record.read_error:
            raise SessionUnreadable(session.record.read_error)
        match session.status:
            case RecordStatus.RELEASED:
                raise SessionReleased
            case RecordStatus.DELETING:
                raise SessionDeleting
            case RecordStatus.CREATED:
                if reason := session.workload.broken_reason or session.workload.read_error:
                    raise SessionBroken(reason)
        return session.workload.idle_times or self._idle_times

    # --- helpers ---

    def _awake(self, after: str, limit: int) -> Sequence[SessionId]:
        """The first ids after this one whose session has or wants a pod."""
        known = (uuid for uuid in self._cache.uuids() if uuid > after)
        return heapq.nsmallest(limit, (uuid for uuid in known if self._cache.workload(uuid).replicas > 0))

    async def _join(self, records: Sequence[Record]) -> Sequence[Session]:
        """Each record with its workload: from the cache, unless that may not show yet what helm has just done."""
        now = datetime.now(UTC)
        workloads = {record.uuid: self._cache.workload(record.uuid) for record in records}
        doubtful = [
            record.uuid
            for record in records
            if workloads[record.uuid].broken_reason and record.written_at and now - record.written_at < _SETTLING
        ]
        workloads |= await self._cluster.read(doubtful)
        return [Session(record, workloads[record.uuid], self._idle_times, self._expiry_rule) for record in records]


def _parse_cursor(cursor: str | None) -> str:
    if cursor is None:
        return ""
    try:
        return names.parse_session_id(cursor)
    except SessionNotFound:
        raise InvalidCursor from None
