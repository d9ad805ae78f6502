"""A document gets exactly one script, whatever its pieces are. The rest of it stays, and none costs much."""

import asyncio
import gzip
import time
import tracemalloc
import zlib
from collections.abc import Iterable, Iterator
from random import Random

import pytest
from aiohttp import ClientPayloadError
from hypothesis import given, settings
from hypothesis import strategies as st

from service.gateway.injection import document as documents
from service.gateway.injection.content_coding import Recoder
from service.gateway.injection.document import Body, Document
from tests.gateway.test_head_scanner import TOKENS, scanned

SCRIPT = b"<script src=x></script>"
PAGE = b"<!doctype html><html><head><title>x</title></head><body>" + b"<p>some text</p>" * 20_000
"""320 KB."""


class Pieces:
    """A body that comes in these pieces. An exception among them ends it."""

    def __init__(self, pieces: Iterable[bytes | Exception]) -> None:
        self._pieces: Iterator[bytes | Exception] = iter(pieces)

    async def readany(self) -> bytes:
        piece = next(self._pieces, b"")
        if isinstance(piece, Exception):
            raise piece
        return piece


class Silent(Pieces):
    """The same, but it never ends."""

    async def readany(self) -> bytes:
        if piece := await super().readany():
            return piece
        await asyncio.Event().wait()
        raise AssertionError


def held(body: Body, recoder: Recoder | None) -> Document:
    return Document(body, recoder, asyncio.Lock())


def cut(data: bytes, sizes: Iterable[int]) -> list[bytes]:
    pieces = list[bytes]()
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [piece for piece in [*pieces, data] if piece]


async def passed(document: Document) -> bytes:
    """The whole document, as a browser gets it, with the script at its place."""
    await document.read_head()
    if document.head.place is not None:
        document.insert(SCRIPT, document.head.place)
    return await rest(document)


async def rest(document: Document) -> bytes:
    body = b""
    while piece := await document.readany():
        body += piece
    return body


def with_script(page: bytes) -> bytes:
    place = scanned(page).place
    return page if place is None else page[:place] + SCRIPT + page[place:]


PAGES = st.lists(st.sampled_from(TOKENS) | st.binary(max_size=8), max_size=20).map(b"".join)
SIZES = st.lists(st.integers(1, 40), max_size=20)


@given(PAGES, SIZES)
async def test_a_page_in_any_pieces_is_the_same_but_for_one_script(page: bytes, sizes: list[int]) -> None:
    assert await passed(held(Pieces(cut(page, sizes)), None)) == with_script(page)


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "raw deflate"])
@settings(max_examples=50)
@given(PAGES, SIZES, st.integers(0, 200_000))
async def test_so_is_one_that_is_encoded(coding: str, page: bytes, sizes: list[int], more: int) -> None:
    page += bytes(more)
    pieces = cut(encoded(page, coding), sizes)
    body = await passed(held(Pieces(pieces), Recoder(coding.removeprefix("raw "))))
    assert decoded(body, coding if with_script(page) == page else coding.removeprefix("raw ")) == with_script(page)


def encoded(data: bytes, coding: str) -> bytes:
    if coding.endswith("gzip"):
        return gzip.compress(data)
    packer = zlib.compressobj(wbits=-15 if coding.startswith("raw") else 15)
    return packer.compress(data) + packer.flush()


def decoded(body: bytes, coding: str) -> bytes:
    unpacker = zlib.decompressobj({"gzip": 31, "x-gzip": 31, "deflate": 15}.get(coding, -15))
    data = unpacker.decompress(body)
    assert unpacker.eof
    assert not unpacker.unused_data
    return data


@given(PAGES, SIZES)
async def test_without_a_script_it_stays_byte_for_byte(page: bytes, sizes: list[int]) -> None:
    for body, recoder in ((page, None), (gzip.compress(page), Recoder("gzip"))):
        document = held(Pieces(cut(body, sizes)), recoder)
        await document.read_head()
        assert await rest(document) == body


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_random_bytes_of_any_length_come_through_encoded(coding: str) -> None:
    random = Random(13)  # noqa: S311 - the same each time
    for size in (65_535, 65_536, 65_537, 131_072, 300_000):
        page = b"<head>" + random.randbytes(size - 6)
        pieces = cut(encoded(page, coding), [random.randint(1, 70_000) for _ in range(8)])
        assert decoded(await passed(held(Pieces(pieces), Recoder(coding))), coding) == with_script(page)


# --- while it streams ---


async def first(document: Document) -> bytes:
    async with asyncio.timeout(5):
        await document.read_head()
        if document.head.place is not None:
            document.insert(SCRIPT, document.head.place)
        return await document.readany()


async def test_a_page_is_not_held_back_beyond_its_head() -> None:
    sent = b"<!doctype html><head><title>x</title></head>"
    assert await first(held(Silent([sent]), None)) == with_script(sent)
    packer = zlib.compressobj(wbits=31)
    body = packer.compress(sent) + packer.flush(zlib.Z_SYNC_FLUSH)
    received = await first(held(Silent([body]), Recoder("gzip")))
    assert zlib.decompressobj(31).decompress(received) == with_script(sent), "and it can be decoded up to there"


async def test_each_piece_of_an_encoded_page_leaves_when_it_comes() -> None:
    packer, unpacker = zlib.compressobj(wbits=31), zlib.decompressobj(31)
    parts = [b"<head></head><body>", b"one", b"two", b"three" * 30_000]
    body = [packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH) for part in parts]
    document = held(Silent(body), Recoder("gzip"))
    received = unpacker.decompress(await first(document))
    for part in parts[1:]:
        wanted = len(received) + len(part)
        while len(received) < wanted:
            received += unpacker.decompress(await asyncio.wait_for(document.readany(), 5))
    assert received == with_script(b"".join(parts))


