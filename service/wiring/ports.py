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
    gateway = config.role.serves_gateway and config.gateway_domain
    return Ports(
        api=bind(f"{PREFIX}PORT", config.host, config.port),
        metrics=bind(f"{PREFIX}METRICS_PORT", config.host, config.metrics_port) if config.metrics_port else (),
        gateway=bind(f"{PREFIX}GATEWAY_PORT", config.host, config.gateway_port) if gateway else (),
    )
