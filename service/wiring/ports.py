"""The TCP ports, bound before anything else so that a port in use ends the start at once."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass

from service.edge.ports import bind
from service.settings import PREFIX, Settings


@dataclass(frozen=True)
class Ports:
    """The bound sockets of each port; empty for a port that is not configured."""

    api: Sequence[socket.socket]
    metrics: Sequence[socket.socket]
    gateway: Sequence[socket.socket]


def bind_ports(config: Settings) -> Ports:
    """Raises PortUnusable."""

    def bound(name: str, port: int, *, wanted: bool = True) -> Sequence[socket.socket]:
        return bind(f"{PREFIX}{name}", config.host, port) if wanted else ()

    gateway = config.role.serves_gateway and bool(config.gateway_domain)
    return Ports(
        api=bound("PORT", config.port),
        metrics=bound("METRICS_PORT", config.metrics_port, wanted=bool(config.metrics_port)),
        gateway=bound("GATEWAY_PORT", config.gateway_port, wanted=gateway),
    )
