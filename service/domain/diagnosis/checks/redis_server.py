"""Whether the Redis server is set up as the service needs it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from service.domain.diagnosis.check import Check
from service.domain.diagnosis.finding import Finding, Severity
from service.domain.diagnosis.ports import RedisConfiguration, RedisInspection
from service.domain.diagnosis.survey import Survey

_GUIDE = "docs/how-to/managed-redis.md"
_CLOCKS_APART = timedelta(seconds=5)


class RedisRights(Check):
    name = "redis-rights"
    fine = "The service's user of Redis has the rights that it needs."

    def __init__(self, redis: RedisInspection) -> None:
        self._redis = redis

    async def findings(self, _survey: Survey) -> Sequence[Finding]:
        return [
            self.finding(
                refused,
                Severity.ERROR,
                f"Redis refuses the service's user to {refused}.",
                meaning="Wakes, creates or event streams fail.",
                next_step=f"Give the user its rights by `ACL SETUSER`: {_GUIDE} has the line.",
            )
            for refused in await self._redis.refused()
        ]


class RedisSettings(Check):
    name = "redis-settings"
    fine = "Redis notifies the service of pushes and evicts no keys."

    def __init__(self, redis: RedisInspection) -> None:
        self._redis = redis

    async def findings(self, survey: Survey) -> Sequence[Finding]:
        found = await survey.configuration()
        return [each for each in (self._notifications(found), self._eviction(found), self._persistence(found)) if each]

    async def mend(self, _finding: Finding, _survey: Survey) -> str:
        await self._redis.enable_notifications()
        return "Redis' notifications of pushes are on"

    def _notifications(self, found: RedisConfiguration) -> Finding | None:
        flags = found.notifications
        subject, meaning = (
            "notify-keyspace-events",
            "A push to a queue by another program wakes its session only at the next resync (SWEEP_INTERVAL).",
        )
        if flags is None:
            return self.finding(
                subject,
                Severity.OK,
                "Redis does not let the service read its settings.",
                meaning="Whether it sends notifications, evicts keys or saves to disk can only be seen by hand.",
                next_step=f"`redis-cli config get '*'`, or the provider's console; {_GUIDE} has the values.",
            )
        if "E" in flags and ("l" in flags or "A" in flags):
            return None
        return self.finding(
            subject,
            Severity.WARNING,
            f"Redis does not send notifications of pushes: notify-keyspace-events is '{flags}'.",
            meaning=meaning,
            next_step="`redis-cli config set notify-keyspace-events El`, and the same in Redis' configuration.",
            fixable=True,
        )

    def _eviction(self, found: RedisConfiguration) -> Finding | None:
        if found.policy in (None, "noeviction"):
            return None
        return self.finding(
            "maxmemory-policy",
            Severity.ERROR if found.memory_limit else Severity.WARNING,
            f"Redis evicts keys when its memory is full: maxmemory-policy is {found.policy}.",
            meaning="An evicted queue puts its user to sleep; an evicted index hides sessions.",
            next_step="`redis-cli config set maxmemory-policy noeviction`, if nobody else uses this Redis as a cache;"
            " else give the service a Redis of its own.",
        )

    def _persistence(self, found: RedisConfiguration) -> Finding | None:
        if found.persistent in (None, True):
            return None
        return self.finding(
            "persistence",
            Severity.OK,
            "Redis saves nothing to disk.",
            meaning="Its restart loses leases, extensions and histories; sessions come back from the cluster.",
            next_step="Switch on RDB or AOF if the histories matter to you.",
        )


class RedisClock(Check):
    name = "redis-clock"
    fine = "The clocks of the service and of Redis agree."

    def __init__(self, redis: RedisInspection) -> None:
        self._redis = redis

    async def findings(self, _survey: Survey) -> Sequence[Finding]:
        before = datetime.now(UTC)
        there = await self._redis.clock()
        after = datetime.now(UTC)
        apart = max(before - there, there - after)
        if apart < _CLOCKS_APART:
            return []
        return [
            self.finding(
                "clock",
                Severity.WARNING,
                f"The clocks of the service and of Redis are {apart.total_seconds():.0f} s apart.",
                meaning="Times in statuses and histories are wrong, and sessions may sleep too early or too late.",
                next_step="Synchronise both machines' clocks, for example by chrony (`chronyc tracking`).",
            )
        ]
