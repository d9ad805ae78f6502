"""Whether a page's Content Security Policy lets the companion run (https://www.w3.org/TR/CSP3/).

The companion is a script of the page's own origin, which the parser inserts without a nonce, and a WebSocket to the
same origin. Where browsers differ, the answer is no.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import unquote

_SCRIPT = ("script-src-elem", "script-src", "default-src")
_CONNECT = ("connect-src", "default-src")
_SANDBOX_NEEDS = frozenset({"allow-scripts", "allow-same-origin"})
_COVERS = {"http": ("http", "https"), "https": ("https",), "ws": ("ws", "wss"), "wss": ("wss",)}
"""Which schemes a source with a scheme allows."""
_DEFAULT_PORTS = {"http": "80", "ws": "80", "https": "443", "wss": "443"}
_SCHEME_SOURCE = re.compile(r"([a-z][a-z0-9+.-]*):")
_HOST_SOURCE = re.compile(
    r"(?:([a-z][a-z0-9+.-]*)://)?(\*|(?:\*\.)?[a-z0-9_.-]+)(?::([0-9]+|\*))?(/[^?#]*)?", re.IGNORECASE
)


class Url(NamedTuple):
    scheme: str
    host: str
    port: str
    path: str


class Origin:
    """The origin of a page: `scheme` is `http` or `https`, `authority` its host, maybe with a port."""

    def __init__(self, scheme: str, authority: str, *, script: str, socket: str) -> None:
        """`script`, `socket`: the paths of the companion's script and of its WebSocket."""
        host, _, port = authority.lower().partition(":")
        port = port or _DEFAULT_PORTS[scheme]
        self._scheme = scheme
        self._script = Url(scheme, host, port, script)
        self._socket = Url("wss" if scheme == "https" else "ws", host, port, socket)

    def is_allowed_by(self, policy: str) -> bool:
        """Whether this one policy, of a `meta` element or of a header, allows script and WebSocket."""
        directives = _directives(policy)
        sources = _sources(directives, _SCRIPT)
        if sources is not None and ("'strict-dynamic'" in sources or not self._matches(sources, self._script)):
            return False
        sources = _sources(directives, _CONNECT)
        return sources is None or self._matches(sources, self._socket)

    def is_allowed_by_headers(self, headers: Iterable[str]) -> bool:
        """The same for all policies of the `Content-Security-Policy` headers."""
        return all(map(self.is_allowed_by, _policies(headers)))

    def _matches(self, sources: Iterable[str], url: Url) -> bool:
        return any(source in ("'self'", "*") or self._matches_source(source, url) for source in sources)

    def _matches_source(self, source: str, url: Url) -> bool:
        if any_host := _SCHEME_SOURCE.fullmatch(source):
            return url.scheme in _COVERS.get(any_host[1], ())
        found = _HOST_SOURCE.fullmatch(source)
        if found is None:
            return False  # a keyword, a nonce or a hash
        scheme, host, port, path = found[1] or self._scheme, found[2].removesuffix("."), found[3], found[4]
        return (
            url.scheme in _COVERS.get(scheme, ())
            and (host in ("*", url.host) or (host.startswith("*.") and url.host.endswith(host[1:])))
            and port in ("*", url.port, None if url.port == _DEFAULT_PORTS[url.scheme] else url.port)
            and _contains(unquote(path or ""), url.path)
        )


def _contains(path: str, asked: str) -> bool:
    return not path or asked == path or (path.endswith("/") and asked.startswith(path))


def _directives(policy: str) -> dict[str, list[str]]:
    """Name -> values, all in lower case. Of two with the same name, the first one counts."""
    found: dict[str, list[str]] = {}
    for directive in policy.lower().split(";"):
        name, *values = directive.split() or [""]
        found.setdefault(name, values)
    return found


def _sources(directives: dict[str, list[str]], names: Iterable[str]) -> list[str] | None:
    return next((directives[name] for name in names if name in directives), None)


def is_sandboxed(headers: Iterable[str]) -> bool:
    """Whether a page with these `Content-Security-Policy` headers has no scripts, or no origin of its own.

    The requests of a page without an origin bring no cookie. A sandbox in a `meta` element has no meaning.
    """
    flags = [_directives(policy).get("sandbox") for policy in _policies(headers)]
    return any(each is not None and not _SANDBOX_NEEDS.issubset(each) for each in flags)


def _policies(headers: Iterable[str]) -> list[str]:
    return [policy for header in headers for policy in header.split(",")]
