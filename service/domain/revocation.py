"""Revoke all sign-ins to a session's workspace."""

from collections.abc import Callable
from datetime import datetime, timedelta

from service.domain.clock import utc_now
from service.domain.journal import Journal, Revoked, hashed
from service.domain.names import SessionId
from service.domain.ports import Cluster, WorkloadCache
from service.domain.queries import SessionQueries

_SECOND = timedelta(seconds=1)


class Revocation:
    """Every replica hears of it by its watch of the cluster, so neither Redis nor a replica that is down loses it."""

    def __init__(
        self,
        *,
        queries: SessionQueries,
        cluster: Cluster,
        cache: WorkloadCache,
        journal: Journal,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._queries = queries
        self._cluster = cluster
        self._cache = cache
        self._journal = journal
        self._now = now

    async def revoke(self, uuid: SessionId, *, by: str) -> datetime:
        """Refuse every ticket and session cookie that exists. Returns the time before which they are refused.

        A session whose release was removed needs no revocation: what opened it does not open the next one with its id.
        `by`, the kind of caller, goes into the history. Raises SessionNotFound, IndexIncomplete.
        """
        workload = self._cache.workload(uuid)
        if not workload.exists:
            # Only then: access must be revocable while Redis is away.
            await self._queries.status(uuid)
        at = self._now().replace(microsecond=0)
        if workload.revoked_at is not None:
            # Later than before, even within a second, or where another replica's clock is ahead: there may have been a
            # sign-in in between.
            at = max(at, workload.revoked_at + _SECOND)
        await self._cluster.revoke(uuid, at)
        self._journal.note(Revoked(uuid=uuid, user=hashed(workload.user_id), by=by))
        return at
