"""What can be done with sessions: the use cases, each safe to repeat and safe to interrupt.

A create makes its traces in this order, so that whatever a crash leaves behind says how to go on:

1. the *claim* in Redis: this user has this id;
2. the *reservation* in the cluster: a Deployment of that name with 0 replicas, bearing the user's id;
3. the *release*: helm adopts the Deployment and adds the rest;
4. the *record* in Redis: from now on the session exists for callers.

Any replica can continue from any of these, under the session's work lease (`Store.working`); `finish` is that one path,
walked by a first create, by the create after a crash, and by `Recovery` at start-up.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from service.domain import names
from service.domain.errors import (
    IdTaken,
    InvalidCursor,
    SessionBroken,
    SessionBusy,
    SessionDeleting,
    SessionNotFound,
    SessionReleased,
)
from service.domain.names import SessionId
from service.domain.ports import Cluster, Releases, Store
from service.domain.session import (
    Phase,
    Record,
    RecordStatus,
    Release,
    Rhythm,
    Session,
    Workload,
)
from service.domain.slots import Slots

log = logging.getLogger(__name__)

IDS_TO_TRY = 5
"""Random ids that may turn out taken before a create gives up: never seen beyond one outside of tests."""

_LEASE_RETRY = 0.1
_SCAN_PAGE = 200
_SCAN_PAGES = 10


@dataclass(frozen=True, slots=True)
class Created:
    """Outcome of a create: the session's id, and whether this call made or restored it."""

    uuid: SessionId
    fresh: bool


@dataclass(frozen=True, slots=True)
class Page:
    sessions: Sequence[Session]
    cursor: str | None
    """Where the next page begins; None on the last."""


