"""The messages between a page's companion and the gateway: JSON objects with a `type`. Unknown ones are ignored.

From the page: `input` (the user did something, `ago` milliseconds before), `wake`, `stay` (the notice's button).
To the page: `hello` (texts, style, seconds of the notice, minutes that `stay` gives), `state`, `save` (somebody has
asked for a sleep, which comes in so many seconds), `progress`, `ready` (load the page again), `failed` (no wake can
succeed, or this one did not), `stayed` (awake until then). Times are in seconds since 1970.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from service.domain.phase import Phase

LONGEST = 512
"""Bytes of a message from a page."""
_OLDEST = 60.0
"""Seconds that input is late at most; the page reports nothing older."""
_TYPES = frozenset({"input", "wake", "stay"})


@dataclass(frozen=True, slots=True)
class Message:
    """What a page says. `ago`: seconds since the input."""

    type: str
    ago: float = 0.0


def parse(text: str) -> Message | None:
    """None for anything that is not a known message: the page may be newer, or hostile."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(kind := found.get("type"), str) or kind not in _TYPES:
        return None
    late = found.get("ago")
    seconds = late / 1000 if isinstance(late, int) and not isinstance(late, bool) and 0 <= late <= 10**9 else 0.0
    return Message(kind, min(seconds, _OLDEST))


@dataclass(frozen=True, slots=True)
class State:
    """What the page needs to know of its session. `pod` tells one life of the pod from the next."""

    phase: str
    pod: str | None = None
    sleeps_at: datetime | None = None
    asleep_since: datetime | None = None
    interrupted: bool = False
    """A program was still working when the session fell asleep."""
    sleep_due: datetime | None = None
    """When a sleep comes that somebody has asked for."""

    def message(self, now: datetime) -> str:
        return _text(
            "state",
            phase=self.phase,
            pod=self.pod,
            sleeps_at=self.sleeps_at and self.sleeps_at.timestamp(),
            asleep_since=self.asleep_since and self.asleep_since.timestamp(),
            interrupted=self.interrupted,
            now=now.timestamp(),
        )


def hello(texts: Mapping[str, str], notice: float, stay: int) -> str:
    """`notice` is in seconds, `stay` in minutes."""
    own = {key.removeprefix(_PREFIX): text for key, text in texts.items() if key.startswith(_PREFIX)}
    return _text("hello", texts=own, style=_STYLE, notice=notice, stay=stay)


def progress(stage: str, detail: str | None) -> str:
    return _text("progress", stage=stage, detail=detail)


def ready() -> str:
    return _text("ready")


def save(seconds: float) -> str:
    return _text("save", seconds=seconds)


def failed(title: str, detail: str) -> str:
    return _text("failed", title=title, detail=detail)


def stayed(until: datetime) -> str:
    return _text("stayed", until=until.timestamp())


def access_ended(now: datetime) -> str:
    """As if the pod had been replaced: the page loads again, and its user is led to where they sign in."""
    return State(Phase.READY, "none").message(now)


_PREFIX = "companion."
_STYLE = (Path(__file__).parent / "companion.css").read_text(encoding="utf-8")
"""Of what the script shows. It comes with the first message, so that no page waits for it."""


def _text(type_: str, **members: Any) -> str:
    return json.dumps({"type": type_, **members}, ensure_ascii=False)
