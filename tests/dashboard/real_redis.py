"""A world whose Redis is real. The cluster stays in memory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from service.adapters.redis.audit_trail import RedisAuditTrail
from service.adapters.redis.client import connected
from service.adapters.redis.companions import RedisCompanions
from service.adapters.redis.diagnoses import RedisDiagnoses
from service.adapters.redis.history import RedisHistory
from service.adapters.redis.inspection import RedisInspector
from service.adapters.redis.measured_wakes import RedisMeasuredWakes
from service.adapters.redis.progress import RedisProgress
from service.adapters.redis.queues import RedisQueues
from service.adapters.redis.rollouts import RedisRollouts
from service.adapters.redis.store import RedisStore
from service.domain.record import Record
from service.domain.rollouts import RolloutControl
from tests.domain.conftest import World

_BATCH = 1000


class RealRedisWorld(World):
    def __init__(self, redis: "Redis[str]") -> None:  # type: ignore[type-arg]
        self._redis: Any = redis
        super().__init__()

    def __post_init__(self) -> None:
        super().__post_init__()
        redis = self._redis
        # The use cases are made anew, on these.
        vars(self).update(
            store=RedisStore(redis),
            queues=RedisQueues(redis),
            progress=RedisProgress(redis),
            history=RedisHistory(redis),
            companions=RedisCompanions(redis),
            trail=RedisAuditTrail(redis, kept=1000),
            measured=RedisMeasuredWakes(redis),
            rollouts=RedisRollouts(redis),
            diagnoses=RedisDiagnoses(redis),
            redis=RedisInspector(redis),
        )
        self.use(self.replica())
        self.upgrades = self.release_upgrades()
        self.rollout_control = RolloutControl(rollouts=self.rollouts, upgrades=self.upgrades, cache=self.cluster)

    async def keep(self, records: list[Record]) -> None:
        """Write records as `RedisStore.save` does, many at a time."""
        for start in range(0, len(records), _BATCH):
            pipeline = self._redis.pipeline(transaction=False)
            for each in records[start : start + _BATCH]:
                created = each.created_at.timestamp()
                fields = {
                    "user_id": each.user_id, "status": each.status.value, "created_at": created, "written_at": created,
                    "last_activity": created, "activity_source": "input",
                }  # fmt: skip
                pipeline.hset(f"session:{each.uuid}", mapping=fields)
                pipeline.hset("user-pods:users", each.user_id, each.uuid)
                pipeline.zadd("user-pods:ids", {each.uuid: 0})
            await pipeline.execute()
        await self.store.mark_index_complete()


@asynccontextmanager
async def on_redis(port: int) -> AsyncIterator[RealRedisWorld]:
    """`port`: that of a Redis which this world has for itself."""
    async with connected(f"redis://127.0.0.1:{port}/0", call_timeout=5) as redis:
        world = RealRedisWorld(redis)
        yield world
        await world.provisioner.close()
