"""How many connections one client may have, and what a request must look like to be served."""

import asyncio
import ipaddress
import logging

import pytest

from service.edge import addresses
from tests.edge.conftest import Edge, bounded
from tests.waiting import until
from tests.wire import logged

GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def test_connections_per_address_are_limited() -> None:
    async with bounded(per_address=2) as edge:
        kept = [await asyncio.open_connection("127.0.0.1", edge.port) for _ in range(2)]
        await until(lambda: edge.server.open == 2)
        assert (await edge.asked(GET)).status == 429
        kept[0][1].transport.abort()
        await until(lambda: edge.server.open == 1)
        assert (await edge.asked(GET)).status == 200
        kept[1][1].transport.abort()
        await until(lambda: not edge.server.by_address)


async def test_connections_of_a_trusted_proxy_are_not_counted() -> None:
    async with bounded(per_address=1, uncounted=(ipaddress.ip_network("127.0.0.0/8"),)) as edge:
        kept = await asyncio.open_connection("127.0.0.1", edge.port)
        await until(lambda: edge.server.open == 1)
        assert (await edge.asked(GET)).status == 200
        assert not edge.server.by_address
        kept[1].transport.abort()


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
    ],
)
def test_a_client_is_an_ipv4_address_or_an_ipv6_network(address: str, client: str) -> None:
    parsed = addresses.parse(address)
    assert parsed is not None
    assert addresses.client(parsed) == client


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"GET /\r\n\r\n", 505),
        (b"GET / HTTP/0.9\r\nHost: x\r\n\r\n", 505),
        (b"GET / HTTP/1.9\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"GET / HTTP/3.0\r\nHost: x\r\n\r\n", 400),
        (b"GET / http/1.1\r\nHost: x\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chun\xe2\x84\xaaed\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\nx", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\nx", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 200-ok\r\nContent-Length: 1\r\n\r\nx", 417),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: x\n\n", 400),
    ],
)
async def test_ambiguous_requests_are_refused_and_the_connection_closed(edge: Edge, text: bytes, status: int) -> None:
    answers = await edge.said(text, GET)
    assert [answer.status for answer in answers] == [status]
    assert not edge.seen


@pytest.mark.parametrize(
    "text",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_unusual_but_unambiguous_requests_are_served(edge: Edge, text: bytes) -> None:
    assert (await edge.asked(text)).status == 200


async def test_a_refused_request_after_a_declined_handshake_is_not_served(edge: Edge) -> None:
    handshake = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    answers = await edge.said(handshake + b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", GET)
    assert [answer.status for answer in answers] == [200, 505]
    assert len(edge.seen) == 1


async def test_an_error_is_classified_by_where_it_happened_not_by_its_message(
    edge: Edge, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answer = await edge.asked(b"GET /fails HTTP/1.1\r\nHost: x\r\nX-Secret: hunter2hunter2\r\n\r\n")
    assert answer.status == 500
    told = logged(caplog.records)
    assert "ValueError" in told
    assert "conftest.py" in told
    assert "hunter2" not in told + answer.body.decode()


async def test_a_refusal_is_logged_under_its_request_id(edge: Edge, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    answer = await edge.asked(b"no HTTP\r\n\r\n")
    (record,) = (record for record in caplog.records if record.message.startswith("refused"))
    assert record.request_id in answer.body.decode()  # type: ignore[attr-defined]
