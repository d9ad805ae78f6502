"""The format of server-sent events, in pieces of any size."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from user_pods_client import UnexpectedAnswer
from user_pods_client.event_stream import EventParser, ServerSentEvent

STREAM = ": comment\n\nid: 1\nevent: ready\ndata: {}\n\r\ndata:a\r\ndata: b\r\n\r\nid\ndata: ü\n\nid: 9\n\nretry: 5\r"
STREAM += "data: x\r\r"
EVENTS = [
    ServerSentEvent("1", "ready", "{}"),
    ServerSentEvent(None, "message", "a\nb"),
    ServerSentEvent(None, "message", "ü"),
    ServerSentEvent(None, "message", "x"),
]


@given(st.lists(st.integers(0, 200)))
def test_pieces_of_any_size_give_the_same_events(cuts: list[int]) -> None:
    parser, found, stream = EventParser(), [], STREAM.encode()
    places = [0, *sorted(cuts), len(stream)]
    for start, end in itertools.pairwise(places):
        found += parser.feed(stream[start:end])
    assert [*found, *parser.feed(b"\n")] == EVENTS


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 65536 + b"\n", b"x" * 65536])
def test_an_endless_event_is_refused(piece: bytes) -> None:
    parser = EventParser()
    with pytest.raises(UnexpectedAnswer, match="megabyte"):
        [parser.feed(piece) for _ in range(40)]
