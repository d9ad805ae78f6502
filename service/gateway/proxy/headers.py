"""What of a request's and an answer's headers goes through, and what the gateway adds or takes away."""

import re
from collections.abc import Sequence
from urllib.parse import unquote

from aiohttp import hdrs
from aiohttp.web import BaseRequest
from multidict import CIMultiDict, CIMultiDictProxy

from service.edge import addresses
from service.edge.addresses import Network
from service.gateway.proxy.cookies import COOKIE, Cookies
from service.gateway.proxy.header_names import TO_BROWSER, TO_POD, Names

__all__ = ["COOKIE", "OWN", "Forwarding", "passes", "to_browser"]

OWN = "/.user-pods/"
"""Paths below this are the gateway's own, on every workspace's host."""

_PASS = re.compile(rf"(?:^|;)[ \t]*{COOKIE}=([^;]*)")


class Forwarding:
    """`trusted`: proxies in front, whose word on the client's address and scheme is taken; nobody else's is."""

    def __init__(self, *, scheme: str, trusted: Sequence[Network] = (), cookies: Cookies | None = None) -> None:
        self._scheme = scheme
        self._trusted = trusted
        self._cookies = cookies or Cookies()

    def to_pod(self, request: BaseRequest) -> CIMultiDict[str]:
        """The request's headers as the pod gets them."""
        headers = _kept(request.headers, TO_POD)
        self._withhold(headers)
        peer, host = request.remote or "", request.host
        client, scheme = self._told(request, peer)
        headers[hdrs.X_FORWARDED_FOR] = client
        headers[hdrs.X_FORWARDED_HOST] = host
        headers[hdrs.X_FORWARDED_PROTO] = scheme
        node = f'"[{client}]"' if ":" in client else client
        # Without the host: it would have to be quoted, and code-server takes the quotes for a part of it.
        headers[hdrs.FORWARDED] = f"for={node};proto={scheme}"
        return headers

    def _withhold(self, headers: CIMultiDict[str]) -> None:
        """Take away the pass, others' cookies, and a ticket that the page before was opened with."""
        lines = headers.popall(hdrs.COOKIE, None)
        if lines and (cookies := self._cookies.to_pod(lines)):
            headers[hdrs.COOKIE] = cookies
        for referer in headers.getall(hdrs.REFERER, ()):
            if _bears_ticket(referer):
                headers.popall(hdrs.REFERER)
                break

    def _told(self, request: BaseRequest, peer: str) -> tuple[str, str]:
        """Address of the client and scheme it used: by the proxy in front if that is trusted, else as seen here."""
        if not self._is_trusted(peer):
            return peer, self._scheme
        chain = [part.strip() for value in request.headers.getall("X-Forwarded-For", ()) for part in value.split(",")]
        client = peer
        for part in reversed(chain):
            address = addresses.parse(part)
            if address is None:
                break  # whoever said what is left of it may be anybody
            client = str(address)
            if not self._is_trusted(client):
                break
        scheme = request.headers.get("X-Forwarded-Proto", "").strip().lower()
        return client, scheme if scheme in ("http", "https") else self._scheme

    def _is_trusted(self, address: str) -> bool:
        return bool(self._trusted) and addresses.is_within(addresses.parse(address), self._trusted)


def to_browser(headers: "CIMultiDictProxy[str]") -> CIMultiDict[str]:
    """The answer's headers as the browser gets them: a pod's cookies stay with its own host."""
    kept = _kept(headers, TO_BROWSER)
    for cookie in kept.popall(hdrs.SET_COOKIE, ()):
        pair, *attributes = cookie.split(";")
        name = _plain(pair.partition("=")[0])
        if not name or name == COOKIE:
            continue  # a browser sends one without a name as its value alone, which may look like a pass
        own = [each for each in attributes if _plain(each.partition("=")[0]).lower() != "domain"]
        kept.add(hdrs.SET_COOKIE, ";".join([pair, *own]))
    return kept


def _plain(name: str) -> str:
    """Without the bytes that are no UTF-8: to whoever leaves them out, they must not have hidden anything."""
    return name.encode("utf-8", "ignore").decode().strip()


def passes(request: BaseRequest) -> list[str]:
    """The passes that the request bears; a browser sends one."""
    lines = request.headers.getall(hdrs.COOKIE, ())
    if len(lines) == 1:
        return _PASS.findall(lines[0])
    return [found for line in lines for found in _PASS.findall(line)]


def _kept(headers: "CIMultiDictProxy[str]", names: Names) -> CIMultiDict[str]:
    """The headers without those that stay, and those that are said to be of one connection only."""
    kept = headers.copy()
    named = headers.getall(hdrs.CONNECTION, None)
    for name in names.staying(headers):
        kept.popall(name, None)
    for value in named or ():
        for hop in value.split(","):
            if hop.strip().lower() != "host":
                kept.popall(hop.strip(), None)
    return kept


def _bears_ticket(referer: str) -> bool:
    """Whether it is one of the gateway's own addresses, in whatever spelling, or has one within."""
    if "user-pods" not in referer and "%" not in referer:
        return False
    return OWN in unquote(unquote(referer)).lower()
