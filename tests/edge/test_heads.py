"""The limit on the size of request headers: counted in total while they arrive, however they arrive."""

import asyncio
import socket
import tracemalloc

import pytest

from service.edge.connection_limits import HEADER_LIMIT, HEADER_LINES
from tests.edge.conftest import Edge, bounded
from tests.waiting import until

END = b"Connection: close\r\n\r\n"
START = b"GET / HTTP/1.1\r\nHost: x\r\n"
REQUEST = START + b"\r\n"


def head(size: int, *, end: bytes = END) -> bytes:
    """A head of exactly this size in bytes, in headers of at most a kilobyte."""
    filler, left = b"", size - len(START) - len(end)
    while left:
        take = 1000 if left > 1100 else left
        filler += b"X-Filler: " + b"x" * (take - 12) + b"\r\n"
        left -= take
    return START + filler + end


async def test_a_head_may_be_as_large_as_the_bound_and_no_larger(edge: Edge) -> None:
    assert (await edge.asked(head(HEADER_LIMIT))).status == 200
    assert (await edge.asked(head(HEADER_LIMIT + 1))).status == 431
    assert [path for path, _ in edge.seen] == ["/"]


async def test_the_total_size_counts_however_it_is_split(edge: Edge) -> None:
    text = head(HEADER_LIMIT + 1000)
    pieces = [text[at : at + 7000] for at in range(0, len(text), 7000)]
    assert (await edge.asked(*pieces)).status == 431


async def test_an_endless_head_is_refused_as_soon_as_it_is_too_large(edge: Edge) -> None:
    assert (await edge.asked(head(HEADER_LIMIT + 1000, end=b""))).status == 431
    assert edge.server.unfinished == 0


async def test_more_headers_than_the_librarys_default_pass_up_to_a_limit(edge: Edge) -> None:
    many = b"".join(b"X-%d: 1\r\n" % number for number in range(HEADER_LINES - 2))
    assert (await edge.asked(START + many + END)).body == str(HEADER_LINES).encode()
    assert (await edge.asked(START + many + b"X-More: 1\r\n" + END)).status == 431


async def test_a_request_line_that_is_too_long_is_named(edge: Edge) -> None:
    assert (await edge.asked(b"GET /" + b"x" * HEADER_LIMIT)).status == 414


async def test_leading_empty_lines_count_too(edge: Edge) -> None:
    assert (await edge.asked(b"\r\n" * HEADER_LIMIT)).status in (414, 431)


async def test_consecutive_large_heads_are_counted_separately(edge: Edge) -> None:
    large = head(HEADER_LIMIT - 100, end=b"\r\n")
    answers = await edge.said(large, large, large, REQUEST[:-2] + END)
    assert [answer.status for answer in answers] == [200] * 4


async def test_the_limit_applies_to_later_requests_on_a_connection(edge: Edge) -> None:
    answers = await edge.said(REQUEST, head(HEADER_LIMIT + 1), REQUEST)
    assert [answer.status for answer in answers] == [200, 431]


@pytest.mark.parametrize("size", [HEADER_LIMIT + 200, 3 * HEADER_LIMIT])
async def test_the_limit_applies_to_a_pipelined_request(edge: Edge, size: int) -> None:
    answers = await edge.said(REQUEST + head(size) + REQUEST)
    assert [answer.status for answer in answers][:1] == [200]
    assert {answer.status for answer in answers[1:]} <= {431}
    assert len(edge.seen) == 1


async def test_the_limit_applies_after_a_body(edge: Edge) -> None:
    post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
    answers = await edge.said(post + head(2 * HEADER_LIMIT))
    assert [answer.status for answer in answers][:1] == [200]
    assert edge.seen == [("/", b"body")]


async def test_a_body_does_not_count_towards_the_head(edge: Edge) -> None:
    size = 10 * HEADER_LIMIT
    for coding, body in (
        (b"Content-Length: %d" % size, b"x" * size),
        (b"Transfer-Encoding: chunked", b"%x\r\n%s\r\n0\r\n\r\n" % (size, b"x" * size)),
    ):
        text = b"POST / HTTP/1.1\r\nHost: x\r\n" + coding + b"\r\n" + END + body
        assert (await edge.asked(text)).status == 200
        assert edge.seen.pop() == ("/", b"x" * size)


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(b"0\r\n" + b"X-Trailer: %s\r\n" % (b"x" * 1000) * 100, id="trailers"),
        pytest.param(b"4;" + b"extension" * HEADER_LIMIT, id="extension"),
        pytest.param(b"0\r\n" + b"a: b\r\n" * 2000, id="many-trailers"),
        pytest.param(b"no chunk at all\r\n", id="no-chunk"),
    ],
)
async def test_chunk_metadata_has_the_same_limit_and_its_reader_gets_an_error(edge: Edge, rest: bytes) -> None:
    text = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n"
    answers = await edge.said(text, rest)
    assert [answer.status for answer in answers][:1] == [400]
    assert edge.seen == [("/", "RequestPayloadError")]


async def test_pipelined_requests_are_not_read_while_one_is_served(edge: Edge) -> None:
    """Each of them may have a large head."""
    slow = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
    large = head(HEADER_LIMIT // 2, end=b"\r\n")
    asking = asyncio.create_task(edge.said(slow + large * 40 + START + END))
    await until(lambda: bool(edge.server.connections) and edge.server.connections[0]._buffer_paused)
    assert len(edge.server.connections[0]._messages) == 2
    edge.slow.set()
    assert [answer.status for answer in await asking] == [200] * 42


async def test_all_incomplete_heads_together_are_bounded() -> None:
    async with bounded(heads=100_000) as edge:
        half = head(60_000)[:-10]
        first = await asyncio.open_connection("127.0.0.1", edge.port)
        first[1].write(half)
        await until(lambda: edge.server.unfinished == len(half))
        assert (await edge.asked(half)).status == 503
        assert (await edge.asked(head(60_000, end=END))).status == 200, "it is complete at once"
        first[1].transport.abort()
        await until(lambda: edge.server.unfinished == 0)
        assert (await edge.asked(half + head(60_000)[-10:])).status == 200


async def test_many_endless_heads_take_little_memory(edge: Edge) -> None:
    """Before there was a bound on the sum, each of these took all that it was sent."""
    flood = START + b"X-Filler: %s\r\n" % (b"x" * 60_000) * 50
    loop = asyncio.get_running_loop()

    async def attack() -> None:
        with socket.create_connection(("127.0.0.1", edge.port)) as attacker:
            attacker.setblocking(False)
            try:
                async with asyncio.timeout(1):
                    await loop.sock_sendall(attacker, flood)
            except (ConnectionError, TimeoutError):
                pass

    tracemalloc.start()
    try:
        await asyncio.gather(*(attack() for _ in range(20)))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 20 * 2**20
