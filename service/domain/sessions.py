"""What can be done with sessions: the use cases, each safe to repeat and safe to interrupt.

A create makes its traces in this order, so that whatever a crash leaves behind says how to go on:

1. the *claim* in Redis: this user has this id;
2. the *reservation* in the cluster: a Deployment of that name with 0 replicas, bearing the user's id;
3. the *release*: helm adopts the Deployment and adds the rest;
4. the *record* in Redis: from now on the session exists for callers.

Any replica can continue from any of these, under the session's lock (`Store.lock`); `finish` is that one path, walked
by a first create, by the create after a crash, and by `Recovery` at start-up.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from service.domain import journal as journals
from service.domain import names
from service.domain.admission_queue import AdmissionQueue
from service.domain.errors import (
    ClusterUnavailable,
    IdleTimesRefused,
    IdTaken,
    InvalidCursor,
    SessionAsleep,
    SessionBroken,
    SessionBusy,
    SessionDeleting,
    SessionNotFound,
    SessionPaused,
    SessionReleased,
    SessionUnreadable,
    Unavailable,
)
from service.domain.history import Entry, told
from service.domain.journal import Deleted, Failed, Journal, Woken, hashed
from service.domain.metrics import SILENT, Creation, ServiceMetrics
from service.domain.names import SessionId
from service.domain.ports import Cluster, History, Progress, Queues, Releases, SessionLock, Store, WorkloadCache
from service.domain.progress import ProgressUpdate, Stage
from service.domain.session import (
    IdleTimes,
    Phase,
    Record,
    RecordStatus,
    Release,
    Session,
    Workload,
)

log = logging.getLogger(__name__)

IDS_TO_TRY = 5
"""Random ids that may turn out taken before a create gives up: never seen beyond one outside of tests."""

_LEASE_RETRY = 0.1
_SCAN_PAGE = 200
_SCAN_PAGES = 10
_SETTLING = timedelta(seconds=30)
"""So long after helm's work a cache is not believed when it says that something is missing: it may be behind."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedIdleTimes:
    """Times for falling asleep that the creator of a session may choose; None: as everybody's."""

    lease: timedelta | None = None
    cooldown: timedelta | None = None
    poll: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a caller may ask for at most."""

    cooldown: timedelta = timedelta(hours=24)
    lease: timedelta = timedelta(hours=1)
    extension: timedelta = timedelta(hours=8)


NOTHING_REQUESTED = RequestedIdleTimes()


class Sessions:
    """The use cases. Holds no truth: every answer comes from Redis and the cluster.

    Creates and deletes read the cluster itself; everything else reads the cache of it.
    """

    def __init__(
        self,
        *,
        store: Store,
        queues: Queues,
        progress: Progress,
        history: History,
        releases: Releases,
        cluster: Cluster,
        cache: WorkloadCache,
        admission: AdmissionQueue,
        idle_times: IdleTimes,
        helm_deadline: timedelta,
        parking: bool = True,
        limits: Limits | None = None,
        enqueue: Callable[[SessionId], None] = lambda _: None,
        metrics: ServiceMetrics = SILENT,
        journal: Journal = journals.SILENT,
        new_id: Callable[[], SessionId] = names.new_session_id,
    ) -> None:
        """`helm_deadline` is how long a helm process may live: an unfinished release older than that is abandoned.

        `enqueue` is told of sessions whose queue has changed; it must return at once.
        """
        self._store = store
        self._queues = queues
        self._progress = progress
        self._history = history
        self._releases = releases
        self._cluster = cluster
        self._cache = cache
        self._admission = admission
        self._idle_times = idle_times
        self._parking = parking
        self._limits = limits or Limits()
        self._on_wake = enqueue
        self._metrics = metrics
        self._journal = journal
        self._helm_deadline = helm_deadline
        self._new_id = new_id
        self._creating: dict[str, asyncio.Task[Created]] = {}
        self._running: set[asyncio.Task[Any]] = set()

    # --- create ---------------------------------------------------------------------------------------------------

    async def create(self, user_id: str, requested: RequestedIdleTimes = NOTHING_REQUESTED) -> Created:
        """Give the user a session, the same one for every call and every racer.

        A caller that goes away does not interrupt the work, and those who ask for the same user share it. The wish
        counts when this call installs the release; a session that stands keeps its times.
        """
        names.check_user_id(user_id)
        idle_times = self._idle_times_for(requested)
        task = self._creating.get(user_id)
        if task is not None:
            outcome = await asyncio.shield(task)
            return Created(outcome.uuid, fresh=False)
        task = self._background(self._create(user_id, idle_times))
        self._creating[user_id] = task
        task.add_done_callback(lambda _: self._creating.pop(user_id, None))
        return await asyncio.shield(task)

    async def _create(self, user_id: str, idle_times: IdleTimes) -> Created:
        started, outcome = time.monotonic(), Creation.FAILED
        try:
            created = await self._ensure(user_id, idle_times)
        except Unavailable as error:
            self._failed("create", None, user_id, error, started)
            raise
        else:
            outcome = Creation.INSTALLED if created.fresh else Creation.PRESENT
            took, user = time.monotonic() - started, hashed(user_id)
            self._journal.note(journals.Created(uuid=created.uuid, user=user, outcome=outcome, seconds=took))
            return created
        finally:
            self._metrics.created(outcome, time.monotonic() - started)

    def _failed(
        self, doing: str, uuid: SessionId | None, user_id: str | None, error: Unavailable, started: float
    ) -> None:
        took = time.monotonic() - started
        self._journal.note(Failed(uuid=uuid, user=hashed(user_id), doing=doing, reason=str(error), seconds=took))

    async def _ensure(self, user_id: str, idle_times: IdleTimes) -> Created:
        uuid = await self._store.owner(user_id)
        if uuid is not None and await self._stands(uuid):
            return Created(uuid, fresh=False)
        with self._admission.line():
            for _ in range(IDS_TO_TRY):
                try:
                    return await self.finish(await self._claim(user_id), user_id, idle_times)
                except IdTaken as taken:
                    log.warning("a new id was taken already, trying another one", extra={"uuid": str(taken)})
        raise SessionBusy("no free id was found; try again")

    async def _stands(self, uuid: SessionId) -> bool:
        """Whether the session is complete, so that a create has nothing to do."""
        try:
            session = await self.status(uuid)
        except SessionNotFound:
            return False
        return (
            session.status is RecordStatus.CREATED and session.workload.broken_reason is None and not session.read_error
        )

    async def _claim(self, user_id: str) -> SessionId:
        """The user's id: from Redis, else from what the cluster still holds of the user, else a new one."""
        uuid = await self._store.owner(user_id)
        if uuid is None:
            found = await self._cluster.find(user_id)
            uuid = await self._store.claim(user_id, found or self._new_id())
        return uuid

    def _idle_times_for(self, requested: RequestedIdleTimes) -> IdleTimes:
        """Raises RhythmRefused for what is impossible or out of bounds."""
        idle_times = IdleTimes(
            lease=requested.lease or self._idle_times.lease,
            cooldown=requested.cooldown or self._idle_times.cooldown,
            poll=requested.poll or self._idle_times.poll,
        )
        if idle_times.lease < idle_times.shortest_lease:
            least = idle_times.shortest_lease.total_seconds()
            raise IdleTimesRefused(
                f"the lease must be at least {least:g} s: twice the poll and 2 s, or KEDA could miss it"
            )
        for name, given, most in (
            ("lease", requested.lease, self._limits.lease),
            ("cooldown", requested.cooldown, self._limits.cooldown),
        ):
            if given is not None and given > most:
                raise IdleTimesRefused(f"the {name} may be {most.total_seconds():g} s at most")
        return idle_times

    async def finish(
        self, uuid: SessionId, user_id: str, idle_times: IdleTimes | None = None, *, patient: bool = True
    ) -> Created:
        """Bring a claimed session to its end state, from wherever it stands.

        `patient`: wait for whoever is at work on it, or else raise SessionBusy.

        Raises IdTaken (and gives the claim back) when the id belongs to somebody else in the cluster.
        """
        async with self._lease(uuid, patient=patient) as lease:
            workload = await self._fresh(uuid)
            record = await self._record_or_none(uuid)
            if record is not None and record.status is RecordStatus.DELETING:
                await self._remove(record, lease)
                # What the delete left (a kept volume) is the user's own: the same id starts anew.
                await self._store.claim(user_id, uuid)
                workload = await self._fresh(uuid)
            if workload.exists and workload.user_id != user_id:
                if record is not None and workload.user_id is not None:
                    raise SessionBroken("objects of the session's name belong to another user; ask the operator")
                if record is None:
                    await self._store.release_claim(user_id, uuid)
                    raise IdTaken(uuid)
            installed = await self._install(workload, user_id, idle_times or self._idle_times, lease)
            if record is not None and record.queue.read_error:
                await self._queues.clear(uuid)
            if installed or record is None or record.status is not RecordStatus.CREATED or record.read_error:
                await lease.confirm()
                await self._store.save(
                    Record(
                        uuid,
                        user_id,
                        RecordStatus.CREATED,
                        created_at=_created_at(record, workload),
                        written_at=datetime.now(UTC),
                        last_activity=record.last_activity if record else None,
                        activity_source=record.activity_source if record else None,
                    )
                )
            return Created(uuid, fresh=installed)

    async def _install(self, workload: Workload, user_id: str, idle_times: IdleTimes, lease: SessionLock) -> bool:
        """Install or repair the release unless it stands, and park it; whether helm had to be asked."""
        uuid, release = workload.uuid, workload.release
        if workload.broken_reason is None:
            return False
        if release is not None and self._may_be_running(release):
            raise SessionBusy(retry_after=5)
        async with self._admission.run():
            await lease.confirm()
            if release is not None and release.unfinished:
                log.warning("removing an unfinished release", extra={"uuid": uuid, "state": release.state})
                await self._releases.uninstall(uuid)
            try:
                await self._cluster.reserve(uuid, user_id)
            except IdTaken:
                await self._store.release_claim(user_id, uuid)
                raise
            if workload.replicas == 0:
                # A wake of the session's life before, which nobody could answer, must not wake it now.
                await self._queues.clear(uuid)
            await lease.confirm()
            await self._releases.install(uuid, user_id, idle_times)
        if self._parking and workload.replicas == 0 and not workload.paused:
            await self._park(uuid)
        return True

    async def _park(self, uuid: SessionId) -> None:
        try:
            await self._cluster.park(uuid)
        except ClusterUnavailable:
            log.warning("a new session is left to the controller for parking", extra={"uuid": uuid})

    def _may_be_running(self, release: Release) -> bool:
        """Whether some helm, of a replica that died or of an operator, may be at work on the release."""
        return release.transient and datetime.now(UTC) - release.modified_at < self._helm_deadline

    # --- wake, sleep, delete --------------------------------------------------------------------------------------

    async def wake(self, uuid: SessionId, *, by: str = "api") -> int:
        """Ask for the pod; returns the queue's length. `by` is who asks, for whoever wants to know later.

        Raises SessionNotFound, SessionReleased, SessionDeleting, SessionBroken.
        """
        idle_times = await self.usable(uuid)
        length, first = await self._queues.wake(uuid, idle_times.lease)
        workload = self._cache.workload(uuid)
        if workload.replicas == 0:
            if first:
                self._journal.note(Woken(uuid=uuid, user=hashed(workload.user_id), by=by))
            # Noted before anything is done for it, and before the caller can ask how it comes along.
            await self._note(uuid, Stage.ACCEPTED)
        self._on_wake(uuid)
        return length

    async def heartbeat(self, uuid: SessionId, source: str) -> None:
        """Note activity, which keeps an awake session awake and never wakes a sleeper.

        Raises SessionAsleep, or as `wake`.
        """
        idle_times = await self.usable(uuid)
        await self._must_be_awake(uuid)
        await self._queues.heartbeat(uuid, source, idle_times.lease)

    async def extend(self, uuid: SessionId, by: timedelta) -> datetime:
        """Keep an awake session awake for `by` from now; until when it is kept, which an earlier wish may make later.

        Raises RhythmRefused, SessionAsleep, or as `wake`.
        """
        if by > self._limits.extension:
            raise IdleTimesRefused(
                f"a session can be kept awake for {self._limits.extension.total_seconds():g} s at most"
            )
        idle_times = await self.usable(uuid)
        await self._must_be_awake(uuid)
        # Of the time asked for, the cooldown is what KEDA gives after the queue has run out.
        lease = max(idle_times.lease, by - idle_times.cooldown + idle_times.poll)
        return await self._queues.keep_awake(uuid, datetime.now(UTC) + by, lease)

    async def sleep(self, uuid: SessionId, *, request: str = "-") -> None:
        """Send the pod to sleep now, whoever uses it. `request` is the id of who asks for it.

        Raises SessionPaused for a pod that an operator has paused: KEDA may hold it at its number, and would bring it
        back. Otherwise as `wake`.
        """
        await self.standing(uuid)
        workload = self._cache.workload(uuid)
        if workload.paused and workload.replicas:
            raise SessionPaused(workload.paused)
        await self._queues.clear(uuid, asked=request)
        await self._cluster.scale(uuid, 0)
        await self._note(uuid, Stage.ASLEEP)

    async def _note(self, uuid: SessionId, stage: Stage) -> None:
        """Note it if possible: what was asked for is done, whether anybody hears of it or not."""
        try:
            await self._progress.note(uuid, ProgressUpdate(stage))
        except Unavailable:
            log.warning("progress could not be noted", extra={"uuid": uuid, "stage": stage.value})

    async def _must_be_awake(self, uuid: SessionId) -> None:
        # A call per second and user: while the cache shows a pod, nobody is asked.
        if self._cache.workload(uuid).replicas == 0 and not (await self.status(uuid)).awake:
            raise SessionAsleep

    async def usable(self, uuid: SessionId) -> IdleTimes:
        """The session's times, when a wake can succeed as far as the cache knows; raises like `wake` otherwise."""
        workload = self._cache.workload(uuid)
        if workload.broken_reason is None and workload.read_error is None:
            return workload.idle_times or self._idle_times
        return await self.standing(uuid)

    async def standing(self, uuid: SessionId) -> IdleTimes:
        """The same by its record too, which alone says that a session is being deleted. One read of Redis."""
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

    async def delete(self, uuid: SessionId, *, keep_data: bool, patient: bool = True) -> None:
        """Remove release, keys and, unless `keep_data`, the volume. Goes on when the caller goes away.

        What cannot be done now, since a part is away, is finished later by the service itself (`Recovery`). `patient`:
        wait for whoever is at work on the session, or else raise SessionBusy.
        """
        await asyncio.shield(self._background(self._delete(uuid, keep_data=keep_data, patient=patient)))

    async def _delete(self, uuid: SessionId, *, keep_data: bool, patient: bool) -> None:
        started, record = time.monotonic(), await self._store.record(uuid)
        try:
            with self._admission.line():
                async with self._lease(uuid, patient=patient) as lease:
                    await self._store.mark_deleting(uuid, keep_data=keep_data)
                    await self._remove(await self._store.record(uuid), lease)
        except Unavailable as error:
            if patient:  # the service itself tries again and again
                self._failed("delete", uuid, record.user_id, error, started)
            raise

    async def _remove(self, record: Record, lease: SessionLock) -> None:
        """The second half of a delete, repeatable from any point: release, volume, and the keys last."""
        started = time.monotonic()
        await self._queues.clear(record.uuid)
        if (await self._fresh(record.uuid)).release is not None:
            async with self._admission.run():
                await lease.confirm()
                await self._releases.uninstall(record.uuid)
        await lease.confirm()
        await self._cluster.unreserve(record.uuid)
        if not record.keep_data:
            await lease.confirm()
            await self._cluster.delete_volume(record.uuid)
        await lease.confirm()
        await self._forget(record, "request", time.monotonic() - started)

    async def _forget(self, record: Record, by: str, seconds: float) -> None:
        uuid, user, keep_data = record.uuid, hashed(record.user_id), record.keep_data
        await self._store.forget(uuid)
        self._journal.note(Deleted(uuid=uuid, user=user, by=by, keep_data=keep_data, seconds=seconds))

    async def collect(self, uuid: SessionId, retention: timedelta) -> bool:
        """Forget the keys of a session whose release has been gone for `retention`; whether that was done.

        A kept volume stays: it says in the cluster whose it is, and the user's next create finds it.
        """
        async with self._lease(uuid) as lease:
            record = await self._record_or_none(uuid)
            if record is None or record.status is not RecordStatus.CREATED or record.read_error:
                return False
            now = datetime.now(UTC)
            gone = (await self._fresh(uuid)).released
            since = await self._store.note_released(uuid, now if gone else None)
            if since is None or now - since < retention:
                return False
            await lease.confirm()
            await self._forget(record, "retention", 0)
            return True

    # --- reading --------------------------------------------------------------------------------------------------

    async def status(self, uuid: SessionId) -> Session:
        """Raises SessionNotFound, IndexIncomplete."""
        (session,) = await self._joined([await self._store.record(uuid)])
        return session

    async def history(self, uuid: SessionId) -> Sequence[Entry]:
        """The session's last wakes, sleeps and failures, newest first. Raises SessionNotFound, IndexIncomplete."""
        await self._store.record(uuid)
        return told(await self._history.events(uuid))

    def behind(self) -> timedelta | None:
        """How old may be what the cluster's part of an answer says; None while the watch keeps up."""
        return self._cache.behind()

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
        return await self._joined(await self._store.records(uuids))

    async def _joined(self, records: Sequence[Record]) -> Sequence[Session]:
        """Each record with its workload: from the cache, unless that may not know yet what helm has just done."""
        now = datetime.now(UTC)
        workloads = {record.uuid: self._cache.workload(record.uuid) for record in records}
        doubtful = [
            record.uuid
            for record in records
            if workloads[record.uuid].broken_reason and record.written_at and now - record.written_at < _SETTLING
        ]
        workloads |= await self._cluster.read(doubtful)
        return [Session(record, workloads[record.uuid], self._idle_times) for record in records]

    async def _fresh(self, uuid: SessionId) -> Workload:
        return (await self._cluster.read([uuid]))[uuid]

    async def _record_or_none(self, uuid: SessionId) -> Record | None:
        records = await self._store.records([uuid])
        return records[0] if records else None

    # --- helpers --------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _lease(self, uuid: SessionId, *, patient: bool = True) -> AsyncIterator[SessionLock]:
        """The session's session lock, waited for as long as one helm run can take if `patient`."""
        async with AsyncExitStack() as held:
            yield await self._entered(held, uuid, patient=patient)

    async def _entered(self, held: AsyncExitStack, uuid: SessionId, *, patient: bool) -> SessionLock:
        deadline = asyncio.get_running_loop().time() + self._helm_deadline.total_seconds()
        while True:
            try:
                return await held.enter_async_context(self._store.lock(uuid))
            except SessionBusy:
                if not patient or asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(_LEASE_RETRY)

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


def _created_at(record: Record | None, workload: Workload) -> datetime:
    if record is not None and not record.read_error:
        return record.created_at
    return workload.created_at or datetime.now(UTC)


def _after(cursor: str | None) -> str:
    if cursor is None:
        return ""
    try:
        return names.parse_session_id(cursor)
    except SessionNotFound:
        raise InvalidCursor from None
