"""Create and remove sessions. Every step can be repeated, and can be interrupted anywhere.

A create leaves its traces in this order, so that what a crash leaves behind says how to continue:

1. the *claim* in Redis: this user has this id, and wants this;
2. the *reservation* in the cluster: a Deployment of that name with 0 replicas, with the user's id and wishes on it;
3. the *release*: helm adopts the Deployment and adds the rest;
4. the *record* in Redis: from now on the session exists for callers.

Any replica can continue from any of these, under the session's lock (`Store.lock`). `finish` is that one path: for a
first create, for the create after a crash, and for `Recovery` at start-up.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from service.domain import journal as journals
from service.domain import names
from service.domain.admission_queue import AdmissionQueue
from service.domain.errors import (
    ClusterUnavailable,
    IdleTimesRefused,
    IdTaken,
    InvalidUserId,
    SessionBroken,
    SessionBusy,
    SessionInUse,
    SessionNotFound,
    Unavailable,
)
from service.domain.expiry import Expired
from service.domain.expiry_notes import ExpiryNotes
from service.domain.idle_times import IdleTimes
from service.domain.journal import Deleted, Failed, Journal, hashed
from service.domain.limits import NOTHING_REQUESTED, Limits, RequestedIdleTimes
from service.domain.metrics import SILENT, Creation, ServiceMetrics
from service.domain.names import SessionId
from service.domain.ports import Cluster, Queues, Releases, SessionLock, Store
from service.domain.profiles import NO_PROFILES, Profiles
from service.domain.queries import SessionQueries
from service.domain.record import Record, RecordStatus
from service.domain.release import Release
from service.domain.session import Session
from service.domain.wanted import NOTHING_WANTED, Wanted
from service.domain.workload import Assignment, Workload

log = logging.getLogger(__name__)

IDS_TO_TRY = 5
"""A random id may be taken already; a create gives up after this many. Outside of tests it never took two."""

_LOCK_RETRY = 0.1
_MOST_SKEW = timedelta(minutes=5)
"""Between the clocks of Redis and the API server."""


@dataclass(frozen=True, slots=True)
class Created:
    """The session's id, and whether this call made or restored it."""

    uuid: SessionId
    fresh: bool
    assignment: Assignment
    """What the session has, whatever this call asked for."""


