"""Differences of the gateway's client from aiohttp's own, on both event loops, which an upgrade must not change."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import count

import pytest
from aiohttp import ClientPayloadError, ClientResponse

from service.domain.names import SessionId
from service.domain.workload import Pod
from tests.gateway.conftest import Headers, House, answer, raw, scripted

LARGE = 20_000_000
_LATIN = 'attachment; filename="M\udcfcller.pdf"'
"""With a byte that is no UTF-8, as aiohttp keeps it."""


@contextlib.asynccontextmanager
async def in_pieces(house: House, said: bytes) -> AsyncIterator[SessionId]:
    """An awake session whose pod sends its nth answer in two pieces, of which the first has n bytes."""
    cuts, over = count(1), asyncio.Event()
    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            cut = next(cuts)
            for piece in (said[:cut], said[cut:]):
                writer.write(piece)
                for _ in range(20):  # the gateway, in the same loop, reads it
                    await asyncio.sleep(0)
            await over.wait()
        writer.close()

    uuid = await house.session()
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        house.pod_at(uuid, server.sockets[0].getsockname()[1])
        yield uuid
        over.set()
        await asyncio.gather(*filter(None, serving))


async def chunks() -> AsyncIterator[bytes]:
    for _ in range(LARGE // 100_000):
        yield bytes(100_000)


# --- answers before the end of the upload ---


@pytest.mark.parametrize(
    ("status", "head"),
    [
        (413, b"413 Payload Too Large\r\nContent-Length: 3"),
        (401, b"401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 3"),
        (302, b"302 Found\r\nLocation: /login\r\nContent-Length: 3"),
        (400, b"400 Bad Request\r\nTransfer-Encoding: chunked"),
        (413, b"413 Payload Too Large"),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
async def test_an_early_answer_to_an_upload_arrives_although_the_pod_closes(
    house: House, status: int, head: bytes, chunked: bool
) -> None:
    body = b"3\r\nbig\r\n0\r\n\r\n" if b"chunked" in head else b"big"
    said = b"HTTP/1.1 %s\r\nConnection: close\r\n\r\n%s" % (head, body)
    async with scripted(house, said) as (uuid, pod):
        for number in range(1, 4):
            headers = await house.headers(uuid) if chunked else await house.headers(uuid, Content_Length=str(LARGE))
            found = await answer(house, "/up", headers, "POST", data=chunks())
            assert (found, len(pod.heads)) == ((status, b"big"), number)


async def test_an_early_answer_to_an_upload_arrives_although_the_pod_stops_reading(house: House) -> None:
    async with scripted(house, b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 3\r\n\r\nbig") as (uuid, _):
        assert await answer(house, "/up", await house.headers(uuid), "POST", data=chunks()) == (413, b"big")


async def test_a_client_that_is_answered_early_is_told_to_close(house: House) -> None:
    async def ask(**more: object) -> ClientResponse:
        async with house.http.post(house.url("/up"), headers=headers, **more) as found:  # type: ignore[arg-type]
            return found

    async with scripted(house, b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 3\r\n\r\nbig") as (uuid, _):
        headers = {**await house.headers(uuid), "Connection": "keep-alive"}
        assert (await ask(data=chunks())).headers["Connection"] == "close"
        assert "Connection" not in (await ask(data=b"small")).headers


async def test_a_client_that_keeps_uploading_gets_the_whole_early_answer_and_no_reset(house: House) -> None:
    async with scripted(house, b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 3\r\n\r\nbig") as (uuid, _):
        headers = await house.headers(uuid, Content_Length=str(LARGE + 100_000))
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"POST /up HTTP/1.1\r\n{fields}\r\n".encode() + bytes(100_000))
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert b"413" in head.partition(b"\r\n")[0]
        async for chunk in chunks():
            writer.write(chunk)
            await writer.drain()
        assert await asyncio.wait_for(reader.read(), 5) == b"big"
        writer.close()


async def test_an_upload_whose_pod_closes_without_an_answer_gets_an_error_that_says_so(house: House) -> None:
    async with scripted(house, b"", ends=True) as (uuid, pod):
        status, body = await answer(house, "/up", await house.headers(uuid), "POST", data=chunks())
    assert (status, json.loads(body)["title"]) == (502, "The workspace stopped")
    assert len(pod.heads) == 1


# --- bytes ---


@pytest.mark.parametrize(
    "target",
    [
        "/x?",
        "/x??",
        "/x?;",
        "/x?a=%",
        "/%",
        "/%zz",
        "/a%00b",
        "//x/y",
        "/[::1]",
        "/a\\b",
        '/{}|^`"<>',
    ],
)
async def test_a_request_target_is_sent_byte_for_byte(house: House, target: str) -> None:
    uuid = await house.awake()
    said = await raw(house, f"GET {target}", await house.headers(uuid, Connection="close"))
    assert said.startswith(b"HTTP/1.1 200")
    assert house.workspaces[uuid].requests[-1][1] == target


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_header_bytes_that_are_not_utf8_reach_the_pod(house: House, method: str) -> None:
    uuid = await house.awake()
    headers = await house.headers(uuid, Connection="close", X_Latin=_LATIN, X_Utf8="€", Content_Length="0")
    assert (await raw(house, f"{method} /bare", headers)).startswith(b"HTTP/1.1 204")
    _, _, told = house.workspaces[uuid].requests[-1]
    assert (told["X-Latin"], told["X-Utf8"]) == ([_LATIN], ["€"])


async def test_header_bytes_that_are_not_utf8_reach_the_browser(house: House) -> None:
    line = b'Content-Disposition: attachment; filename="M\xfcller.pdf"\r\n'
    async with scripted(house, b"HTTP/1.1 299 M\xfcll\r\n" + line + b"Content-Length: 2\r\n\r\nok") as (uuid, _):
        said = await raw(house, "GET /", await house.headers(uuid, Connection="close"))
    assert said.startswith(b"HTTP/1.1 299 M\xfcll\r\n")
    assert line in said
    assert said.endswith(b"\r\n\r\nok")


# --- answers of all kinds ---


@pytest.mark.parametrize(
    ("said", "status", "body"),
    [
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 20 + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
        (b"HTTP/1.0 200 OK\r\nServer: SimpleHTTP/0.6\r\n\r\nhello", 200, b"hello"),
        (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
        (b"HTTP/1.1 599 Odd\r\nContent-Length: 2\r\n\r\nok", 599, b"ok"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\ngrpc-status: 0\r\n\r\n",
            200,
            b"ok",
        ),
        (b"HTTP/1.1 200 OK\r\nX-Empty:\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
    ],
    ids=["hints", "continues", "http10", "no reason", "599", "trailers", "empty header"],
)
async def test_unusual_responses_are_passed_on(house: House, said: bytes, status: int, body: bytes) -> None:
    async with scripted(house, said, ends=b"HTTP/1.0" in said) as (uuid, _):
        headers: Headers = await house.headers(uuid)
        for _ in range(2):
            assert await answer(house, "/", headers) == (status, body)


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 600 Odd\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 099 Odd\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/0.9 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A : b\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX A: b\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-\xfc: b\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: "\x01"\r\n\r\nok',
        b"HTTP/1.1 200 \x01\r\nContent-Length: 2\r\n\r\nok",
    ],
)
async def test_an_ambiguous_response_is_a_502_and_affects_no_other_request(house: House, said: bytes) -> None:
    other = await house.awake("bob")
    async with scripted(house, said) as (uuid, _):
        status, body = await answer(house, "/", await house.headers(uuid))
    assert (status, json.loads(body)["title"]) == (502, "The workspace sent an invalid response")
    assert (await answer(house, "/echo", await house.headers(other)))[0] == 200


@pytest.mark.parametrize(
    "said",
    [
        b"Content-Length : 2\r\n\r\nok",
        b"Content-Length\t: 2\r\n\r\nok",
        b"Transfer-Encoding : chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"Content-Length: 2\r\nConnection : x\r\n\r\nok",
        b"Content-Length: 2\r\nUpgrade : x\r\n\r\nok",
    ],
)
async def test_no_header_is_sent_with_a_space_before_its_colon(house: House, said: bytes) -> None:
    async with scripted(house, b"HTTP/1.1 200 OK\r\n" + said) as (uuid, _):
        got = await raw(house, "GET /", await house.headers(uuid, Connection="close"))
    names = [line.partition(b":")[0] for line in got.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]]
    assert names == [name.strip() for name in names]


@pytest.mark.parametrize(
    "rest", [b"zz\r\n", b"0\r\nX y\r\n\r\n", b"0\r\nX: " + b"y" * 100_000], ids=["chunk", "trailer", "long trailer"]
)
async def test_a_body_that_is_malformed_in_the_middle_is_cut_off(house: House, rest: bytes) -> None:
    """As half of a body that never ends it would keep its client waiting."""
    begun = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):  # of a look whether anybody is there
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
            await begun.wait()
            writer.write(rest)
            await reader.read()
        writer.close()

    uuid = await house.session()
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        pod = Pod("malformed", "127.0.0.1", port, scheduled=True, started=True, ready=True)
        house.world.cluster.change(replace(house.world.cluster.workload(uuid), replicas=1, ready=1, pod=pod))
        async with house.http.get(house.url(), headers=await house.headers(uuid)) as found:
            assert await found.content.readexactly(2) == b"ok"
            begun.set()
            with pytest.raises(ClientPayloadError):
                async with asyncio.timeout(5):
                    await found.content.read()


async def test_a_folded_header_is_passed_on_in_one_line(house: House) -> None:
    async with scripted(house, b"HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 2\r\n\r\nok") as (uuid, _):
        said = await raw(house, "GET /", await house.headers(uuid, Connection="close"))
    assert b"X-A: b c\r\n" in said


async def test_hundreds_of_header_lines_are_passed_on(house: House) -> None:
    lines = b"".join(b"X-%d: %d\r\n" % (number, number) for number in range(500))
    async with scripted(house, b"HTTP/1.1 200 OK\r\n" + lines + b"Content-Length: 2\r\n\r\nok") as (uuid, _):
        said = await raw(house, "GET /", await house.headers(uuid, Connection="close"))
    assert lines.splitlines()[-1] in said


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"x" * 60_000) for n in range(20)) + b"\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 30_000 + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["long lines", "interim answers"],
)
async def test_an_endless_response_head_is_a_502(house: House, said: bytes) -> None:
    async with scripted(house, said) as (uuid, _):
        status, body = await answer(house, "/", await house.headers(uuid))
    assert (status, json.loads(body)["title"]) == (502, "The workspace sent an invalid response")


@pytest.mark.parametrize(
    "surplus",
    [b"surplus", b"7\r\nsurplus\r\n0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", b"\r\n\r\n" * 9],
    ids=["text", "chunks", "an answer", "blank lines"],
)
@pytest.mark.parametrize(
    ("method", "head", "status"),
    [
        ("HEAD", b"200 OK\r\nContent-Length: 7", 200),
        ("HEAD", b"200 OK\r\nTransfer-Encoding: chunked", 200),
        ("HEAD", b"404 Not Found", 404),
        ("HEAD", b"103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK", 200),
        ("GET", b"204 No Content", 204),
        ("GET", b"103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 204 No Content", 204),
        ("DELETE", b"204 No Content\r\nContent-Length: 7", 204),
        ("GET", b'304 Not Modified\r\nETag: "1"', 304),
        ("GET", b"304 Not Modified\r\nContent-Length: 700", 304),
    ],
)
async def test_a_body_where_none_may_be_is_left_out_and_its_connection_ends(
    house: House, method: str, head: bytes, status: int, surplus: bytes
) -> None:
    async with scripted(house, b"HTTP/1.1 %s\r\n\r\n%s" % (head, surplus)) as (uuid, pod):
        headers = await house.headers(uuid)
        for number in range(1, 4):
            assert await answer(house, "/", headers, method) == (status, b"")
            assert pod.connections == number


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\nContent-Length: 7\n\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\n\r\n'),
    ],
)
async def test_a_connection_stays_open_after_an_answer_that_may_have_no_body(
    house: House, method: str, said: bytes
) -> None:
    async with scripted(house, said) as (uuid, pod):
        headers = await house.headers(uuid)
        for _ in range(3):
            assert (await answer(house, "/", headers, method))[1] == b""
        assert pod.connections == 1


async def test_a_surplus_body_in_pieces_is_left_out_too(house: House) -> None:
    said = b"HTTP/1.1 204 No Content\r\nX-Own: 1\r\n\r\nsurplus"
    async with in_pieces(house, said) as uuid:
        headers = await house.headers(uuid)
        for cut in range(1, len(said)):
            assert await answer(house, "/", headers) == (204, b""), cut


# --- connections ---


async def test_a_safe_request_is_repeated_when_the_pod_closed_a_kept_connection(house: House) -> None:
    async with scripted(house, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as (uuid, pod):
        headers = await house.headers(uuid)
        for number in range(1, 4):
            assert await answer(house, "/", headers, "DELETE") == (200, b"ok")
            assert len(pod.heads) == number
            pod.end_connections()


async def test_no_header_is_added_to_those_of_the_client(house: House) -> None:
    uuid = await house.awake()
    await raw(house, "POST /", await house.headers(uuid, Connection="close", Content_Length="2"), b"ok")
    _, _, told = house.workspaces[uuid].requests[-1]
    ours = {"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded"}
    assert set(told) - ours == {"Host", "Content-Length"}
