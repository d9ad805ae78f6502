"""All sessions that the cluster has, in memory: to search, filter, sort and count them without a call."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from service.domain.names import SessionId
from service.domain.phase import Phase
from service.domain.ports import WorkloadCache
from service.domain.workload import Requests, Workload

_LONG_AGO = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class IndexedSession:
    """A session as the cluster shows it. A wake that has not reached the cluster yet still counts as asleep."""

    uuid: SessionId
    user_id: str
    phase: Phase
    reason: str | None
    """Why it does not get ready, in Kubernetes' own words; what hinders a wake."""
    created_at: datetime
    awake: bool
    """It has or wants a pod."""
    group: str | None
    """Whose quota of awake sessions it counts for."""
    asleep_since: datetime | None
    """For how long it has been of no use at least; None unless it is asleep."""
    requests: Requests | None
    searched: str
    """User id and id, in lower case."""


class SessionIndex:
    """Each entry is made once, and again only when its workload has changed."""

    def __init__(self, cache: WorkloadCache) -> None:
        self._cache = cache
        self._known: dict[SessionId, tuple[Workload, IndexedSession | None]] = {}

    def sessions(self) -> Sequence[IndexedSession]:
        """In no particular order."""
        uuids = self._cache.uuids()
        before, self._known = self._known, {}
        for uuid in uuids:
            self._known[uuid] = self._entry(uuid, before.get(uuid))
        return [indexed for _, indexed in self._known.values() if indexed is not None]

    def some(self, uuids: Iterable[SessionId]) -> Sequence[IndexedSession]:
        """Those of the sessions that there are. It costs the same however many others there are."""
        found = [self._entry(uuid, self._known.get(uuid))[1] for uuid in uuids]
        return [indexed for indexed in found if indexed is not None]

    def _entry(
        self, uuid: SessionId, known: tuple[Workload, IndexedSession | None] | None
    ) -> tuple[Workload, IndexedSession | None]:
        workload = self._cache.workload(uuid)
        return known if known is not None and known[0] is workload else (workload, _indexed(workload))


def _indexed(workload: Workload) -> IndexedSession | None:
    """None for a chart that somebody installed by hand, which is no session of the service."""
    if workload.user_id is None:
        return None
    phase = Phase.DELETING if workload.deleting else workload.phase(is_wanted=False)
    reason = None
    if phase in (Phase.FAILED, Phase.WAKING):
        reason = workload.broken_reason or workload.read_error or workload.failure or workload.paused
        reason = reason or workload.blocker
    return IndexedSession(
        uuid=workload.uuid,
        user_id=workload.user_id,
        phase=phase,
        reason=reason,
        created_at=workload.created_at or _LONG_AGO,
        awake=workload.replicas > 0,
        group=workload.assignment.group,
        asleep_since=_asleep_since(workload) if phase is Phase.ASLEEP else None,
        requests=workload.requests,
        searched=f"{workload.user_id.lower()}\n{workload.uuid}",
    )


def _asleep_since(workload: Workload) -> datetime:
    """KEDA scales down a cooldown after it last saw a wake; a session that was never woken has slept all its life."""
    created = workload.created_at or _LONG_AGO
    if workload.last_active is None or workload.idle_times is None:
        return created
    return max(created, workload.last_active + workload.idle_times.cooldown)
