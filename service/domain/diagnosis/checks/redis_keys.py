"""Keys in Redis that are there for nothing, too long, or unreadable."""

from collections.abc import Sequence

from service.domain.diagnosis.check import Check
from service.domain.diagnosis.finding import Finding, Severity
from service.domain.diagnosis.ports import RedisInspection
from service.domain.diagnosis.repairs import UNKNOWN_USER, Repairs
from service.domain.diagnosis.survey import Survey
from service.domain.errors import ClusterUnavailable
from service.domain.names import SessionId, is_user_id
from service.domain.ports import Cluster, WorkloadCache


class OrphanKeys(Check):
    name = "redis-keys"
    fine = "Every lasting key of a session in Redis belongs to a session."

    def __init__(self, redis: RedisInspection, cache: WorkloadCache, cluster: Cluster) -> None:
        self._redis = redis
        self._cache = cache
        self._cluster = cluster

    async def findings(self, survey: Survey) -> Sequence[Finding]:
        if not self._cache.has_synced:
            raise ClusterUnavailable("the workload cache is not complete yet")
        keys, known = await survey.keys(), await survey.known()
        return [
            self.finding(
                uuid,
                Severity.WARNING,
                f"Redis has keys of {uuid}, which is no session: {', '.join(sorted(facts.lasting))}.",
                meaning="They never expire and take memory; a program may be writing to a wrong id.",
                next_step=f"`redis-cli del {' '.join(sorted(facts.lasting))}` removes them.",
                fixable=True,
            )
            for uuid, facts in keys.items()
            if facts.lasting and uuid not in known and not self._cache.workload(uuid).exists
        ]

    async def mend(self, finding: Finding, _survey: Survey) -> str:
        uuid = SessionId(finding.subject)
        if (await self._cluster.read([uuid]))[uuid].exists or not await self._redis.drop_orphans(uuid):
            return "a session has this id by now, so its keys stay"
        return "the keys are deleted"


class LongLists(Check):
    name = "redis-lists"
    fine = "No list in Redis is longer than its limit."

    def __init__(self, redis: RedisInspection) -> None:
        self._redis = redis

    async def findings(self, survey: Survey) -> Sequence[Finding]:
        keys = await survey.keys()
        return [
            self.finding(
                uuid,
                Severity.WARNING,
                "A list in Redis is longer than its limit: "
                + ", ".join(f"{key} has {length} entries" for key, length in sorted(facts.lengths.items()))
                + ".",
                meaning="Another program writes to it without cutting it; it takes memory.",
                next_step="Find the program: it should push to `queue:<uuid>` alone, and cut it by LTRIM.",
                fixable=True,
            )
            for uuid, facts in keys.items()
            if facts.lengths
        ]

    async def mend(self, finding: Finding, _survey: Survey) -> str:
        await self._redis.trim(SessionId(finding.subject))
        return "the lists are cut to their limits; the newest entries stay"


class UnreadableRecords(Check):
    name = "records"
    fine = "Every session's record and queue can be read."

    def __init__(self, repairs: Repairs) -> None:
        self._repairs = repairs

    async def findings(self, survey: Survey) -> Sequence[Finding]:
        return [
            self.finding(
                uuid,
                Severity.ERROR,
                f"The session cannot be read: {session.read_error}.",
                meaning="It cannot wake. Its pod stays as it is.",
                next_step=f"`user-pods create {session.user_id}` repairs it."
                if session.user_id != UNKNOWN_USER
                else "Create the session of its user again; nothing says who that is.",
                fixable=is_user_id(session.user_id) and session.user_id != UNKNOWN_USER,
            )
            for uuid, session in (await survey.sessions()).items()
            if session.read_error
        ]

    async def mend(self, finding: Finding, survey: Survey) -> str:
        session = (await survey.sessions())[SessionId(finding.subject)]
        await self._repairs.complete(session)
        return "the record is written again, and a queue that nobody could read is gone"
