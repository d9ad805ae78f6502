"""What the domain relies on in the PortProbe: on an imagined network, and on this machine's loopback."""

import socket
from collections.abc import Iterator

import pytest

from service.adapters.network.port_probe import TcpPortProbe
from service.domain.diagnosis.ports import PortProbe, Reply
from tests.conftest import free_port
from tests.fakes import MemoryPortProbe


@pytest.fixture(params=["127.0.0.1", "::1"])
def listening(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.create_server((request.param, 0), family=family) as server:
        yield request.param, server.getsockname()[1]


@pytest.fixture(params=["memory", "tcp"])
def probe(request: pytest.FixtureRequest, listening: tuple[str, int]) -> PortProbe:
    return MemoryPortProbe({listening: [Reply.ACCEPTED]}) if request.param == "memory" else TcpPortProbe()


async def test_a_port_where_somebody_listens_accepts(probe: PortProbe, listening: tuple[str, int]) -> None:
    for _ in range(2):
        assert await probe.reply(*listening) is Reply.ACCEPTED


async def test_a_port_where_nobody_listens_resets(probe: PortProbe, listening: tuple[str, int]) -> None:
    assert await probe.reply(listening[0], free_port()) is Reply.RESET
