"""What an editor's page sends, and which of its messages show that a user is present."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.gateway.activity import rules
from service.gateway.activity.vscode import Call, Editor, calls
from service.gateway.websocket.frames import BINARY, CONTINUATION, Frame

MINUTE = 60.0


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def message(body: bytes = b"", kind: int = 1) -> bytes:
    return struct.pack("!BIII", kind, 1, 1, len(body)) + body


def method(name: str, given: bytes = b"[]") -> bytes:
    """A call of the extension host."""
    return message(
        b"\x01" + struct.pack("!IBB", 7, 3, len(name)) + name.encode() + struct.pack("!I", len(given)) + given
    )


def command(channel: str, name: str, kind: int = 100) -> bytes:
    """A call of a channel."""
    head = b"\x04\x04\x06" + bytes([kind]) + b"\x06\xac\x02"
    return message(head + b"".join(b"\x01" + bytes([len(text)]) + text.encode() for text in (channel, name)) + b"\x00")


KEEP_ALIVE, ACKNOWLEDGED = message(kind=9), message(kind=3)
CONTEXT = message(b"\x01\x24renderer:$sits-here-and-is-a-text-only!!")
"""The first message of a connection for channels."""
HERE, AWAY = (method("$onDidChangeWindowActive", text) for text in (b"[true]", b"[false]"))


def test_remote_calls_are_distinguished() -> None:
    frame = (
        CONTEXT + command("remoteterminal", "$input") + KEEP_ALIVE + method("$onFileEvent") + message(b"\x09\0\0\0\x07")
    )
    assert [name for name, _ in calls(frame)] == ["remoteterminal.$input", "$onFileEvent"]


def test_subscribing_to_an_event_and_unsubscribing_are_not_calls() -> None:
    assert not list(calls(command("remoteterminal", "$onProcessData", kind=102) + message(b"\x04\x02\x06\x67\x06\x01")))


@given(st.binary(max_size=300))
def test_no_input_causes_an_error(frame: bytes) -> None:
    assert all(isinstance(call, Call) for call in calls(frame))
    assert all(isinstance(call, Call) for call in calls(message(frame)))


@pytest.mark.parametrize(
    "doing",
    [
        command("remoteterminal", "$input"),
        command("remoteFilesystem", "write"),
        method("$acceptEditorPropertiesChanged"),
        method("$onMessage"),
    ],
)
def test_what_only_a_user_does_shows_presence(doing: bytes, clock: Clock) -> None:
    editor = Editor(resumed=True, clock=clock)
    assert editor.shows_somebody(KEEP_ALIVE + doing)
    assert not editor.shows_somebody(KEEP_ALIVE)


@pytest.mark.parametrize(
    "talk",
    [
        KEEP_ALIVE,
        ACKNOWLEDGED,
        CONTEXT,
        command("agentHostProxy", "send"),
        command("remoteFilesystem", "stat"),
        command("remoteFilesystem", "writeFile"),
        method("$onFileEvent"),
        method("$shellExecutionData"),
        method("$acceptModelChanged"),
    ],
)
def test_what_an_editor_sends_by_itself_shows_no_presence(talk: bytes, clock: Clock) -> None:
    assert not Editor(resumed=True, clock=clock).shows_somebody(talk)


@pytest.mark.parametrize(("doing", "counts"), [(method("$onFileEvent"), False), (method("$onMessage"), True)])
def test_a_fragmented_message_is_recognised_by_its_start(doing: bytes, counts: bool, clock: Clock) -> None:
    editor = Editor(resumed=True, clock=clock)
    begins = Frame(BINARY, 100_000, KEEP_ALIVE + doing)
    goes_on = Frame(CONTINUATION, 100_000, bytes(1000))
    assert [rules.is_input(each, editor) for each in (begins, goes_on, goes_on)] == [counts, False, False]


def test_a_user_is_present_between_the_messages_that_report_it(clock: Clock) -> None:
    editor = Editor(resumed=True, clock=clock)
    assert not editor.shows_somebody(KEEP_ALIVE)
    assert editor.shows_somebody(HERE)
    clock.now += 5 * MINUTE
    assert editor.shows_somebody(KEEP_ALIVE)
    assert not editor.shows_somebody(AWAY)
    assert not editor.shows_somebody(KEEP_ALIVE)


def test_a_user_who_opens_an_editor_is_present_until_it_reports_otherwise(clock: Clock) -> None:
    editor = Editor(resumed=False, clock=clock)
    assert not editor.shows_somebody(message(b'{"type":"sign"}', kind=2))
    assert editor.shows_somebody(method("$activateByEvent"))
    assert editor.shows_somebody(KEEP_ALIVE)
    assert not editor.shows_somebody(AWAY)
    assert not editor.shows_somebody(method("$activateByEvent"))


def test_a_connection_for_channels_does_not_report_presence(clock: Clock) -> None:
    editor = Editor(resumed=False, clock=clock)
    assert not editor.shows_somebody(CONTEXT + command("remoteFilesystem", "stat"))
    assert not editor.shows_somebody(KEEP_ALIVE)


def test_a_missed_report_that_a_user_left_does_not_keep_the_session_awake(clock: Clock) -> None:
    editor = Editor(resumed=True, clock=clock)
    assert editor.shows_somebody(HERE)
    clock.now += 10 * MINUTE
    assert editor.shows_somebody(method("$acceptEditorPropertiesChanged"))
    clock.now += 10 * MINUTE
    assert editor.shows_somebody(KEEP_ALIVE)
    clock.now += 10 * MINUTE
    assert not editor.shows_somebody(KEEP_ALIVE)
