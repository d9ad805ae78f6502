"""Compression of WebSockets between browser and gateway: what is agreed on, what goes over the wire, what may not."""

import asyncio
import os
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from service.domain.names import SessionId
from service.gateway.activity import recorder as attention
from service.gateway.activity.vscode import LOOKED_AT, Editor
from service.gateway.gateway import Terms
from service.gateway.websocket.deflate import COMPRESSED, Packer, Unpacker, Violation, agreed
from service.gateway.websocket.frames import BINARY, CLOSE, CONTINUATION, FIN, TEXT, Frame, Parts, frame
from tests.domain.conftest import World
from tests.gateway.conftest import House
from tests.gateway.test_editor import KEEP_ALIVE, command
from tests.gateway.test_websockets import socket

MASK = b"\x01\x02\x03\x04"
PING = 0x9
PIECE = 2**16
OFFER = "permessage-deflate; client_max_window_bits"


@pytest.fixture
async def house(world: World) -> AsyncIterator[House]:
    async with House(world, Terms(compression=True)).open() as house:
        yield house


def packed(payload: bytes) -> bytes:
    """As a browser does it."""
    packer = zlib.compressobj(wbits=-15)
    return (packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


@asynccontextmanager
async def raw(
    house: House, uuid: SessionId, offer: str | None = OFFER
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A WebSocket of which one sees every byte; what was agreed on is read already."""
    headers = await house.headers(uuid, Connection="Upgrade", Upgrade="websocket")
    headers |= {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version": "13"}
    headers |= {"Sec-WebSocket-Extensions": offer} if offer else {}
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    try:
        writer.write("".join(["GET /ws HTTP/1.1\r\n", *(f"{k}: {v}\r\n" for k, v in headers.items()), "\r\n"]).encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert head.startswith("HTTP/1.1 101")
        assert ("permessage-deflate" in head) is (house.terms.compression and offer is not None)
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def close_code(reader: asyncio.StreamReader) -> int:
    """Of the first close frame that comes."""
    parts = Parts()
    async with asyncio.timeout(5):
        while data := await reader.read(2**16):
            for part in parts.read(data):
                if part.opcode == CLOSE:
                    return int.from_bytes(part.data[:2], "big")
    raise AssertionError("no close frame came")


BOTH = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


@pytest.mark.parametrize(
    ("offers", "text", "window"),
    [
        (["permessage-deflate"], BOTH, 12),
        ([OFFER], BOTH, 12),
        (["permessage-deflate; client_max_window_bits=10; client_no_context_takeover"], BOTH, 12),
        (["x-other, permessage-deflate; server_max_window_bits=15"], f"{BOTH}; server_max_window_bits=12", 12),
        (['permessage-deflate; server_max_window_bits="10"'], f"{BOTH}; server_max_window_bits=10", 10),
        (["permessage-deflate; server_max_window_bits=8, permessage-deflate"], BOTH, 12),
        (["permessage-deflate; unknown", "PERMESSAGE-DEFLATE"], BOTH, 12),
        (["permessage-deflate; server_max_window_bits=8"], None, 0),
        (["permessage-deflate; server_max_window_bits"], None, 0),
        (["permessage-deflate; server_no_context_takeover=1"], None, 0),
        (["permessage-deflate; server_no_context_takeover; server_no_context_takeover"], None, 0),
        (["x-webkit-deflate-frame"], None, 0),
        ([], None, 0),
    ],
)
def test_the_first_offer_that_can_be_kept_is_taken(offers: list[str], text: str | None, window: int) -> None:
    agreement = agreed(offers)
    assert (agreement and (agreement.text, agreement.window)) == ((text, window) if text else None)


async def test_what_can_be_compressed_is_and_little_is_not(house: House) -> None:
    uuid = await house.awake()
    text = b"the same line again and again\n" * 10_000
    async with raw(house, uuid) as (reader, writer):
        writer.write(frame(FIN | COMPRESSED | BINARY, packed(text), MASK) + frame(FIN | TEXT, b"tiny", MASK))
        taken, parts = 0, Parts()
        whole: list[tuple[int, bytes]] = []
        while not whole or whole[-1][1] != b"tiny":
            data = await asyncio.wait_for(reader.read(2**16), 5)
            taken += len(data)
            whole += [(part.first, part.data) for part in parts.read(data)]
    assert taken < len(text) / 50
    assert whole[0][0] == FIN | COMPRESSED | BINARY
    assert whole[-1][0] == FIN | TEXT


async def test_fragments_of_the_pod_stay_fragments_and_pings_stay_between_them(house: House) -> None:
    uuid = await house.awake()
    async with socket(house, uuid) as connection:
        house.workspaces[uuid].raw = (
            frame(TEXT, b"one ")
            + frame(FIN | PING, b"now")
            + frame(CONTINUATION, b"two " * 100)
            + frame(CONTINUATION, b"")
            + frame(FIN | CONTINUATION, b"")
        )
        await connection.send("raw")
        found = [part async for part in connection.recv_streaming()]
        assert [part for part in found if part] == ["one ", "two " * 100]
        await connection.send("and on it goes")
        assert await connection.recv() == "and on it goes"


@pytest.mark.parametrize("first", [FIN | COMPRESSED | TEXT, FIN | 0x20 | TEXT, FIN | 0x10 | TEXT, FIN | 0x3])
async def test_a_pod_that_breaks_the_protocol_is_not_believed(house: House, first: int) -> None:
    uuid = await house.awake()
    async with socket(house, uuid) as connection:
        house.workspaces[uuid].raw = frame(first, b"what?")
        await connection.send("raw")
        with pytest.raises(ConnectionClosed) as closed:
            await connection.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1002


HOSTILE = {
    "a reserved bit": frame(FIN | 0x20 | TEXT, b"x", MASK),
    "another": frame(FIN | 0x10 | TEXT, b"x", MASK),
    "a compressed ping": frame(FIN | COMPRESSED | PING, packed(b"x"), MASK),
    "a compressed continuation": frame(TEXT, b"x", MASK) + frame(FIN | COMPRESSED | CONTINUATION, packed(b"x"), MASK),
    "a continuation of nothing": frame(FIN | CONTINUATION, b"x", MASK),
    "a message in a message": frame(TEXT, b"x", MASK) + frame(FIN | TEXT, b"x", MASK),
    "no mask": frame(FIN | TEXT, b"x"),
    "a long ping": frame(FIN | PING, b"x" * 126, MASK),
    "a ping in pieces": frame(PING, b"x", MASK),
    "an unknown kind": frame(FIN | 0x3, b"x", MASK),
    "an unknown control": frame(FIN | 0xB, b"x", MASK),
    "nothing that zlib knows": frame(FIN | COMPRESSED | TEXT, b"\xff" * 20, MASK),
    "more than one end": frame(FIN | COMPRESSED | TEXT, b"\x03\x00" * 20, MASK),
}


@pytest.mark.parametrize("frames", HOSTILE.values(), ids=HOSTILE)
async def test_what_may_not_be_sent_ends_the_connection_with_a_code_that_says_so(house: House, frames: bytes) -> None:
    uuid = await house.awake()
    async with raw(house, uuid) as (reader, writer):
        writer.write(frames)
        assert await close_code(reader) == 1002
        writer.write(frame(FIN | CLOSE, (1002).to_bytes(2, "big"), MASK))
        assert await asyncio.wait_for(reader.read(), 5) == b""


@pytest.mark.parametrize("wanted", [True, False])
async def test_so_does_compression_that_was_not_agreed_on(world: World, wanted: bool) -> None:
    async with House(world, Terms(compression=wanted)).open() as house:
        uuid = await house.awake()
        async with raw(house, uuid, None if wanted else OFFER) as (reader, writer):
            writer.write(frame(FIN | COMPRESSED | TEXT, packed(b"surprise"), MASK))
            assert await close_code(reader) == 1002


async def test_what_unpacks_to_more_than_the_pod_takes_is_the_pods_to_refuse(house: House) -> None:
    uuid = await house.awake()
    async with raw(house, uuid) as (reader, writer):
        writer.write(frame(FIN | COMPRESSED | BINARY, packed(bytes(64 * 2**20)), MASK))
        assert await close_code(reader) == 1009  # of the pod's, which takes 4 MB


def test_what_unpacks_to_much_is_never_held_as_a_whole() -> None:
    bomb = frame(FIN | COMPRESSED | BINARY, packed(bytes(64 * 2**20)), MASK)
    assert len(bomb) < 100_000
    told: list[Frame] = []
    sizes = [len(piece) for piece in Unpacker(10, told.append).carry(bomb)]
    assert max(sizes) <= 2 * PIECE + 14
    assert [(each.length, each.head) for each in told] == [(64 * 2**20, bytes(10))]


def test_a_long_frame_of_the_pod_is_never_held_as_a_whole() -> None:
    packer = Packer(12)
    sizes = [len(piece) for data in cut(frame(FIN | BINARY, os.urandom(2**22)), 30_000) for piece in packer.carry(data)]
    assert max(sizes) <= 2 * PIECE + 14


@pytest.mark.parametrize(
    ("payload", "counts"), [(command("remoteterminal", "$input"), True), (KEEP_ALIVE, False), (b"", False)]
)
def test_what_counts_as_input_is_told_from_what_was_unpacked(payload: bytes, counts: bool) -> None:
    seen: list[Frame] = []
    for _ in Unpacker(LOOKED_AT, seen.append).carry(frame(FIN | COMPRESSED | BINARY, packed(payload), MASK)):
        pass
    assert [(each.opcode, each.length, each.head) for each in seen] == [(BINARY, len(payload), payload)]
    assert [attention.is_input(each, Editor(resumed=True)) for each in seen] == [counts]


def test_a_message_may_end_with_a_block_that_says_so() -> None:
    # The example of RFC 7692, 7.2.3.4.
    hello = bytes.fromhex("f3 48 cd c9 c9 07 00 00")
    unpacker = Unpacker(0, lambda _: None)
    frames = b"".join(unpacker.carry(frame(FIN | COMPRESSED | TEXT, hello, MASK)))
    assert [part.data for part in Parts().read(frames)] == [b"Hello"]


def messages(frames: bytes) -> Iterator[tuple[int, bytes]]:
    """Opcode and payload of each message."""
    opcode, payload = 0, b""
    for part in Parts().read(frames):
        opcode = part.opcode or opcode
        payload += part.data
        if part.ends and part.is_final:
            yield opcode, payload
            payload = b""


def cut(data: bytes, step: int) -> Iterator[bytes]:
    return (data[at : at + step] for at in range(0, len(data), step))


FRAGMENT = st.one_of(st.binary(max_size=200), st.binary(max_size=5).map(lambda some: some * 30_000))


@given(st.lists(st.lists(FRAGMENT, min_size=1, max_size=4), max_size=4), st.sampled_from([1, 3, 70, 5000, 10**6]))
def test_messages_are_the_same_after_both_ways_however_they_are_cut(sent: list[list[bytes]], step: int) -> None:
    if sum(len(part) for parts in sent for part in parts) > 10_000:
        step = max(step, 5000)  # byte by byte would take long
    frames = b"".join(
        frame((FIN if number == len(parts) - 1 else 0) | (CONTINUATION if number else BINARY), part)
        for parts in sent
        for number, part in enumerate(parts)
    )
    packer, unpacker = Packer(9), Unpacker(0, lambda _: None)
    to_browser = b"".join(piece for data in cut(frames, step) for piece in packer.carry(data))
    from_browser = b"".join(frame(part.first, part.data, MASK) for part in Parts().read(to_browser))
    to_pod = b"".join(piece for data in cut(from_browser, step) for piece in unpacker.carry(data))
    assert list(messages(to_pod)) == [(BINARY, b"".join(parts)) for parts in sent]


def test_nothing_goes_on_after_a_violation() -> None:
    with pytest.raises(Violation):
        list(Unpacker(0, lambda _: None).carry(HOSTILE["no mask"]))
