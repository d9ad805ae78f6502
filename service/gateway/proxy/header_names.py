"""Names of the headers that the gateway removes, in any spelling.

A server that turns headers into variables (CGI, WSGI) cannot distinguish `X_Forwarded_For` from `X-Forwarded-For`. So
only the letters and digits of a name count.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

_LONGEST = 64
"""Characters of a name that is cached."""
_CACHED = 2048
_OTHER = re.compile(r"[^a-z0-9]+")

_HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade",
    }
)  # fmt: skip
_FROM_PROXIES = frozenset(
    {
        "cf-connecting-ip", "cf-connecting-ipv6", "cf-pseudo-ipv4", "client-ip", "fastly-client-ip", "fly-client-ip",
        "forwarded", "proxy", "true-client-ip", "x-appengine-user-ip", "x-azure-clientip", "x-azure-socketip",
        "x-client-ip", "x-cluster-client-ip", "x-forwarded", "x-host", "x-http-host-override", "x-proxyuser-ip",
        "x-real-ip", "x-rewrite-url", "x-webauth-user",
    }
)  # fmt: skip
_FROM_PROXIES_PREFIXES = (
    "cf-access-", "remote-", "ssl-client-", "x-amzn-oidc-", "x-auth-request-", "x-authentik-", "x-client-cert",
    "x-envoy-", "x-forwarded-", "x-goog-authenticated-user-", "x-goog-iap-", "x-ms-client-principal", "x-original-",
    "x-remote-", "x-ssl-client-",
)  # fmt: skip
"""What proxies say about a client, and about the user that they have signed in. To a pod, the gateway is the proxy."""
_SITE_WIDE = frozenset(
    {
        "alt-svc", "clear-site-data", "expect-ct", "nel", "public-key-pins", "public-key-pins-report-only", "report-to",
        "strict-transport-security",
    }
)  # fmt: skip
"""What outlives the pod in a browser, or affects other hosts: `Clear-Site-Data` signs out of the whole site."""
_TO_PROXIES = frozenset(
    {
        "x-accel-charset", "x-accel-expires", "x-accel-limit-rate", "x-accel-redirect", "x-lighttpd-send-file",
        "x-reproxy-url", "x-sendfile",
    }
)  # fmt: skip
"""What makes a proxy in front of the gateway send something else, such as a file of its own."""


class HeaderFilter:
    """Decides which names pass. Most requests have the same ones, so decisions are cached, up to a bound."""

    def __init__(self, removes: Callable[[str], bool]) -> None:
        self._removes = removes
        self._cached = lru_cache(maxsize=_CACHED)(removes)

    def removed(self, names: Iterable[str]) -> list[str]:
        """Those that do not pass."""
        return [name for name in names if (self._cached if len(name) <= _LONGEST else self._removes)(name)]


def _removed_to_pod(name: str) -> bool:
    plain = _OTHER.sub("-", name.lower())
    return name.lower() in _HOP_BY_HOP or plain in _FROM_PROXIES or plain.startswith(_FROM_PROXIES_PREFIXES)


def _removed_to_browser(name: str) -> bool:
    # The parser accepts a space before the colon of names that it knows, `Content-Length : 3`. A browser may take that
    # for a second header beside the one that we write.
    plain = name.lower()
    return plain in _HOP_BY_HOP or plain in _SITE_WIDE or plain in _TO_PROXIES or plain != plain.strip()


TO_POD = HeaderFilter(_removed_to_pod)
"""For the headers of a request."""
TO_BROWSER = HeaderFilter(_removed_to_browser)
"""For the headers of a response."""
