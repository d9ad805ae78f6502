"""Static files: compressed once, and not sent again to clients that have them."""

import gzip
import hashlib

from aiohttp import hdrs, web

REVALIDATE = "no-cache"
FOREVER = "public, max-age=31536000, immutable"
"""For what is at a path that changes with its content."""


class StaticContent:
    """Bytes that stay the same while the process runs, kept plain and compressed."""

    def __init__(
        self, body: bytes, content_type: str, *, cache_control: str = REVALIDATE, policy: str | None = None
    ) -> None:
        self._body = body
        self._compressed = gzip.compress(body, mtime=0)
        self.digest = hashlib.sha256(body).hexdigest()[:16]
        self._headers = {
            hdrs.CONTENT_TYPE: f"{content_type}; charset=utf-8",
            hdrs.CACHE_CONTROL: cache_control,
            hdrs.ETAG: f'W/"{self.digest}"',  # weak: both encodings have it
            hdrs.VARY: hdrs.ACCEPT_ENCODING,
            "X-Content-Type-Options": "nosniff",
        }
        if policy:
            self._headers["Content-Security-Policy"] = policy

    async def respond(self, request: web.Request) -> web.Response:
        if any(etag.value == self.digest for etag in request.if_none_match or ()):
            return web.Response(status=304, headers=self._headers)
        if "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
            return web.Response(body=self._compressed, headers={**self._headers, hdrs.CONTENT_ENCODING: "gzip"})
        return web.Response(body=self._body, headers=self._headers)
