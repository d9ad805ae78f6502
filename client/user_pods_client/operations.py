"""A method per operation, for both clients. Made by `make generated`; a test compares it with the service."""

from abc import ABC, abstractmethod
from typing import TypeVar

from user_pods_client import calls
from user_pods_client.call import Call
from user_pods_client.models import (
    Action,
    Alive,
    AuditPage,
    CreatedSession,
    Diagnosis,
    Fixed,
    HealthReport,
    History,
    IdleTimes,
    Opened,
    Phase,
    ProfileList,
    Revoked,
    SessionList,
    Spared,
    Status,
    Summary,
    Upgrade,
    Upgraded,
    WhoAmI,
)

T = TypeVar("T")


class Operations(ABC):
    @abstractmethod
    def _send(self, call: Call[T]) -> T:
        """The result of a call. Raises a ClientError."""

    def create(
        self, user_id: str, *, idle: IdleTimes | None = None, profile: str | None = None, group: str | None = None
    ) -> CreatedSession:
        """Create a session. A user has one session: every call for the same `user_id` returns it. The pod is
        installed asleep."""
        return self._send(calls.create(user_id, idle=idle, profile=profile, group=group))

    def wake(self, uuid: str) -> Action:
        """Wake the pod. Also the heartbeat: call it on every user message."""
        return self._send(calls.wake(uuid))

    def sleep(self, uuid: str, *, now: bool = False) -> Action:
        """Send the pod to sleep now. It sleeps even if somebody is using it. While a page of it is open, the answer
        comes two seconds later: the page saves. A wake or an extension meanwhile makes the call void."""
        return self._send(calls.sleep(uuid, now=now))

    def activity(self, uuid: str, source: str) -> Action:
        """Report activity. Keeps an awake session awake. It never wakes a sleeping one."""
        return self._send(calls.activity(uuid, source))

    def extend(self, uuid: str, seconds: int) -> Action:
        """Keep the pod awake for a time. Counts from now, regardless of activity."""
        return self._send(calls.extend(uuid, seconds))

    def keep(self, uuid: str, seconds: int) -> Spared:
        """Keep the session from deletion for a time. From the deletion that `deletes_at` announces, not from that by
        `DELETE`. It wakes nothing."""
        return self._send(calls.keep(uuid, seconds))

    def open(self, uuid: str, *, to: str = "/") -> Opened:
        """Get a link to the workspace. The link signs a browser in and works once. Give it to the session's user
        only."""
        return self._send(calls.open_(uuid, to=to))

    def revoke(self, uuid: str) -> Revoked:
        """Revoke all sign-ins to the workspace. Within seconds, every replica of the gateway refuses all links and
        session cookies that exist, and closes open WebSockets and downloads. A new link opens the workspace again, so
        first stop whatever issues links to this user."""
        return self._send(calls.revoke(uuid))

    def status(self, uuid: str) -> Status:
        """Get a session's status."""
        return self._send(calls.status(uuid))

    def history(self, uuid: str) -> History:
        """List a session's wakes, sleeps, failures, upgrades and revocations."""
        return self._send(calls.history(uuid))

    def delete(self, uuid: str, *, keep_data: bool = True) -> None:
        """Delete a session. Removes the release and the keys and, with `keep_data=false`, the volume."""
        return self._send(calls.delete(uuid, keep_data=keep_data))

    def list_sessions(
        self,
        *,
        cursor: str | None = None,
        limit: int = 50,
        user_id: str | None = None,
        phase: Phase | None = None,
        awake: bool | None = None,
    ) -> SessionList:
        """List sessions. Ordered by id. A page may be short although more follow: rely on `cursor`."""
        return self._send(calls.list_sessions(cursor=cursor, limit=limit, user_id=user_id, phase=phase, awake=awake))

    def summary(self) -> Summary:
        """Count the sessions. All sessions by phase, and how many are awake of how many that may be."""
        return self._send(calls.summary())

    def profiles(self) -> ProfileList:
        """List profiles. What a create can choose from: sets of chart values that the operator has defined."""
        return self._send(calls.profiles())

    def upgrade(self, uuid: str, *, restart: bool = False) -> Upgraded:
        """Upgrade a session's release. A sleeping session stays asleep. A release that fails is rolled back."""
        return self._send(calls.upgrade(uuid, restart=restart))

    def start_upgrade(
        self, *, only_asleep: bool = False, max_parallel: int = 2, canary: int = 0, max_failures: int = 2
    ) -> Upgrade:
        """Start to upgrade all sessions. Sleeping sessions are upgraded at once and stay asleep, the others when they
        sleep. While an upgrade to the same target is under way, nothing changes."""
        return self._send(
            calls.start_upgrade(
                only_asleep=only_asleep, max_parallel=max_parallel, canary=canary, max_failures=max_failures
            )
        )

    def show_upgrade(self) -> Upgrade:
        """Get how many sessions are up to date, and the last upgrade. Cheap enough to be asked every second. The
        numbers are a second old at most."""
        return self._send(calls.show_upgrade())

    def continue_upgrade(self) -> Upgrade:
        """Upgrade the rest without waiting for the canaries."""
        return self._send(calls.continue_upgrade())

    def stop_upgrade(self) -> Upgrade:
        """Stop the upgrade of all sessions. Those that are being upgraded are finished."""
        return self._send(calls.stop_upgrade())

    def audit(
        self,
        *,
        cursor: str | None = None,
        limit: int = 50,
        uuid: str | None = None,
        caller: str | None = None,
        user_id: str | None = None,
    ) -> AuditPage:
        """List who has done what. Every change that callers of the API have asked for, and every refusal. A page may
        be short although more follow: rely on `cursor`."""
        return self._send(calls.audit(cursor=cursor, limit=limit, uuid=uuid, caller=caller, user_id=user_id))

    def diagnosis(self) -> Diagnosis:
        """Find faults of the whole system. Looks at Redis, the cluster and every session: up to half a minute. A
        check that cannot run is a finding, too."""
        return self._send(calls.diagnosis())

    def fix(self, check: str, subject: str) -> Fixed:
        """Mend a finding. Looks again, and mends what is `fixable`, which loses nothing of anybody's. Repeat it at
        will."""
        return self._send(calls.fix(check, subject))

    def whoami(self) -> WhoAmI:
        """Get who calls."""
        return self._send(calls.whoami())

    def health(self) -> HealthReport:
        """Check what the service depends on."""
        return self._send(calls.health())

    def metrics(self) -> str:
        """Get metrics for Prometheus. The same as `METRICS_PORT` serves without a key."""
        return self._send(calls.metrics())

    def livez(self) -> Alive:
        """Check whether the process is alive."""
        return self._send(calls.livez())

    def readyz(self) -> Alive:
        """Check whether the process can serve."""
        return self._send(calls.readyz())