class Sessions:
    """The use cases. Holds no truth: every answer comes from the store and the cluster."""

    def __init__(
        self,
        *,
        store: Store,
        releases: Releases,
        cluster: Cluster,
        slots: Slots,
        rhythm: Rhythm,
        helm_deadline: timedelta,
        new_id: Callable[[], SessionId] = names.new_session_id,
    ) -> None:
        """`helm_deadline` is how long a helm process may live: an unfinished release older than that is abandoned."""
        self._store = store
        self._releases = releases
        self._cluster = cluster
        self._slots = slots
        self._rhythm = rhythm
        self._helm_deadline = helm_deadline
        self._new_id = new_id
        self._creating: dict[str, asyncio.Task[Created]] = {}
        self._running: set[asyncio.Task[Any]] = set()

    # --- create ---------------------------------------------------------------------------------------------------

    async def create(self, user_id: str) -> Created:
        """Give the user a session, the same one for every call and every racer.

        A caller that goes away does not interrupt the work, and those who ask for the same user share it.
        """
        names.check_user_id(user_id)
        task = self._creating.get(user_id)
        if task is not None:
            outcome = await asyncio.shield(task)
            return Created(outcome.uuid, fresh=False)
        task = self._background(self._create(user_id))
        self._creating[user_id] = task
        task.add_done_callback(lambda _: self._creating.pop(user_id, None))
        return await asyncio.shield(task)

    async def _create(self, user_id: str) -> Created:
        uuid = await self._store.owner(user_id)
        if uuid is not None and await self._stands(uuid):
            return Created(uuid, fresh=False)
        with self._slots.line():
            for _ in range(IDS_TO_TRY):
                try:
                    return await self.finish(await self._claim(user_id), user_id)
                except IdTaken as taken:
                    log.warning("a new id was taken already, trying another one", extra={"uuid": str(taken)})
        raise SessionBusy("no free id was found; try again")

    async def _stands(self, uuid: SessionId) -> bool:
        """Whether the session is complete, so that a create has nothing to do."""
        try:
            session = await self.status(uuid)
        except SessionNotFound:
            return False
        return session.status is RecordStatus.CREATED and session.workload.broken is None

    async def _claim(self, user_id: str) -> SessionId:
        """The user's id: from Redis, else from what the cluster still holds of the user, else a new one."""
        uuid = await self._store.owner(user_id)
        if uuid is None:
            found = await self._cluster.find(user_id)
            uuid = await self._store.claim(user_id, found or self._new_id())
        return uuid

    async def finish(self, uuid: SessionId, user_id: str) -> Created:
        """Bring a claimed session to its end state, from wherever it stands.

        Raises IdTaken (and gives the claim back) when the id belongs to somebody else in the cluster.
        """
        async with self._lease(uuid):
            workload = await self._workload(uuid)
            record = await self._record_or_none(uuid)
            if record is not None and record.status is RecordStatus.DELETING:
                await self._remove(record)
                # What the delete left (a kept volume) is the user's own: the same id starts anew.
                await self._store.claim(user_id, uuid)
                workload = await self._workload(uuid)
            if workload.anything and workload.user_id != user_id:
                if record is not None and workload.user_id is not None:
                    raise SessionBroken("objects of the session's name belong to another user; ask the operator")
                if record is None:
                    await self._store.disclaim(user_id, uuid)
                    raise IdTaken(uuid)
            installed = await self._install(workload, user_id)
            if installed or record is None or record.status is not RecordStatus.CREATED:
                await self._store.save(
                    Record(
                        uuid,
                        user_id,
                        RecordStatus.CREATED,
                        created_at=record.created_at if record else workload.created_at or datetime.now(UTC),
                        last_activity=record.last_activity if record else None,
                    )
                )
            return Created(uuid, fresh=installed)

    async def _install(self, workload: Workload, user_id: str) -> bool:
        """Install or repair the release unless it stands; whether helm had to be asked."""
        uuid, release = workload.uuid, workload.release
        if workload.broken is None:
            return False
        if release is not None and self._may_be_running(release):
            raise SessionBusy(retry_after=5)
        async with self._slots.run():
            if release is not None and release.unfinished:
                log.warning("removing an unfinished release", extra={"uuid": uuid, "state": release.state})
                await self._releases.uninstall(uuid)
            try:
                await self._cluster.reserve(uuid, user_id)
            except IdTaken:
                await self._store.disclaim(user_id, uuid)
                raise
            await self._releases.install(uuid, user_id)
        return True

    def _may_be_running(self, release: Release) -> bool:
        """Whether some helm, of a replica that died or of an operator, may be at work on the release."""
        return release.transient and datetime.now(UTC) - release.modified_at < self._helm_deadline

    # --- wake, sleep, delete --------------------------------------------------------------------------------------

    async def wake(self, uuid: SessionId) -> int:
        """Ask for the pod; returns the queue's length.

        Raises SessionNotFound, SessionReleased, SessionDeleting, SessionBroken.
        """
        await self._usable(uuid)
        return await self._store.wake(uuid)

    async def sleep(self, uuid: SessionId) -> None:
        """Send the pod to sleep now, whoever uses it. Raises like `wake`."""
        await self._usable(uuid)
        await self._store.hush(uuid)
        await self._cluster.put_to_sleep(uuid)

    async def _usable(self, uuid: SessionId) -> None:
        session = await self.status(uuid)
        match session.status:
            case RecordStatus.RELEASED:
                raise SessionReleased
            case RecordStatus.DELETING:
                raise SessionDeleting
            case RecordStatus.CREATED:
                if session.workload.broken:
                    raise SessionBroken(session.workload.broken)

    async def delete(self, uuid: SessionId, *, keep_data: bool) -> None:
        """Remove release, keys and, unless `keep_data`, the volume. Goes on when the caller goes away."""
        await asyncio.shield(self._background(self._delete(uuid, keep_data=keep_data)))

    async def _delete(self, uuid: SessionId, *, keep_data: bool) -> None:
        await self._store.record(uuid)
        with self._slots.line():
            async with self._lease(uuid):
                await self._store.deleting(uuid, keep_data=keep_data)
                await self._remove(await self._store.record(uuid))

    async def _remove(self, record: Record) -> None:
        """The second half of a delete, repeatable from any point: release, volume, and the keys last."""
        await self._store.hush(record.uuid)
        if (await self._workload(record.uuid)).release is not None:
            async with self._slots.run():
                await self._releases.uninstall(record.uuid)
        await self._cluster.unreserve(record.uuid)
        if not record.keep_data:
            await self._cluster.delete_volume(record.uuid)
        await self._store.forget(record.uuid)

    # --- reading --------------------------------------------------------------------------------------------------

    async def status(self, uuid: SessionId) -> Session:
        """Raises SessionNotFound, IndexIncomplete."""
        record, workload = await asyncio.gather(self._store.record(uuid), self._workload(uuid))
        return Session(record, workload, self._rhythm)

    async def page(
        self,
        *,
        cursor: str | None = None,
        limit: int = 50,
        user_id: str | None = None,
        phase: Phase | None = None,
    ) -> Page:
        """Sessions in the order of their ids. A page may be short although more follow: go by the cursor."""
        if user_id is not None:
            return Page([s for s in await self._of_user(user_id) if phase in (None, s.phase)], None)
        after = _after(cursor)
        found: list[Session] = []
        for _ in range(_SCAN_PAGES):
            batch = await self._store.page(after, min(_SCAN_PAGE, limit if phase is None else _SCAN_PAGE))
            for session in await self._sessions(batch):
                if phase in (None, session.phase):
                    found.append(session)
                    if len(found) == limit:
                        return Page(found, session.record.uuid)
            if not batch:
                return Page(found, None)
            after = batch[-1]
        return Page(found, after)

    async def _of_user(self, user_id: str) -> Sequence[Session]:
        uuid = await self._store.owner(user_id)
        return await self._sessions([uuid]) if uuid else []

    async def _sessions(self, uuids: Sequence[SessionId]) -> Sequence[Session]:
        records, workloads = await asyncio.gather(self._store.records(uuids), self._cluster.read(uuids))
        return [Session(record, workloads[record.uuid], self._rhythm) for record in records]

    async def _workload(self, uuid: SessionId) -> Workload:
        return (await self._cluster.read([uuid]))[uuid]

    async def _record_or_none(self, uuid: SessionId) -> Record | None:
        records = await self._store.records([uuid])
        return records[0] if records else None

    # --- helpers --------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _lease(self, uuid: SessionId) -> AsyncIterator[None]:
        """The session's work lease, waited for as long as one helm run can take."""
        deadline = asyncio.get_running_loop().time() + self._helm_deadline.total_seconds()
        async with AsyncExitStack() as held:
            while True:
                try:
                    await held.enter_async_context(self._store.working(uuid))
                    break
                except SessionBusy:
                    if asyncio.get_running_loop().time() > deadline:
                        raise
                    await asyncio.sleep(_LEASE_RETRY)
            yield

    def _background(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task of its own, so that a caller's cancellation does not reach it; `close` waits for all."""
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def close(self) -> None:
        """Wait for the work under way: helm in the middle of an install is let finish."""
        while self._running:
            await asyncio.gather(*self._running, return_exceptions=True)


def _after(cursor: str | None) -> str:
    if cursor is None:
        return ""
    try:
        return names.parse_session_id(cursor)
    except SessionNotFound:
        raise InvalidCursor from None
