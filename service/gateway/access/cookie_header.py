"""The session cookie, which admits a browser to one workspace."""

import re
from http import HTTPStatus

from aiohttp import hdrs
from aiohttp.web import BaseRequest, RequestKey
from multidict import CIMultiDict, istr

COOKIE = "__Host-user-pods"
"""The prefix makes browsers refuse it from any other host, and from a page without TLS."""
RENEWED: RequestKey[str] = RequestKey("renewed", str)
"""The `Set-Cookie` value that the response to a request will carry."""
_VALUE = re.compile(rf"(?:^|;)[ \t]*{COOKIE}=([^;]*)")
_CACHE_HEADERS = (istr("CDN-Cache-Control"), istr("Surrogate-Control"))
_SHARED_CACHE = re.compile(r"public\b|immutable\b|s-maxage|max-age=\"?0*[1-9]")
"""Directives that let a shared cache keep a response."""


def session_cookies(request: BaseRequest) -> list[str]:
    """The values of all session cookies of the request; a browser sends one."""
    return [found for line in request.headers.getall(hdrs.COOKIE, ()) for found in _VALUE.findall(line)]


def set_cookie(value: str, max_age: int) -> str:
    """The `Set-Cookie` header value; `max_age` is in seconds."""
    return f"{COOKIE}={value}; Path=/; Max-Age={max_age}; Secure; HttpOnly; SameSite=Lax"


def renew(request: BaseRequest, status: int, headers: CIMultiDict[str]) -> None:
    """Add the renewed cookie to a pod's response, if there is one, unless a cache could give it to somebody else."""
    cookie = request.get(RENEWED)
    if cookie is None or status == HTTPStatus.NOT_MODIFIED or any(name in headers for name in _CACHE_HEADERS):
        return
    directives = {part.strip().lower() for value in headers.getall(hdrs.CACHE_CONTROL, ()) for part in value.split(",")}
    if not directives & {"private", "no-store"}:
        if any(_SHARED_CACHE.match(each) for each in directives):
            return
        headers.add(hdrs.CACHE_CONTROL, "private")
    headers.add(hdrs.SET_COOKIE, cookie)
