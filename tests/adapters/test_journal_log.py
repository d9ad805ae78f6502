"""The journal as log lines."""

import json
import logging
from datetime import UTC, datetime

import pytest

from service import logs
from service.adapters.log.journal import LogJournal
from service.domain.journal import Slept
from service.domain.names import SessionId
from service.domain.sleep_cause import SleepReason

SINCE = datetime(2026, 1, 1, 13, 59, 58, 123456, tzinfo=UTC)


@pytest.fixture
def _restored() -> object:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level


@pytest.mark.usefixtures("_restored")
def test_an_entry_is_one_line_with_its_fields_and_the_id_of_its_request(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure(level="info", style="json")
    slept = Slept(
        uuid=SessionId("abc123xy"),
        user="0f",
        request="request-1",
        why=SleepReason.IDLE,
        idle_since=SINCE,
        seconds=62.34567,
    )
    LogJournal().note(slept)
    (line,) = capsys.readouterr().err.splitlines()
    found = json.loads(line)
    assert {name: value for name, value in found.items() if name != "timestamp"} == {
        "event": "session slept",
        "level": "info",
        "logger": "service.journal",
        "uuid": "abc123xy",
        "user": "0f",
        "request_id": "request-1",
        "why": "idle",
        "idle_since": "2026-01-01T13:59:58.123+00:00",
        "seconds": 62.346,
        "interrupted": False,
    }
