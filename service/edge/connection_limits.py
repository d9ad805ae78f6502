"""What connections may cost: how many there are, how large a head is, how long each part of a request takes."""

import logging
import resource
from collections.abc import Sequence
from dataclasses import dataclass, replace

from service.edge.addresses import Network

log = logging.getLogger(__name__)

HEADER_LIMIT = 64 * 1024
HEADER_LINES = 1000
"""Each costs some 300 bytes beside its own, however short it is."""
_OTHER_FILES = 256
"""What the rest of the service opens, helm's pipes included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Times are in seconds, sizes in bytes."""

    connections: int = 10_000
    """Open at the same time."""
    per_address: int = 0
    """Of these from one client's address (of IPv6, from one network of 64 bits); 0: any number."""
    elsewhere: int = 0
    """Connections that other ports of this process may have, and need files for."""
    uncounted: Sequence[Network] = ()
    """Networks of proxies, which bring many clients and are not counted so."""
    head_bytes: int = HEADER_LIMIT
    """Request line and headers of one request, all together."""
    head_lines: int = HEADER_LINES
    """Headers of one request."""
    heads: int = 32 * 2**20
    """Of all heads together that have begun and are not complete. Nearly all come in one piece and count nothing."""
    head: float = 20
    """From the first byte of a request to the last of its headers. A browser sends them at once."""
    idle: float = 75
    """Without a request. More than the 60 that load balancers keep theirs, so that they are the ones who close."""
    stall: float = 300
    """Without a byte of a body that the pod waits for, or without one taken of an answer: far longer than a train's
    tunnel, and short enough that the dead do not pile up."""


def affordable(connection_limits: ConnectionLimits) -> ConnectionLimits:
    """The limits with as many connections as there are file descriptors for: each takes one, and one more to its pod.

    Beyond what the process may open, Redis and Kubernetes could not be reached either.
    """
    needed = 2 * connection_limits.connections + connection_limits.elsewhere + _OTHER_FILES
    may, could = resource.getrlimit(resource.RLIMIT_NOFILE)
    if may != resource.RLIM_INFINITY and may < needed:
        may = needed if could == resource.RLIM_INFINITY else min(needed, could)
        resource.setrlimit(resource.RLIMIT_NOFILE, (may, could))
    if may == resource.RLIM_INFINITY or may >= needed:
        return connection_limits
    there = max(1, (may - connection_limits.elsewhere - _OTHER_FILES) // 2)
    log.warning("fewer connections than wanted, by the limit of open files", extra={"connections": there, "files": may})
    return replace(connection_limits, connections=there)
