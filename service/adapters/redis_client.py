"""The connections to Redis that all adapters share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

_CONNECTIONS = 32


@asynccontextmanager
async def connected(url: str, *, deadline: float) -> "AsyncIterator[Redis[str]]":  # type: ignore[type-arg]
    """A client of the Redis at `url`; connects when it is first used. `deadline` is in seconds, for one call."""
    pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=deadline,
        socket_timeout=deadline,
        socket_connect_timeout=deadline,
        decode_responses=True,
        # What others wrote need not be UTF-8: it must be no error of a whole batch, but of the session it belongs to.
        encoding_errors="surrogateescape",
        retry=Retry(NoBackoff(), 1),
    )
    async with Redis.from_pool(pool) as redis:
        yield redis
