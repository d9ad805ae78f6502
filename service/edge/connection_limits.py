"""Limits of connections: how many, how large heads are, how long each part of a request may take."""

import logging
import resource
from collections.abc import Sequence
from dataclasses import dataclass, replace

from service.edge.addresses import Network

log = logging.getLogger(__name__)

HEADER_LIMIT = 64 * 1024
HEADER_LINES = 1000
"""Each takes some 300 bytes beside its own, however short it is."""
_OTHER_FILES = 256
"""File descriptors of the rest of the service, including helm's pipes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Times are in seconds, sizes in bytes."""

    connections: int = 10_000
    """Open at the same time."""
    per_address: int = 0
    """Of these, from one client's address (IPv6: one network of 64 bits). 0: any number."""
    elsewhere: int = 0
    """Connections that other ports of this process may have; they need file descriptors too."""
    uncounted: Sequence[Network] = ()
    """Networks of proxies. They carry many clients, so they are not counted by address."""
    head_bytes: int = HEADER_LIMIT
    """Request line and headers of one request, all together."""
    head_lines: int = HEADER_LINES
    """Headers of one request."""
    heads: int = 32 * 2**20
    """Of all incomplete heads together. Nearly all heads arrive in one piece and do not count."""
    head: float = 20
    """From the first byte of a request to the end of its headers. A browser sends them at once."""
    idle: float = 75
    """Without a request. More than the 60 of load balancers, so that they close first."""
    stall: float = 300
    """Without a byte of a body that the pod waits for, or a byte read of a response. Long enough for a train in a
    tunnel, and short enough that dead connections do not accumulate."""


def affordable(connection_limits: ConnectionLimits) -> ConnectionLimits:
    """The limits, with no more connections than there are file descriptors: each takes one, and one more to its pod.

    Without descriptors to spare, the process could not reach Redis and Kubernetes either.
    """
    needed = 2 * connection_limits.connections + connection_limits.elsewhere + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return connection_limits
    possible = max(1, (soft - connection_limits.elsewhere - _OTHER_FILES) // 2)
    log.warning(
        "fewer connections than configured, because of the limit on open files",
        extra={"connections": possible, "files": soft},
    )
    return replace(connection_limits, connections=possible)