class AsyncOperations(ABC):
    @abstractmethod
    async def _send(self, call: Call[T]) -> T:
        """The result of a call. Raises a ClientError."""

    async def create(
        self, user_id: str, *, idle: IdleTimes | None = None, profile: str | None = None, group: str | None = None
    ) -> CreatedSession:
        """Create a session. A user has one session: every call for the same `user_id` returns it. The pod is
        installed asleep."""
        return await self._send(calls.create(user_id, idle=idle, profile=profile, group=group))

    async def wake(self, uuid: str) -> Action:
        """Wake the pod. Also the heartbeat: call it on every user message."""
        return await self._send(calls.wake(uuid))

    async def sleep(self, uuid: str, *, now: bool = False) -> Action:
        """Send the pod to sleep now. It sleeps even if somebody is using it. While a page of it is open, the answer
        comes two seconds later: the page saves. A wake or an extension meanwhile makes the call void."""
        return await self._send(calls.sleep(uuid, now=now))

    async def activity(self, uuid: str, source: str) -> Action:
        """Report activity. Keeps an awake session awake. It never wakes a sleeping one."""
        return await self._send(calls.activity(uuid, source))

    async def extend(self, uuid: str, seconds: int) -> Action:
        """Keep the pod awake for a time. Counts from now, regardless of activity."""
        return await self._send(calls.extend(uuid, seconds))

    async def keep(self, uuid: str, seconds: int) -> Spared:
        """Keep the session from deletion for a time. From the deletion that `deletes_at` announces, not from that by
        `DELETE`. It wakes nothing."""
        return await self._send(calls.keep(uuid, seconds))

    async def open(self, uuid: str, *, to: str = "/") -> Opened:
        """Get a link to the workspace. The link signs a browser in and works once. Give it to the session's user
        only."""
        return await self._send(calls.open_(uuid, to=to))

    async def revoke(self, uuid: str) -> Revoked:
        """Revoke all sign-ins to the workspace. Within seconds, every replica of the gateway refuses all links and
        session cookies that exist, and closes open WebSockets and downloads. A new link opens the workspace again, so
        first stop whatever issues links to this user."""
        return await self._send(calls.revoke(uuid))

    async def status(self, uuid: str) -> Status:
        """Get a session's status."""
        return await self._send(calls.status(uuid))

    async def history(self, uuid: str) -> History:
        """List a session's wakes, sleeps, failures, upgrades and revocations."""
        return await self._send(calls.history(uuid))

    async def delete(self, uuid: str, *, keep_data: bool = True) -> None:
        """Delete a session. Removes the release and the keys and, with `keep_data=false`, the volume."""
        return await self._send(calls.delete(uuid, keep_data=keep_data))

    async def list_sessions(
        self,
        *,
        cursor: str | None = None,
        limit: int = 50,
        user_id: str | None = None,
        phase: Phase | None = None,
        awake: bool | None = None,
    ) -> SessionList:
        """List sessions. Ordered by id. A page may be short although more follow: rely on `cursor`."""
        return await self._send(
            calls.list_sessions(cursor=cursor, limit=limit, user_id=user_id, phase=phase, awake=awake)
        )

    async def summary(self) -> Summary:
        """Count the sessions. All sessions by phase, and how many are awake of how many that may be."""
        return await self._send(calls.summary())

    async def profiles(self) -> ProfileList:
        """List profiles. What a create can choose from: sets of chart values that the operator has defined."""
        return await self._send(calls.profiles())

    async def upgrade(self, uuid: str, *, restart: bool = False) -> Upgraded:
        """Upgrade a session's release. A sleeping session stays asleep. A release that fails is rolled back."""
        return await self._send(calls.upgrade(uuid, restart=restart))

    async def start_upgrade(
        self, *, only_asleep: bool = False, max_parallel: int = 2, canary: int = 0, max_failures: int = 2
    ) -> Upgrade:
        """Start to upgrade all sessions. Sleeping sessions are upgraded at once and stay asleep, the others when they
        sleep. While an upgrade to the same target is under way, nothing changes."""
        return await self._send(
            calls.start_upgrade(
                only_asleep=only_asleep, max_parallel=max_parallel, canary=canary, max_failures=max_failures
            )
        )

    async def show_upgrade(self) -> Upgrade:
        """Get how many sessions are up to date, and the last upgrade. Cheap enough to be asked every second. The
        numbers are a second old at most."""
        return await self._send(calls.show_upgrade())

    async def continue_upgrade(self) -> Upgrade:
        """Upgrade the rest without waiting for the canaries."""
        return await self._send(calls.continue_upgrade())

    async def stop_upgrade(self) -> Upgrade:
        """Stop the upgrade of all sessions. Those that are being upgraded are finished."""
        return await self._send(calls.stop_upgrade())

    async def audit(
        self,
        *,
        cursor: str | None = None,
        limit: int = 50,
        uuid: str | None = None,
        caller: str | None = None,
        user_id: str | None = None,
    ) -> AuditPage:
        """List who has done what. Every change that callers of the API have asked for, and every refusal. A page may
        be short although more follow: rely on `cursor`."""
        return await self._send(calls.audit(cursor=cursor, limit=limit, uuid=uuid, caller=caller, user_id=user_id))

    async def diagnosis(self) -> Diagnosis:
        """Find faults of the whole system. Looks at Redis, the cluster and every session: up to half a minute. A
        check that cannot run is a finding, too."""
        return await self._send(calls.diagnosis())

    async def fix(self, check: str, subject: str) -> Fixed:
        """Mend a finding. Looks again, and mends what is `fixable`, which loses nothing of anybody's. Repeat it at
        will."""
        return await self._send(calls.fix(check, subject))

    async def whoami(self) -> WhoAmI:
        """Get who calls."""
        return await self._send(calls.whoami())

    async def health(self) -> HealthReport:
        """Check what the service depends on."""
        return await self._send(calls.health())

    async def metrics(self) -> str:
        """Get metrics for Prometheus. The same as `METRICS_PORT` serves without a key."""
        return await self._send(calls.metrics())

    async def livez(self) -> Alive:
        """Check whether the process is alive."""
        return await self._send(calls.livez())

    async def readyz(self) -> Alive:
        """Check whether the process can serve."""
        return await self._send(calls.readyz())
