"""A rollout: the upgrade of all releases to today's chart and chart values, and how each session stands in it.

What is to be done follows from the cluster alone: a release whose revision is not the target's needs the upgrade. So a
rollout can be interrupted anywhere, and whoever goes on needs only this.
"""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from service.domain.names import SessionId
from service.domain.release import ReleaseState
from service.domain.workload import Workload

_ENOUGH = 10
"""Upgrades after which their mean says something."""
_STALE = timedelta(minutes=1)
"""A leader that carries out a rollout stores its measures more often."""

REASON_LIMIT = 500
"""Characters kept of a failure's reason."""


class RolloutState(StrEnum):
    RUNNING = "running"
    WAITING_FOR_CANARY = "waiting-for-canary"
    """The canaries are upgraded. The rest follows when all have become ready, or an operator says so."""
    STOPPED = "stopped"
    """By an operator."""
    FAILED = "failed"
    """As many releases failed as were allowed to."""
    DONE = "done"


class Standing(StrEnum):
    """How a session stands in an upgrade."""

    UPGRADED = "upgraded"
    ASLEEP = "asleep"
    """It needs the upgrade, and can have it."""
    AWAKE = "awake"
    """It needs the upgrade, and gets it when it sleeps."""
    BUSY = "busy"
    """Helm works on its release, or died while it did."""
    BROKEN = "broken"
    """Its release has to be repaired first, by a create, or its profile is not defined any more."""
    NONE = "none"
    """It has no release, is being deleted, or was installed by hand, without a user."""


OUTDATED = frozenset({Standing.ASLEEP, Standing.AWAKE, Standing.BUSY})
"""Sessions that need the upgrade and can have it, now or later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutOptions:
    only_asleep: bool = False
    """End without the sessions that are awake."""
    max_parallel: int = 2
    """How many helm processes run at the same time."""
    canary: int = 0
    """How many sessions go first; 0: none."""
    max_failures: int = 2
    """The rollout stops at the failure of this number."""


@dataclass(frozen=True, slots=True)
class RolloutFailure:
    uuid: SessionId
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Pace:
    """What a rollout has measured of itself. Canaries, and times in which nothing could be upgraded, are not in it."""

    done: int = 0
    """Upgrades that have ended, well or not."""
    seconds: float = 0.0
    """In which these were carried out, as many at a time as the rollout allows."""
    at: datetime | None = None
    """When the leader last measured."""

    def plus(self, done: int, seconds: float, now: datetime) -> "Pace":
        return Pace(self.done + done, self.seconds + seconds, now)

    def time_for(self, sessions: int, now: datetime) -> timedelta | None:
        """How long so many sessions will take. None: too few are done, or nobody has measured for a while."""
        if self.done < _ENOUGH or self.at is None or abs(now - self.at) > _STALE:
            return None
        return timedelta(seconds=sessions * self.seconds / self.done)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    id: str
    target: str
    """Names the revisions that releases shall have."""
    options: RolloutOptions
    started_by: str
    """The name of the caller."""
    started_at: datetime
    state: RolloutState = RolloutState.RUNNING
    ended_at: datetime | None = None
    canaries: tuple[SessionId, ...] = ()
    """Chosen before they are upgraded."""
    ready_canaries: tuple[SessionId, ...] = ()
    """Those that have become ready since."""
    continued: bool = False
    """Whether the rest follows."""
    failures: tuple[RolloutFailure, ...] = ()
    pace: Pace = Pace()
    version: int = 1
    """Grows with each change."""

    @property
    def active(self) -> bool:
        return self.state in (RolloutState.RUNNING, RolloutState.WAITING_FOR_CANARY)

    @property
    def canaries_only(self) -> bool:
        """Whether only the canaries may be upgraded yet."""
        return self.options.canary > 0 and not self.continued

    @property
    def failed(self) -> frozenset[SessionId]:
        """Sessions that are not tried again in this rollout."""
        return frozenset(failure.uuid for failure in self.failures)

    def time_left(self, asleep: int, now: datetime) -> timedelta | None:
        """For so many sessions that can be upgraded now; None while that is unknown, and for none of them.

        Those that are awake follow when their users leave, which nobody can foresee.
        """
        if self.state is not RolloutState.RUNNING or self.canaries_only or not asleep:
            return None
        return self.pace.time_for(asleep, now)

    def with_failure(self, uuid: SessionId, reason: str, now: datetime) -> "Rollout":
        """Also once the rollout has ended, when other sessions were being upgraded."""
        if uuid in self.failed:
            return self
        failed = replace(self, failures=(*self.failures, RolloutFailure(uuid, reason[:REASON_LIMIT], now)))
        if failed.active and len(failed.failures) >= self.options.max_failures:
            return failed.ended(RolloutState.FAILED, now)
        return failed

    def continue_(self) -> "Rollout":
        """With the rest, whatever became of the canaries."""
        return replace(self, continued=True, state=RolloutState.RUNNING) if self.active else self

    def ended(self, state: RolloutState, now: datetime) -> "Rollout":
        return replace(self, state=state, ended_at=now) if self.active else self


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutCounts:
    """Sessions that have a release and a user."""

    total: int
    upgraded: int
    asleep: int
    """That need the upgrade and can have it."""
    awake: int
    """That get it when they sleep."""
    failed: int
    broken: int
    """That cannot be upgraded: a create has to repair them first, or their profile is not defined any more."""

    @property
    def outdated(self) -> int:
        """Those that a new upgrade would take, now or later."""
        return self.asleep + self.awake + self.failed


def standing(workload: Workload, revision: str | None) -> Standing:
    """How the session stands in an upgrade to the revision. None: the one of a profile that is not defined any more."""
    release = workload.release
    if release is None or workload.user_id is None or workload.deleting:
        return Standing.NONE
    if revision is None or release.unfinished or workload.broken_reason or workload.read_error:
        return Standing.BROKEN
    if release.transient:
        return Standing.BUSY
    if workload.revision == revision and release.state is ReleaseState.DEPLOYED:
        return Standing.UPGRADED
    return Standing.AWAKE if workload.replicas else Standing.ASLEEP


def counts(standings: Counter[Standing], failed: int) -> RolloutCounts:
    """`failed` sessions are not in `standings`. A session that helm works on still needs the upgrade."""
    return RolloutCounts(
        total=standings.total() - standings[Standing.NONE] + failed,
        upgraded=standings[Standing.UPGRADED],
        asleep=standings[Standing.ASLEEP] + standings[Standing.BUSY],
        awake=standings[Standing.AWAKE],
        failed=failed,
        broken=standings[Standing.BROKEN],
    )
