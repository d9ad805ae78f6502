"""Access control of the API: bearer keys, or, without keys, only programs on this machine."""

import hashlib
import hmac
from collections.abc import Sequence

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from service.domain import wake_cause
from service.web.problems import RequestRefused

OPEN = frozenset({"/health", "/livez", "/readyz", "/", "/openapi.json", "/docs"})
"""Paths that need no key, since they reveal nothing about users."""
_OPEN_BELOW = ("/docs/", "/problems/")


def caller(_request: web.Request) -> str:
    """Who calls, by the name of their key; until keys have names, whoever has one."""
    return wake_cause.API


def middleware(keys: Sequence[str]) -> Middleware:
    """Check `Authorization: Bearer <key>` against every key, in constant time."""
    digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in OPEN or request.path.startswith(_OPEN_BELOW):
            return await handler(request)
        if digests:
            scheme, _, key = request.headers.get("Authorization", "").partition(" ")
            given = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).digest()
            matches = [hmac.compare_digest(given, digest) for digest in digests]
            if scheme.lower() != "bearer" or not any(matches):
                raise RequestRefused("unauthorized", "send a valid key as `Authorization: Bearer <key>`")
        elif request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            # Without keys only loopback is served; a web page in the same machine's browser must not use that.
            raise RequestRefused("cross-site", "pages of other sites may not call a service without keys")
        return await handler(request)

    return check
