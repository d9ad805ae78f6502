"""Reads the forms of the dashboard's pages."""

import asyncio
import hmac
from collections.abc import Mapping
from urllib.parse import parse_qsl

from aiohttp import hdrs, web

from service.dashboard.visitors import Visitors, form_token
from service.web.keys import BODY_SECONDS
from service.web.problems import RequestRefused

FIELD = "form"
"""The field with the token that only pages of the visitor's session have."""
_MOST_BYTES = 4000
_TYPE = "application/x-www-form-urlencoded"


async def read(request: web.Request, visitors: Visitors) -> Mapping[str, str]:
    """The fields of a form of one of this visitor's pages. Raises RequestRefused."""
    fields = await read_open(request, visitors)
    if not hmac.compare_digest(fields.get(FIELD, "").encode("utf-8", "replace"), form_token(request).encode()):
        raise RequestRefused("cross-site", "the form is none of your session's; open the page again")
    return fields


async def read_open(request: web.Request, visitors: Visitors) -> Mapping[str, str]:
    """The same for a page that needs no sign-in, and so has no token."""
    visitors.check_origin(request)
    if request.content_type != _TYPE or hdrs.CONTENT_ENCODING in request.headers:
        raise RequestRefused("unsupported-media-type", f"send the form as {_TYPE}")
    if request.content_length is None or request.content_length > _MOST_BYTES:
        raise web.HTTPRequestEntityTooLarge(_MOST_BYTES, request.content_length or _MOST_BYTES + 1)
    try:
        async with asyncio.timeout(request.app[BODY_SECONDS]):
            body = await request.read()
    except TimeoutError:
        raise RequestRefused("request-timeout", "the form took too long to arrive") from None
    except (web.RequestPayloadError, ConnectionError):
        raise RequestRefused("bad-request", "the form is incomplete") from None
    try:
        pairs = parse_qsl(body.decode("ascii", "replace"), max_num_fields=10, keep_blank_values=True)
    except ValueError:
        raise RequestRefused("bad-request", "the form has too many fields") from None
    if len({name for name, _ in pairs}) != len(pairs):
        raise RequestRefused("does-not-fit", "a field of the form is given twice")
    return dict(pairs)
