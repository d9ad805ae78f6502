"""Where browsers without access are led: to the page that signs users in, and returns them with a new ticket."""

import re
from collections.abc import Callable
from urllib.parse import quote, urlencode

from aiohttp import hdrs, web

from service.domain.names import SessionId
from service.gateway.access import ticket_page
from service.gateway.access.fetch_metadata import is_navigation
from service.gateway.errors import OWN_HEADERS

TRIES_COOKIE = "__Host-user-pods-tries"
"""How many times a browser was led to sign in within TRIES_SECONDS, so that it does not go back and forth for ever."""
TRIES_SECONDS = 60
MOST_TRIES = 3
"""Tabs of one workspace that open at the same time count together."""
_TRIES = re.compile(rf"(?:^|;)[ \t]*{TRIES_COOKIE}=([0-9]{{1,2}})(?:;|$)")
_LONGEST_PATH = 2000
"""Characters of a path that `open` accepts."""


class Home:
    """`url` is that page, and `sign_out_url` the one that signs users out there, if the gateway knows it.

    `origin` returns scheme and host of a session's workspace.
    """

    def __init__(self, url: str, origin: Callable[[SessionId], str], *, sign_out_url: str | None = None) -> None:
        self.url = url
        self.sign_out_url = sign_out_url
        self._origin = origin

    def sign_in_url(self, uuid: SessionId, target: str) -> str:
        """The page's URL, with `return_to`: the workspace's URL of `target`, a path with its query."""
        # Bytes that are not ASCII may not be in a URL. What `open` would refuse leads to the workspace itself.
        path = quote(target, safe="!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~", errors="surrogateescape")
        path = path if is_local_path(path) and len(path) <= _LONGEST_PATH else "/"
        separator = "&" if "?" in self.url else "?"
        return f"{self.url}{separator}{urlencode({'return_to': self._origin(uuid) + path})}"


def redirect(request: web.BaseRequest, url: str) -> web.Response | None:
    """Lead a person to `url` to sign in; None when they have just been there too often, or nobody opens a page."""
    if request.method != hdrs.METH_GET or not is_navigation(request) or ticket_page.is_prefetched(request):
        return None
    tries = tries_of(request)
    if tries >= MOST_TRIES:
        return None
    response = web.Response(status=302, headers={**OWN_HEADERS, hdrs.LOCATION: url})
    response.headers[hdrs.SET_COOKIE] = (
        f"{TRIES_COOKIE}={tries + 1}; Path=/; Max-Age={TRIES_SECONDS}; Secure; HttpOnly; SameSite=Lax"
    )
    return response


def tries_of(request: web.BaseRequest) -> int:
    """How many times the browser was led to sign in within the last minute."""
    found = [int(each) for line in request.headers.getall(hdrs.COOKIE, ()) for each in _TRIES.findall(line)]
    return max(found, default=0)


def is_local_path(target: str) -> bool:
    """Whether every browser interprets the target as a path on this host."""
    return target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable() and target.isascii()
