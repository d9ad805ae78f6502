"""Everything that is kept in Redis, over one pool of connections."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

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
from service.adapters.redis.shared_levels import RedisSharedLevels
from service.adapters.redis.sign_outs import RedisSignOuts
from service.adapters.redis.store import RedisStore
from service.adapters.redis.tickets import RedisTickets
from service.settings import Settings


@dataclass(frozen=True, kw_only=True)
class RedisParts:
    store: RedisStore
    queues: RedisQueues
    progress: RedisProgress
    history: RedisHistory
    tickets: RedisTickets
    sign_outs: RedisSignOuts
    companions: RedisCompanions
    levels: RedisSharedLevels
    audit_trail: RedisAuditTrail
    measured_wakes: RedisMeasuredWakes
    inspector: RedisInspector
    rollouts: RedisRollouts
    diagnoses: RedisDiagnoses


@asynccontextmanager
async def open_redis(config: Settings) -> AsyncIterator[RedisParts]:
    async with connected(config.redis_url.get_secret_value(), call_timeout=config.redis_timeout) as redis:
        yield RedisParts(
            store=RedisStore(redis),
            queues=RedisQueues(redis),
            progress=RedisProgress(redis),
            history=RedisHistory(redis),
            tickets=RedisTickets(redis),
            sign_outs=RedisSignOuts(redis),
            companions=RedisCompanions(redis),
            levels=RedisSharedLevels(redis),
            audit_trail=RedisAuditTrail(redis, kept=config.audit_entries),
            measured_wakes=RedisMeasuredWakes(redis),
            inspector=RedisInspector(redis),
            rollouts=RedisRollouts(redis),
            diagnoses=RedisDiagnoses(redis),
        )
