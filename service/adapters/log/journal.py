"""The Journal as log lines: one at info per journal entry, with its fields beside it."""

import logging
from dataclasses import fields
from datetime import datetime
from enum import Enum
from typing import Any

from service.domain.journal import JournalEntry

log = logging.getLogger("service.journal")

_NAMES = {"request": "request_id"}
_LEFT_OUT = frozenset({"at"})
"""The line has a time of its own."""


class LogJournal:
    """See `service.domain.journal.Journal`."""

    def note(self, happening: JournalEntry) -> None:
        log.info(happening.EVENT, extra=_extra(happening))


def _extra(happening: JournalEntry) -> dict[str, Any]:
    given = {field.name: getattr(happening, field.name) for field in fields(happening) if field.name not in _LEFT_OUT}
    return {_NAMES.get(name, name): _plain(value) for name, value in given.items() if value is not None}


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return value.isoformat(timespec="milliseconds")
        case Enum():
            return value.value
        case float():
            return round(value, 3)
        case _:
            return value
