"""Writes each journal entry as one log line at info, with its fields."""

import logging
from dataclasses import fields
from datetime import datetime
from enum import Enum
from typing import Any

from service.domain.journal import JournalEntry

log = logging.getLogger("service.journal")

_NAMES = {"request": "request_id"}
_OMITTED = frozenset({"at"})
"""The log line has its own time."""


class LogJournal:
    """See `service.domain.journal.Journal`."""

    def note(self, entry: JournalEntry) -> None:
        given = {field.name: getattr(entry, field.name) for field in fields(entry) if field.name not in _OMITTED}
        extra = {_NAMES.get(name, name): _plain(value) for name, value in given.items() if value is not None}
        log.info(entry.EVENT, extra=extra)


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
