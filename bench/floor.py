"""The baseline for status: a bare aiohttp handler that answers JSON after one read of Redis.

`REDIS_URL=… python -m bench.floor PORT`; GET /{uuid}. The URL contains a password, so it is not an argument.
"""

import os
import sys

import uvloop
from aiohttp import web
from redis.asyncio import BlockingConnectionPool, Redis


def make(redis_url: str) -> web.Application:
    redis = Redis.from_pool(BlockingConnectionPool.from_url(redis_url, decode_responses=True, max_connections=32))

    async def record(request: web.Request) -> web.Response:
        uuid = request.match_info["uuid"]
        return web.json_response({"uuid": uuid, "session": await redis.hgetall(f"session:{uuid}")})

    async def close(_app: web.Application) -> None:
        await redis.aclose()

    app = web.Application()
    app.router.add_get("/{uuid}", record)
    app.on_cleanup.append(close)
    return app


if __name__ == "__main__":
    uvloop.install()
    web.run_app(make(os.environ["REDIS_URL"]), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
