"""Which headers of a request and of a response pass, and which ones the gateway adds or removes."""

from collections.abc import Sequence
from urllib.parse import unquote

from aiohttp import hdrs
from aiohttp.web import BaseRequest
from multidict import CIMultiDict, CIMultiDictProxy

from service.domain.ports import WorkloadCache
from service.edge import addresses
from service.edge.addresses import Network
from service.gateway.access.cookie_header import COOKIE
from service.gateway.proxy.cookies import Cookies
from service.gateway.proxy.header_names import TO_BROWSER, TO_POD, HeaderFilter

OWN_PATHS = "/.user-pods/"
"""Paths below this belong to the gateway, on every workspace's host."""


class Forwarding:
    """`trusted`: networks of proxies in front. What they say of a client's address and scheme is believed.

    With a `cache`, what a user's pod says is not, even if its address is within those networks: a proxy's network is
    often that of all pods.
    """

    def __init__(
        self,
        *,
        scheme: str,
        trusted: Sequence[Network] = (),
        cookies: Cookies | None = None,
        cache: WorkloadCache | None = None,
    ) -> None:
        self._scheme = scheme
        self._trusted = trusted
        self._cache = cache
        self._cookies = cookies or Cookies()

    def to_pod(self, request: BaseRequest) -> CIMultiDict[str]:
        """The headers of the request as the pod receives them."""
        headers = _kept(request.headers, TO_POD)
        self._withhold(headers)
        peer, host = request.remote or "", request.host
        client, scheme = self._client(request, peer)
        headers[hdrs.X_FORWARDED_FOR] = client
        headers[hdrs.X_FORWARDED_HOST] = host
        headers[hdrs.X_FORWARDED_PROTO] = scheme
        node = f'"[{client}]"' if ":" in client else client
        # Without the host: it would have to be quoted, and code-server takes the quotes for a part of it.
        headers[hdrs.FORWARDED] = f"for={node};proto={scheme}"
        return headers

    def client(self, request: BaseRequest) -> str:
        """The client by which requests are counted: its address, or its network of IPv6."""
        address = self._client(request, request.remote or "")[0]
        parsed = addresses.parse(address)
        return addresses.client(parsed) if parsed is not None else address

    def _withhold(self, headers: CIMultiDict[str]) -> None:
        """Remove the session cookie, cookies of others, and a ticket in the address of the page before."""
        lines = headers.popall(hdrs.COOKIE, None)
        if lines and (cookies := self._cookies.to_pod(lines)):
            headers[hdrs.COOKIE] = cookies
        for referer in headers.getall(hdrs.REFERER, ()):
            if _bears_ticket(referer):
                headers.popall(hdrs.REFERER)
                break

    def _client(self, request: BaseRequest, peer: str) -> tuple[str, str]:
        """The client's address and scheme: as a trusted proxy in front says, or else as seen here."""
        if not self._is_trusted(peer):
            return peer, self._scheme
        chain = [part.strip() for value in request.headers.getall("X-Forwarded-For", ()) for part in value.split(",")]
        client = peer
        for part in reversed(chain):
            address = addresses.parse(part)
            if address is None:
                break  # anybody may have written what is left of it
            client = str(address)
            if not self._is_trusted(client):
                break
        scheme = request.headers.get("X-Forwarded-Proto", "").strip().lower()
        return client, scheme if scheme in ("http", "https") else self._scheme

    def _is_trusted(self, address: str) -> bool:
        if not self._trusted:
            return False
        parsed = addresses.parse(address)
        if not addresses.is_within(parsed, self._trusted):
            return False
        # As parsed: on a port for IPv6 and IPv4, the peer's IPv4 address looks like one of IPv6.
        return self._cache is None or self._cache.session_at(str(parsed)) is None


def to_browser(headers: "CIMultiDictProxy[str]") -> CIMultiDict[str]:
    """The headers of a response as the browser receives them. A pod's cookies are kept to its own host."""
    kept = _kept(headers, TO_BROWSER)
    for cookie in kept.popall(hdrs.SET_COOKIE, ()):
        pair, *attributes = cookie.split(";")
        name = _plain(pair.partition("=")[0])
        if not name or name.startswith(COOKIE):
            continue  # a browser sends a cookie without a name as its value alone, which may look like a session cookie
        own = [each for each in attributes if _plain(each.partition("=")[0]).lower() != "domain"]
        kept.add(hdrs.SET_COOKIE, ";".join([pair, *own]))
    return kept


def _plain(name: str) -> str:
    """The name without bytes that are not UTF-8, as a program that drops those would read it."""
    return name.encode("utf-8", "ignore").decode().strip()


def _kept(headers: "CIMultiDictProxy[str]", names: HeaderFilter) -> CIMultiDict[str]:
    """The headers without those that are removed, and without those that `Connection` names."""
    kept = headers.copy()
    named = headers.getall(hdrs.CONNECTION, None)
    for name in names.removed(headers):
        kept.popall(name, None)
    for value in named or ():
        for hop in value.split(","):
            if hop.strip().lower() != "host":
                kept.popall(hop.strip(), None)
    return kept


def _bears_ticket(referer: str) -> bool:
    """Whether it is, or contains, one of the gateway's own addresses, in any spelling."""
    if "user-pods" not in referer and "%" not in referer:
        return False
    return OWN_PATHS in unquote(unquote(referer)).lower()