class Provisioner:
    """Reads the cluster itself, not the cache. Keeps no state but the work in progress."""

    def __init__(
        self,
        *,
        queries: SessionQueries,
        store: Store,
        queues: Queues,
        releases: Releases,
        cluster: Cluster,
        admission: AdmissionQueue,
        idle_times: IdleTimes,
        helm_deadline: timedelta,
        profiles: Profiles = NO_PROFILES,
        parking: bool = True,
        limits: Limits | None = None,
        metrics: ServiceMetrics = SILENT,
        journal: Journal = journals.SILENT,
        expiries: ExpiryNotes | None = None,
        new_id: Callable[[], SessionId] = names.new_session_id,
    ) -> None:
        """`helm_deadline` is how long a helm process may run: an unfinished release older than that is abandoned."""
        self._queries = queries
        self._store = store
        self._queues = queues
        self._releases = releases
        self._cluster = cluster
        self.admission = admission
        """Where creates and deletes wait for helm."""
        self._idle_times = idle_times
        self._profiles = profiles
        self._helm_deadline = helm_deadline
        self._parking = parking
        self._limits = limits or Limits()
        self._metrics = metrics
        self._journal = journal
        self._expiries = expiries
        self._new_id = new_id
        self._creating: dict[str, asyncio.Task[Created]] = {}
        self._running: set[asyncio.Task[Any]] = set()

    # --- create ---

    async def create(
        self,
        user_id: str,
        requested: RequestedIdleTimes = NOTHING_REQUESTED,
        *,
        profile: str | None = None,
        group: str | None = None,
    ) -> Created:
        """Give the user a session: the same one for every call, concurrent ones included.

        The work continues if the caller disconnects, and concurrent callers for one user share it. `requested` is used
        if this call installs the release, `profile` and `group` if it makes the session: an existing session keeps its
        times, profile and group. Raises InvalidUserId, IdleTimesRefused.
        """
        if not names.is_user_id(user_id):
            raise InvalidUserId
        wanted = Wanted(requested, profile, group)
        self._times(wanted, profile or self._profiles.default)
        task = self._creating.get(user_id)
        if task is not None:
            return replace(await asyncio.shield(task), fresh=False)
        task = self._background(self._create(user_id, wanted), "create")
        self._creating[user_id] = task
        task.add_done_callback(lambda _: self._creating.pop(user_id, None))
        return await asyncio.shield(task)

    async def _create(self, user_id: str, wanted: Wanted) -> Created:
        started, outcome = time.monotonic(), Creation.FAILED
        try:
            created = await self._find_or_install(user_id, wanted)
        except Unavailable as error:
            self._note_failure("create", None, user_id, error, started)
            raise
        else:
            outcome = Creation.INSTALLED if created.fresh else Creation.PRESENT
            seconds, user = time.monotonic() - started, hashed(user_id)
            self._journal.note(journals.Created(uuid=created.uuid, user=user, outcome=outcome, seconds=seconds))
            return created
        finally:
            self._metrics.created(outcome, time.monotonic() - started)

    def _note_failure(
        self, doing: str, uuid: SessionId | None, user_id: str | None, error: Unavailable, started: float
    ) -> None:
        seconds = time.monotonic() - started
        self._journal.note(Failed(uuid=uuid, user=hashed(user_id), doing=doing, reason=str(error), seconds=seconds))

    async def _find_or_install(self, user_id: str, wanted: Wanted) -> Created:
        uuid = await self._store.owner(user_id)
        complete = await self._complete(uuid) if uuid is not None else None
        if complete is not None:
            return Created(complete.record.uuid, fresh=False, assignment=complete.workload.assignment)
        with self.admission.admit():
            for _ in range(IDS_TO_TRY):
                try:
                    return await self.finish(await self._claim(user_id, wanted), user_id, wanted)
                except IdTaken as taken:
                    log.warning("a new id is already taken; trying another one", extra={"uuid": str(taken)})
        raise SessionBusy("no free id was found; try again")

    async def _complete(self, uuid: SessionId) -> Session | None:
        """The session, if a create has nothing to do."""
        try:
            session = await self._queries.status(uuid)
        except SessionNotFound:
            return None
        intact = session.workload.broken_reason is None and not session.read_error
        return session if intact and session.status is RecordStatus.CREATED else None

    async def _claim(self, user_id: str, wanted: Wanted) -> SessionId:
        """The user's id: from Redis, else from what the cluster still holds of the user, else a new one."""
        uuid = await self._store.owner(user_id)
        if uuid is None:
            found = await self._cluster.find(user_id)
            uuid = await self._store.claim(user_id, found or self._new_id(), wanted)
        return uuid

    async def finish(
        self, uuid: SessionId, user_id: str, wanted: Wanted = NOTHING_WANTED, *, wait: bool = True
    ) -> Created:
        """Complete a claimed session, from whatever state it is in.

        An unfinished create that is still stored decides what the session gets; `wanted` is for a session without one.
        With `wait`, wait until the session's lock is free; else raise SessionBusy. Raises IdTaken, and releases the
        claim, when the id belongs to another user in the cluster.
        """
        async with self._locked(uuid, wait=wait) as lock:
            workload = await self._read_workload(uuid)
            record = await self._find_record(uuid)
            if record is not None and record.status is RecordStatus.DELETING and not _is_former(record, workload):
                await self._remove(record, lock)
                # What the delete left (a kept volume) is the user's own: reuse the id.
                await self._store.claim(user_id, uuid, wanted)
                workload = await self._read_workload(uuid)
            if workload.exists and workload.user_id != user_id:
                if record is not None and workload.user_id is not None:
                    raise SessionBroken("objects with the session's name belong to another user; ask the operator")
                if record is None:
                    await self._store.release_claim(user_id, uuid)
                    raise IdTaken(uuid)
            if record is None:
                stored = await self._store.wanted(uuid)
                wanted = self._allowed(stored) if stored else wanted
            assignment = self._assignment(workload, wanted)
            installed = await self._install(workload, user_id, wanted, assignment, lock)
            if record is not None and record.queue.read_error:
                await self._queues.clear(uuid)
            if installed or record is None or record.status is not RecordStatus.CREATED or record.read_error:
                await lock.confirm()
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
            return Created(uuid, fresh=installed, assignment=assignment)

    def _assignment(self, workload: Workload, wanted: Wanted) -> Assignment:
        """That of a Deployment, once there is one. A volume's that was kept counts unless another one is wanted."""
        kept = workload.assignment
        kept = replace(kept, idle_times=workload.idle_times or kept.idle_times)
        if workload.deployed:
            return kept
        profile = wanted.profile or (kept.profile if self._profiles.has(kept.profile) else self._profiles.default)
        return replace(kept, profile=profile, group=wanted.group or kept.group)

    def _allowed(self, stored: Wanted) -> Wanted:
        """What can still be had of it: since it was stored, an operator may have changed profiles and limits."""
        if not self._profiles.has(stored.profile):
            stored = replace(stored, profile=None)
        try:
            self._times(stored, stored.profile or self._profiles.default)
        except IdleTimesRefused:
            return replace(stored, idle_times=NOTHING_REQUESTED)
        return stored

    def _times(self, wanted: Wanted, profile: str | None) -> IdleTimes:
        """Raises IdleTimesRefused, and SessionBroken for a profile that is not defined."""
        found = self._profiles.find(profile)
        if found is None:
            return self._limits.idle_times(wanted.idle_times, self._idle_times)
        return found.limits(self._limits).idle_times(wanted.idle_times, found.idle_times(self._idle_times))

    async def _install(
        self, workload: Workload, user_id: str, wanted: Wanted, assignment: Assignment, lock: SessionLock
    ) -> bool:
        """Install or repair the release unless it is intact, and park it; whether helm had to run."""
        uuid, release = workload.uuid, workload.release
        if workload.broken_reason is None:
            return False
        if release is not None and self._may_be_running(release):
            raise SessionBusy(retry_after=5)
        self._profiles.find(assignment.profile)  # raises for one that is no longer defined
        idle_times = assignment.idle_times or self._times(wanted, assignment.profile)
        assignment = replace(assignment, idle_times=idle_times)
        if release is None:
            # Before the wait for helm, so that whoever finishes this knows what was asked for.
            await lock.confirm()
            await self._reserve(uuid, user_id, assignment)
        async with self.admission.slot():
            await lock.confirm()
            if release is not None and release.unfinished:
                log.warning("removing an unfinished release", extra={"uuid": uuid, "state": release.state})
                await self._releases.uninstall(uuid)
            if release is not None:
                await self._reserve(uuid, user_id, assignment)
            if workload.replicas == 0:
                # A wake that was pending before the release was removed must not wake it now.
                await self._queues.clear(uuid)
            await lock.confirm()
            await self._releases.install(uuid, user_id, idle_times, assignment)
        if self._parking and workload.replicas == 0 and not workload.paused:
            try:
                await self._cluster.park(uuid)
            except ClusterUnavailable:
                log.warning("a new session is left to the controller for parking", extra={"uuid": uuid})
        return True

    async def _reserve(self, uuid: SessionId, user_id: str, assignment: Assignment) -> None:
        try:
            await self._cluster.reserve(uuid, user_id, assignment)
        except IdTaken:
            await self._store.release_claim(user_id, uuid)
            raise

    def _may_be_running(self, release: Release) -> bool:
        """Whether another helm process, of a dead replica or an operator, may still be working on the release."""
        return release.transient and datetime.now(UTC) - release.modified_at < self._helm_deadline

    # --- delete ---

    async def delete(
        self,
        uuid: SessionId,
        *,
        keep_data: bool,
        wait: bool = True,
        expired: Expired | None = None,
    ) -> str:
        """Remove release, keys and, unless `keep_data`, the volume. Returns whose it was: what its record says.

        Continues if the caller disconnects.

        If a dependency is unavailable, `Recovery` finishes the rest later. With `wait`, wait until the session's lock
        is free; otherwise raise SessionBusy. With `expired`, raises SessionInUse if
        that is no longer so.
        """
        work = self._delete(uuid, keep_data=keep_data, wait=wait, expired=expired)
        gone: str = await asyncio.shield(self._background(work, "delete"))
        return gone

    async def _delete(self, uuid: SessionId, *, keep_data: bool, wait: bool, expired: Expired | None) -> str:
        started, record = time.monotonic(), await self._store.record(uuid)
        try:
            with self.admission.admit():
                async with self._locked(uuid, wait=wait) as lock:
                    if expired is not None:
                        await self._check_expired(uuid, expired)
                    await self._store.mark_deleting(uuid, keep_data=keep_data, expired=expired)
                    await self._remove(await self._store.record(uuid), lock)
        except Unavailable as error:
            if wait:  # otherwise Recovery asked, which tries again
                self._note_failure("delete", uuid, record.user_id, error, started)
            raise
        return record.user_id

    async def _check_expired(self, uuid: SessionId, expired: Expired) -> None:
        """The cluster itself may know of a pod or a pause that the cache has not seen yet. Raises SessionInUse."""
        workload, since = await self._read_workload(uuid), expired.idle_since
        if workload.paused or workload.broken_reason or workload.read_error:
            raise SessionInUse
        if since is not None and (workload.replicas or (workload.last_active and workload.last_active > since)):
            raise SessionInUse

    async def finish_delete(self, record: Record) -> None:
        """Continue an interrupted delete, without a wait for the session's lock. Raises as `delete`.

        A session that was created since stays: then Redis was restored, and has forgotten both.
        """
        workload = await self._read_workload(record.uuid)
        if _is_former(record, workload) and workload.user_id is not None:
            log.warning("an interrupted delete is older than the session, which stays", extra={"uuid": record.uuid})
            await self.finish(record.uuid, workload.user_id, wait=False)
        else:
            await self.delete(record.uuid, keep_data=record.keep_data, wait=False)

    async def _remove(self, record: Record, lock: SessionLock) -> None:
        """The second half of a delete, repeatable from any point: release, volume, and the keys last."""
        started = time.monotonic()
        await self._queues.clear(record.uuid)
        if (await self._read_workload(record.uuid)).release is not None:
            async with self.admission.slot():
                await lock.confirm()
                await self._releases.uninstall(record.uuid)
        await lock.confirm()
        await self._cluster.unreserve(record.uuid)
        if not record.keep_data:
            await lock.confirm()
            await self._cluster.delete_volume(record.uuid)
        await lock.confirm()
        await self._forget(record, record.expired or "request", time.monotonic() - started)
        if record.expired is not None and self._expiries is not None:
            self._expiries.deleted(record, record.expired)

    async def collect(self, uuid: SessionId, retention: timedelta) -> bool:
        """Delete the keys of a session whose release has been gone for `retention`; returns whether it did so.

        A kept volume stays: its labels say whose it is, and the user's next create finds it.
        """
        async with self._locked(uuid) as lock:
            record = await self._find_record(uuid)
            if record is None or record.status is not RecordStatus.CREATED or record.read_error:
                return False
            now = datetime.now(UTC)
            gone = (await self._read_workload(uuid)).released
            since = await self._store.note_released(uuid, now if gone else None)
            if since is None or now - since < retention:
                return False
            await lock.confirm()
            await self._forget(record, "retention", 0)
            return True

    async def _forget(self, record: Record, by: str, seconds: float) -> None:
        uuid, user, keep_data = record.uuid, hashed(record.user_id), record.keep_data
        await self._store.forget(uuid)
        self._journal.note(Deleted(uuid=uuid, user=user, by=by, keep_data=keep_data, seconds=seconds))

    # --- helpers ---

    async def _read_workload(self, uuid: SessionId) -> Workload:
        return (await self._cluster.read([uuid]))[uuid]

    async def _find_record(self, uuid: SessionId) -> Record | None:
        return next(iter(await self._store.records([uuid])), None)

    @asynccontextmanager
    async def _locked(self, uuid: SessionId, *, wait: bool = True) -> AsyncIterator[SessionLock]:
        """Hold the session's lock; `wait` for it as long as one helm run can take."""
        deadline = time.monotonic() + self._helm_deadline.total_seconds()
        async with AsyncExitStack() as held:
            lock = None
            while lock is None:
                try:
                    lock = await held.enter_async_context(self._store.lock(uuid))
                except SessionBusy:
                    if not wait or time.monotonic() > deadline:
                        raise
                    await asyncio.sleep(_LOCK_RETRY)
            yield lock

    def _background(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """A task that a caller's cancellation does not reach; `close` waits for it."""
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def close(self) -> None:
        """Wait for the work in progress: a helm in the middle of an install may finish."""
        while self._running:
            await asyncio.gather(*self._running, return_exceptions=True)


def _is_former(record: Record, workload: Workload) -> bool:
    """Whether the record is that of a session that was deleted before this one, with the same id, was created."""
    since, created = record.deleting_since, workload.created_at
    return since is not None and created is not None and workload.deployed and created > since + _MOST_SKEW


def _created_at(record: Record | None, workload: Workload) -> datetime:
    if record is not None and not record.read_error:
        return record.created_at
    return workload.created_at or datetime.now(UTC)
