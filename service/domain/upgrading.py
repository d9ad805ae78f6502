"""Upgrade one session's release to today's chart and chart values, or roll it back if that fails."""

import asyncio
import logging
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from service.domain.admission_queue import AdmissionQueue
from service.domain.clock import utc_now
from service.domain.errors import (
    ClusterUnavailable,
    HelmUnavailable,
    SessionAwake,
    SessionBroken,
    SessionBusy,
    SessionDeleting,
    SessionError,
    SessionReleased,
    SessionUnreadable,
    Unavailable,
    UpgradeConflict,
    UpgradeFailed,
)
from service.domain.journal import REASON_LIMIT, Failed, Journal, Upgraded, hashed
from service.domain.names import SessionId
from service.domain.ports import Cluster, Releases, SessionLock, Store
from service.domain.record import Record, RecordStatus
from service.domain.release import Release, ReleaseState
from service.domain.rollout import Standing, standing
from service.domain.workload import Workload

log = logging.getLogger(__name__)

T = TypeVar("T")

_BY_HAND = "the release was installed by hand, without a user; upgrade it with helm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """`changed`: whether helm had to run. `revision`: the one that the release has now."""

    changed: bool
    revision: str


class ReleaseUpgrades:
    """Reads the cluster itself, not the cache. Every step can be interrupted, and repeated by any replica."""

    def __init__(
        self,
        *,
        store: Store,
        releases: Releases,
        cluster: Cluster,
        admission: AdmissionQueue,
        helm_deadline: timedelta,
        journal: Journal,
    ) -> None:
        """`helm_deadline` is how long a helm process may run: a release that is older and unfinished is abandoned."""
        self._store = store
        self._releases = releases
        self._cluster = cluster
        self._admission = admission
        self._helm_deadline = helm_deadline
        self._journal = journal
        self._running: set[asyncio.Task[Any]] = set()
        self.closing = False
        """Whether the process ends, so that a rollout shall begin no further upgrade."""

    @property
    def target(self) -> str:
        """Names the revisions that releases shall have."""
        return self._releases.target

    def standing(self, workload: Workload) -> Standing:
        """How the session stands. A release that a helm process has abandoned does not count as busy."""
        stands = standing(workload, self._releases.revision(workload.assignment))
        if stands is Standing.BUSY and workload.release is not None and not self._may_be_running(workload.release):
            return Standing.AWAKE if workload.replicas else Standing.ASLEEP
        return stands

    def is_outdated(self, workload: Workload) -> bool:
        """Whether the release has another revision than new ones get, or a failed upgrade."""
        return self.standing(workload) not in (Standing.NONE, Standing.UPGRADED)

    async def upgrade(self, uuid: SessionId, *, by: str, restart: bool = False) -> Upgrade:
        """Upgrade the release, unless it needs nothing. Never scales, so a sleeper stays asleep.

        `by`, the kind of caller, goes into the history.

        Continues if the caller is cancelled. An awake session is refused unless its pod may `restart`. A release that
        fails is rolled back.

        Raises SessionAwake, UpgradeFailed with the reason, SessionBusy, HelmQueueFull, SessionNotFound,
        SessionReleased, SessionBroken, SessionDeleting, SessionUnreadable.
        """
        return await self._finish(self._upgrade(uuid, by=by, restart=restart), "upgrade")

    async def undo(self, uuid: SessionId) -> None:
        """Roll the release back to the revision before, if it is upgraded, even if its pod is restarted for that.

        Raises what `upgrade` raises.
        """
        await self._finish(self._undo(uuid), "undo an upgrade")

    def go_on(self, work: Coroutine[Any, Any, T], name: str) -> "asyncio.Task[T]":
        """Do work that ends with nobody who waits for it; `close` waits."""
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def close(self) -> None:
        """Wait for the work in progress: a helm in the middle of an upgrade may finish."""
        self.closing = True
        while self._running:
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _finish(self, work: Coroutine[Any, Any, T], name: str) -> T:
        return await asyncio.shield(self.go_on(work, name))

    async def _upgrade(self, uuid: SessionId, *, by: str, restart: bool) -> Upgrade:
        # The lock comes last: nobody who holds one waits for a slot that this holds.
        with self._admission.admit():
            async with self._admission.slot(), self._store.lock(uuid) as lock:
                workload = await self._read(uuid)
                if self.standing(workload) is Standing.UPGRADED:
                    return Upgrade(changed=False, revision=self._wanted(workload))
                record = await self._store.record(uuid)
                self._check(workload, record)
                revision = self._wanted(workload)
                if not restart and (workload.replicas or record.queue.is_wanted):
                    raise SessionAwake
                started, began = time.monotonic(), utc_now()
                try:
                    await self._run(workload, lock)
                except UpgradeFailed as error:
                    self._note_failure(workload, error, started)
                    raise
        seconds, user = time.monotonic() - started, hashed(workload.user_id)
        self._journal.note(Upgraded(uuid=uuid, user=user, at=began, by=by, revision=revision, seconds=seconds))
        return Upgrade(changed=True, revision=revision)

    async def _undo(self, uuid: SessionId) -> None:
        with self._admission.admit():
            async with self._admission.slot(), self._store.lock(uuid) as lock:
                workload = await self._read(uuid)
                release = workload.release
                if (
                    release is not None
                    and release.revision > 1
                    and workload.revision == self._releases.revision(workload.assignment)
                ):
                    await lock.confirm()
                    await self._releases.rollback(uuid, release.revision - 1)

    def _note_failure(self, workload: Workload, error: UpgradeFailed, started: float) -> None:
        reason, user = str(error)[:REASON_LIMIT], hashed(workload.user_id)
        seconds = time.monotonic() - started
        self._journal.note(Failed(uuid=workload.uuid, user=user, doing="upgrade", reason=reason, seconds=seconds))

    def _wanted(self, workload: Workload) -> str:
        """The revision that the release shall have. Raises SessionBroken."""
        revision = self._releases.revision(workload.assignment)
        if revision is None:
            raise SessionBroken(f"the session's profile {workload.assignment.profile!r:.70} is no longer defined")
        return revision

    def _may_be_running(self, release: Release) -> bool:
        """Whether another helm process, of a dead replica or an operator, may still be working on the release."""
        return release.transient and datetime.now(UTC) - release.modified_at < self._helm_deadline

    def _check(self, workload: Workload, record: Record) -> None:
        """Raises unless the release can be upgraded."""
        if unreadable := record.read_error or record.queue.read_error or workload.read_error:
            raise SessionUnreadable(unreadable)
        if record.status is RecordStatus.DELETING or workload.deleting:
            raise SessionDeleting
        if workload.released or workload.release is None:
            raise SessionReleased
        if workload.broken_reason:
            raise SessionBroken(workload.broken_reason)
        if workload.user_id is None:
            raise SessionBroken(_BY_HAND)
        if self._may_be_running(workload.release):
            raise SessionBusy(retry_after=5)

    async def _run(self, workload: Workload, lock: SessionLock) -> None:
        uuid, release = workload.uuid, workload.release
        if release is not None and release.transient and workload.installed_revision is not None:
            # Helm died in the middle of it, and refuses to upgrade what it believes to be in progress.
            log.warning("rolling an abandoned upgrade back", extra={"uuid": uuid, "state": release.state})
            await lock.confirm()
            await self._releases.rollback(uuid, workload.installed_revision)
        await lock.confirm()
        try:
            await self._upgrade_release(workload, lock)
        except (HelmUnavailable, SessionBusy):
            raise
        except UpgradeConflict as error:
            reason = str(error) + await self._roll_back(uuid, lock)
            raise UpgradeConflict(". ".join(filter(None, (reason, error.step))), managers=error.managers) from error
        except Unavailable as error:
            if isinstance(error, ClusterUnavailable):
                # A webhook that does not answer sounds like an API server that does not.
                await self._cluster.check()
            reason = str(error) + await self._roll_back(uuid, lock)
            raise UpgradeFailed(reason) from error

    async def _upgrade_release(self, workload: Workload, lock: SessionLock) -> None:
        try:
            await self._releases.upgrade(workload)
        except UpgradeConflict as error:
            # Somebody has applied the chart's own manifest: with the same values, so nobody's change is lost.
            if not await self._cluster.disown(workload.uuid, error.managers):
                raise
            log.info("fields of others have helm's values", extra={"uuid": workload.uuid, "by": [*error.managers]})
            await lock.confirm()
            await self._releases.upgrade(workload)

    async def _roll_back(self, uuid: SessionId, lock: SessionLock) -> str:
        """Roll a failed upgrade back, unless it left nothing; returns what there is to add to the reason."""
        workload = await self._read(uuid)
        if workload.release is None or workload.release.state is ReleaseState.DEPLOYED:
            return ""
        if workload.installed_revision is None:
            return "; there is no revision to roll it back to"
        await lock.confirm()
        try:
            await self._releases.rollback(uuid, workload.installed_revision)
        except SessionError as error:
            # Most likely for the same reason, such as a change by hand; the session works nevertheless.
            log.warning("a failed upgrade could not be rolled back: %s", error, extra={"uuid": uuid})
            return "; it could not be rolled back either, for which the service's log has the reason"
        return "; it is rolled back"

    async def _read(self, uuid: SessionId) -> Workload:
        return (await self._cluster.read([uuid]))[uuid]
