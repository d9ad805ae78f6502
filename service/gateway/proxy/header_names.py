"""Names of headers by what they mean to the gateway, in whatever spelling they come.

A server that makes variables of headers (CGI, WSGI) does not tell `X_Forwarded_For` from `X-Forwarded-For`. So a name
counts by its letters and digits alone.
"""

import re
from collections.abc import Callable, Iterable

_LONGEST = 64
"""Characters of a name that is remembered."""
_KNOWN = 2048
_OTHER = re.compile(r"[^a-z0-9]+")

_HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade",
    }
)  # fmt: skip
_PROXYS_WORD = frozenset(
    {
        "cf-connecting-ip", "cf-connecting-ipv6", "cf-pseudo-ipv4", "client-ip", "fastly-client-ip", "fly-client-ip",
        "forwarded", "proxy", "true-client-ip", "x-appengine-user-ip", "x-azure-clientip", "x-azure-socketip",
        "x-client-ip", "x-cluster-client-ip", "x-forwarded", "x-host", "x-http-host-override", "x-proxyuser-ip",
        "x-real-ip", "x-rewrite-url", "x-webauth-user",
    }
)  # fmt: skip
_PROXYS_FAMILIES = (
    "cf-access-", "remote-", "ssl-client-", "x-amzn-oidc-", "x-auth-request-", "x-authentik-", "x-client-cert",
    "x-envoy-", "x-forwarded-", "x-goog-authenticated-user-", "x-goog-iap-", "x-ms-client-principal", "x-original-",
    "x-remote-", "x-ssl-client-",
)  # fmt: skip
"""What proxies say of a client and of the user that they have signed in. To a pod, the gateway is that proxy."""
_OF_THE_SITE = frozenset(
    {
        "alt-svc", "clear-site-data", "expect-ct", "nel", "public-key-pins", "public-key-pins-report-only", "report-to",
        "strict-transport-security",
    }
)  # fmt: skip
"""What outlives the pod in a browser, or reaches beyond its host: `Clear-Site-Data` signs out of the whole site."""
_TO_PROXIES = frozenset(
    {
        "x-accel-charset", "x-accel-expires", "x-accel-limit-rate", "x-accel-redirect", "x-lighttpd-send-file",
        "x-reproxy-url", "x-sendfile",
    }
)  # fmt: skip
"""What makes a proxy in front of the gateway fetch something else, such as a file of its own."""


class Names:
    """Which names of headers pass. Most requests have the same ones, so they are remembered, up to a bound."""

    def __init__(self, stays: Callable[[str], bool]) -> None:
        self._stays = stays
        self._passing = set[str]()
        self._staying = set[str]()

    def staying(self, names: Iterable[str]) -> list[str]:
        """Those that stay behind."""
        passing, staying = self._passing, self._staying
        return [name for name in names if name not in passing and (name in staying or self._judge(name))]

    def _judge(self, name: str) -> bool:
        stays = self._stays(name)
        known = self._staying if stays else self._passing
        if len(name) <= _LONGEST and len(known) < _KNOWN:
            known.add(name)
        return stays


def _stays_from_pod(name: str) -> bool:
    plain = _OTHER.sub("-", name.lower())
    return name.lower() in _HOP_BY_HOP or plain in _PROXYS_WORD or plain.startswith(_PROXYS_FAMILIES)


def _stays_from_browser(name: str) -> bool:
    # The parser takes a blank before the colon of the names that it knows, `Content-Length : 3`. Others behind may read
    # that as the header itself, beside the one that we write.
    plain = name.lower()
    return plain in _HOP_BY_HOP or plain in _OF_THE_SITE or plain in _TO_PROXIES or plain != plain.strip()


TO_POD = Names(_stays_from_pod)
"""Of a request's headers."""
TO_BROWSER = Names(_stays_from_browser)
"""Of an answer's."""
