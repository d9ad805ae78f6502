"""The connection pool that all Redis adapters share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

from service.adapters.redis.address import RedisAddress

_CONNECTIONS = 32


class _SentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """Asks the Sentinels for the primary at each new connection, and waits for a free connection instead of failing."""


@asynccontextmanager
async def connected(url: str, *, call_timeout: float) -> "AsyncIterator[Redis[str]]":  # type: ignore[type-arg]
    """A client of the Redis at `url`, which connects at its first use. `call_timeout`: seconds for one call."""
    address = RedisAddress.parse(url)
    common: dict[str, Any] = {
        "max_connections": _CONNECTIONS,
        "timeout": call_timeout,
        "socket_timeout": call_timeout,
        "socket_connect_timeout": call_timeout,
        "decode_responses": True,
        # Others may have written bytes that are not UTF-8. They must not fail a whole batch, only their own session.
        "encoding_errors": "surrogateescape",
        "retry": Retry(NoBackoff(), 1),
    }
    if not address.master:
        pool: BlockingConnectionPool = BlockingConnectionPool.from_url(url, **common)
        async with Redis.from_pool(pool) as redis:
            yield redis
        return
    # Each Sentinel gets a part of the timeout only: if one is away, time is left for the next, and for the server.
    share = call_timeout / (len(address.hosts) + 1)
    of_sentinels = {
        "socket_timeout": share,
        "socket_connect_timeout": share,
        "retry": Retry(NoBackoff(), 0),
        "username": address.sentinel_username or None,
        "password": address.sentinel_password or None,
    }
    of_server = {"username": address.username or None, "password": address.password or None, "db": address.database}
    of_both = _options(address) | {"ssl": address.tls}
    async with Sentinel(list(address.hosts), sentinel_kwargs=of_sentinels | of_both) as sentinels:  # type: ignore[no-untyped-call]
        options = common | of_both | of_server
        async with sentinels.master_for(address.master, connection_pool_class=_SentinelPool, **options) as redis:
            yield redis


def _options(address: RedisAddress) -> dict[str, Any]:
    """The client's options in the query of the URL, for example certificates."""
    scheme = "rediss" if address.tls else "redis"
    options: dict[str, Any] = dict(parse_url(f"{scheme}://host/0?{address.options}"))
    return {name: value for name, value in options.items() if name not in ("host", "db", "connection_class")}
