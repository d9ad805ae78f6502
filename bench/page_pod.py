"""A workspace that serves one page, for what the companion's script costs: `python -m bench.page_pod PORT`.

`/<bytes>` is the page in about that size, encoded with gzip for whoever accepts it.
"""

import asyncio
import sys
import zlib
from functools import cache

import uvloop
from aiohttp import web

from stack.stack import ROOT


@cache
def _page(size: int) -> bytes:
    """HTML with text of this project's documents, since that is about as hard to compress as any page."""
    head = b"<!doctype html><html><head><meta charset=utf-8><title>A page</title></head><body><pre>"
    text = b"".join(path.read_bytes() for path in sorted((ROOT / "docs").rglob("*.md")))
    return head + (text * (size // len(text) + 1))[: size - len(head)]


@cache
def _encoded(size: int) -> bytes:
    packer = zlib.compressobj(6, wbits=31)
    return packer.compress(_page(size)) + packer.flush()


async def _respond(request: web.BaseRequest) -> web.StreamResponse:
    size = int(request.path.strip("/") or 100)
    headers = {"Content-Type": "text/html; charset=utf-8", "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        return web.Response(body=_encoded(size), headers={**headers, "Content-Encoding": "gzip"})
    return web.Response(body=_page(size), headers=headers)


async def main(port: int) -> None:
    runner = web.ServerRunner(web.Server(_respond))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
