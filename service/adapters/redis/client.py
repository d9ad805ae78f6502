"""The connections to Redis that all adapters share."""

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
    """Asks the Sentinels for the primary at each new connection, and waits for a free one instead of failing."""


@asynccontextmanager
async def connected(url: str, *, deadline: float) -> "AsyncIterator[Redis[str]]":  # type: ignore[type-arg]
    """A client of the Redis at `url`; connects when it is first used. `deadline` is in seconds, for one call."""
    address = RedisAddress.parse(url)
    common: dict[str, Any] = {
        "max_connections": _CONNECTIONS,
        "timeout": deadline,
        "socket_timeout": deadline,
        "socket_connect_timeout": deadline,
        "decode_responses": True,
        # What others wrote need not be UTF-8: it must be no error of a whole batch, but of the session it belongs to.
        "encoding_errors": "surrogateescape",
        "retry": Retry(NoBackoff(), 1),
    }
    if not address.master:
        pool: BlockingConnectionPool = BlockingConnectionPool.from_url(url, **common)
        async with Redis.from_pool(pool) as redis:
            yield redis
        return
    async with _sentinels(address, deadline) as sentinels:
        of_server = {"username": address.username or None, "password": address.password or None, "db": address.database}
        options = common | _options(address) | of_server | {"ssl": address.tls}
        master = sentinels.master_for(address.master, connection_pool_class=_SentinelPool, **options)
        async with master as redis:
            yield redis


def _sentinels(address: RedisAddress, deadline: float) -> Sentinel:
    """Each gets a part of the deadline only: one that is away must leave time for the next, and for the server."""
    share = deadline / (len(address.hosts) + 1)
    return Sentinel(  # type: ignore[no-untyped-call]
        list(address.hosts),
        sentinel_kwargs={
            "socket_timeout": share,
            "socket_connect_timeout": share,
            "retry": Retry(NoBackoff(), 0),
            "username": address.sentinel_username or None,
            "password": address.sentinel_password or None,
            "ssl": address.tls,
            **_options(address),
        },
    )


def _options(address: RedisAddress) -> dict[str, Any]:
    """What the query of the URL tells the client, for example of certificates."""
    scheme = "rediss" if address.tls else "redis"
    options: dict[str, Any] = dict(parse_url(f"{scheme}://host/0?{address.options}"))
    return {name: value for name, value in options.items() if name not in ("host", "db", "connection_class")}
