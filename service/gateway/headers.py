"""What of a request's and an answer's headers goes through, and what the gateway adds or takes away."""

import ipaddress
from collections.abc import Iterator, Sequence

from aiohttp import hdrs
from aiohttp.web import BaseRequest
from multidict import CIMultiDict, CIMultiDictProxy

COOKIE = "__Host-user-pods"
"""Name of the pass. The prefix makes browsers refuse it from any other host, and from a page without TLS."""

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_FORWARDED = frozenset({"forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"})
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Forwarding:
    """`trusted`: proxies in front, whose word on the client's address and scheme is taken; nobody else's is."""

    def __init__(self, *, scheme: str, trusted: Sequence[Network] = ()) -> None:
        self._scheme = scheme
        self._trusted = trusted

    def to_pod(self, request: BaseRequest) -> CIMultiDict[str]:
        """The request's headers as the pod gets them."""
        headers = _end_to_end(request.headers)
        for name in _FORWARDED:
            headers.popall(name, None)
        _without_pass(headers)
        peer, host = request.remote or "", request.host
        client, scheme = self._told(request, peer)
        headers["X-Forwarded-For"] = client
        headers["X-Forwarded-Host"] = host
        headers["X-Forwarded-Proto"] = scheme
        node = f'"[{client}]"' if ":" in client else client
        headers["Forwarded"] = f'for={node};host="{host}";proto={scheme}'
        return headers

    def _told(self, request: BaseRequest, peer: str) -> tuple[str, str]:
        """Address of the client and scheme it used: by the proxy in front if that is trusted, else as seen here."""
        if not self._is_trusted(peer):
            return peer, self._scheme
        chain = [part.strip() for value in request.headers.getall("X-Forwarded-For", ()) for part in value.split(",")]
        client = next((part for part in reversed(chain) if _address(part) and not self._is_trusted(part)), peer)
        scheme = request.headers.get("X-Forwarded-Proto", "").strip().lower()
        return client, scheme if scheme in ("http", "https") else self._scheme

    def _is_trusted(self, address: str) -> bool:
        found = _address(address)
        return found is not None and any(found in network for network in self._trusted)


def to_browser(headers: "CIMultiDictProxy[str]") -> CIMultiDict[str]:
    """The answer's headers as the browser gets them: a pod's cookies stay with its own host."""
    kept = _end_to_end(headers)
    cookies = kept.popall(hdrs.SET_COOKIE, [])
    for cookie in cookies:
        name, *attributes = cookie.split(";")
        if name.split("=", 1)[0].strip() == COOKIE:
            continue
        own = [each for each in attributes if each.split("=", 1)[0].strip().lower() != "domain"]
        kept.add(hdrs.SET_COOKIE, ";".join([name, *own]))
    return kept


def passes(request: BaseRequest) -> Iterator[str]:
    """The passes that the request bears; a browser sends one."""
    for name, value in _cookies(request.headers):
        if name == COOKIE:
            yield value


def _end_to_end(headers: "CIMultiDictProxy[str]") -> CIMultiDict[str]:
    named = {part.strip().lower() for value in headers.getall(hdrs.CONNECTION, ()) for part in value.split(",")}
    dropped = _HOP_BY_HOP | named
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in dropped)


def _without_pass(headers: CIMultiDict[str]) -> None:
    kept = [f"{name}={value}" if sep else name for name, sep, value in _pairs(headers) if name != COOKIE]
    headers.popall(hdrs.COOKIE, None)
    if kept:
        headers[hdrs.COOKIE] = "; ".join(kept)


def _cookies(headers: "CIMultiDictProxy[str]") -> Iterator[tuple[str, str]]:
    return ((name, value) for name, _, value in _pairs(headers))


def _pairs(headers: "CIMultiDictProxy[str] | CIMultiDict[str]") -> Iterator[tuple[str, str, str]]:
    for line in headers.getall(hdrs.COOKIE, ()):
        for part in line.split(";"):
            if part.strip():
                name, sep, value = part.strip().partition("=")
                yield name, sep, value


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
