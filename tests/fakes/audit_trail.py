"""The audit trail in memory."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from service.domain.audit import AuditEntry
from service.domain.errors import InvalidCursor


@dataclass
class MemoryAuditTrail:
    """See `service.domain.audit.AuditTrail`."""

    kept: int = 100
    entries: list[tuple[str, AuditEntry]] = field(default_factory=list)
    """Oldest first."""
    added: int = 0

    async def append(self, entry: AuditEntry) -> None:
        self.added += 1
        self.entries = [*self.entries, (f"{self.added}-0", entry)][-self.kept :]

    async def before(self, cursor: str | None, limit: int) -> Sequence[tuple[str, AuditEntry | None]]:
        if cursor is not None and not re.fullmatch(r"[0-9]{1,19}-[0-9]{1,19}", cursor):
            raise InvalidCursor
        last = self.added if cursor is None else int(cursor.partition("-")[0]) - 1
        return [each for each in reversed(self.entries) if int(each[0].partition("-")[0]) <= last][:limit]
