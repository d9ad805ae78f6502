"""The baseline for the gateway: the simplest proxy that can be built from aiohttp's server and client.

`python -m bench.bare_proxy PORT POD_PORT`.
"""

import asyncio
import sys

import aiohttp
import uvloop
from aiohttp import web

_DROPPED = frozenset({"connection", "transfer-encoding"})


async def main(port: int, pod: int) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False, trust_env=False) as session:

        async def passed(request: web.BaseRequest) -> web.StreamResponse:
            async with session.request(
                request.method,
                f"http://127.0.0.1:{pod}{request.raw_path}",
                headers=request.headers,
                data=request.content if request.body_exists else None,
                allow_redirects=False,
            ) as answer:
                kept = {name: value for name, value in answer.headers.items() if name.lower() not in _DROPPED}
                response = web.StreamResponse(status=answer.status, headers=kept)
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response

        runner = web.ServerRunner(web.Server(passed))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