async def test_a_head_that_stops_is_sent_a_moment_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_HEAD_TIMEOUT", 0.02)
    sent = b"<!doctype html><head><title>x"
    assert await first(held(Silent([sent]), None)) == with_script(sent)


async def test_a_page_whose_head_does_not_come_is_sent_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_PLACE_TIMEOUT", 0.02)
    document = held(Silent([b"<!doctype html><!--"]), None)
    assert await first(document) == b"<!doctype html><!--"
    assert document.head.place is None
    assert not document.is_empty


# --- hostile pods ---


async def measured(document: Document) -> tuple[int, float]:
    """The most memory that it takes on its way, in bytes, and how long it keeps others waiting, in seconds."""
    longest, ended = 0.0, False

    async def watch() -> None:
        nonlocal longest
        while not ended:
            begun = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - begun)

    watching = asyncio.create_task(watch())
    tracemalloc.start()
    try:
        await document.read_head()
        if document.head.place is not None:
            document.insert(SCRIPT, document.head.place)
        while await document.readany():
            pass
        return tracemalloc.get_traced_memory()[1], longest
    finally:
        tracemalloc.stop()
        ended = True
        await watching


@pytest.mark.parametrize(
    "begins", [b"<!--", b"<!doctype", b"<html a='", b" ", b"<!-- -->", b"<html>", b"\x00", b"<head><script>", b"<head>"]
)
async def test_a_head_without_end_takes_little_memory(begins: bytes) -> None:
    piece = begins * (16_384 // len(begins))
    memory, _ = await measured(held(Pieces([begins, *[piece] * 256]), None))
    assert memory < 1024 * 1024


async def test_a_page_that_decodes_to_a_thousand_times_its_size_takes_little_memory_and_waits_for_others() -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = packer.compress(b"<head></head>" + bytes(20_000_000)) + packer.flush()
    assert len(bomb) < 20_000
    memory, longest = await measured(held(Pieces([bomb]), Recoder("gzip")))
    assert memory < 2 * 1024 * 1024
    assert longest < 0.2


async def test_large_pages_that_are_encoded_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_LARGE", 100_000)
    page, turns = b"<head></head>" + bytes(5_000_000), asyncio.Lock()
    begun = time.perf_counter()
    await asyncio.gather(*(passed(Document(Pieces([gzip.compress(page)]), Recoder("gzip"), turns)) for _ in range(3)))
    pieces = 3 * 4_900_000 // 65_536
    assert time.perf_counter() - begun > pieces * documents._PAUSE


async def test_one_that_never_decodes_to_anything_is_sent_as_it_is() -> None:
    packer = zlib.compressobj(wbits=31)
    empty = packer.flush(zlib.Z_FULL_FLUSH) + b"\x00\x00\x00\xff\xff" * 10_000
    document = held(Pieces([empty, *[b"\x00\x00\x00\xff\xff" * 10_000] * 100]), Recoder("gzip"))
    memory, _ = await measured(document)
    assert document.head.place is None
    assert memory < 2 * 1024 * 1024


async def test_what_follows_an_encoded_page_is_neither_kept_nor_read_for_ever() -> None:
    pieces = Pieces([gzip.compress(PAGE), *[bytes(65_536)] * 256])
    memory, longest = await measured(held(pieces, Recoder("gzip")))
    assert memory < 1024 * 1024
    assert longest < 0.2
    body = await passed(held(Pieces([gzip.compress(PAGE), b"more"]), Recoder("gzip")))
    assert gzip.decompress(body) == with_script(PAGE)


@pytest.mark.parametrize("size", [5, 20, 2_000, 30_000])
async def test_an_encoded_page_that_is_cut_off_arrives_up_to_there(size: int) -> None:
    random = Random(13)  # noqa: S311 - the same each time
    page = b"<head></head>" + random.randbytes(100_000).hex().encode()
    body = await passed(held(Pieces([gzip.compress(page)[:size]]), Recoder("gzip")))
    unpacker = zlib.decompressobj(31)
    received = unpacker.decompress(body)
    assert not unpacker.eof, "it does not look whole"
    assert with_script(page).startswith(received)
    assert len(received) >= size - 100


async def test_what_is_not_encoded_as_it_says_is_sent_as_it_is() -> None:
    for body in (b"<!doctype html><head>", gzip.compress(PAGE)[:10] + b"\xff" * 100):
        document = held(Pieces([body]), Recoder("gzip"))
        assert await passed(document) == body


async def test_one_that_breaks_later_is_broken_off() -> None:
    page = b"<head></head>" + Random(13).randbytes(400_000)  # noqa: S311 - the same each time
    document = held(Pieces([gzip.compress(page)[:350_000] + b"\xff" * 100_000]), Recoder("gzip"))
    with pytest.raises(ClientPayloadError):
        await passed(document)


async def test_what_follows_the_end_of_an_encoded_page_is_left_out() -> None:
    body = await passed(held(Pieces([gzip.compress(PAGE) + b"rest", b"more"]), Recoder("gzip")))
    assert decoded(body, "gzip") == with_script(PAGE)


@pytest.mark.parametrize("came", [[], [b"<!doctype html>"], [b"<head><title>"]])
async def test_a_pod_that_is_lost_breaks_the_page_off(came: list[bytes]) -> None:
    lost = ClientPayloadError("lost")
    document = held(Pieces([*came, lost, lost]), None)
    await document.read_head()
    for piece in came:
        assert await document.readany() == piece
    with pytest.raises(ClientPayloadError):
        await document.readany()
