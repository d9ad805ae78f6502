"""The PortProbe on an imagined network."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from service.domain.diagnosis.ports import Reply


@dataclass
class MemoryPortProbe:
    """See `service.domain.diagnosis.ports.PortProbe`: every pod resets what `replies` says nothing about."""

    replies: dict[tuple[str, int], Sequence[Reply]] = field(default_factory=dict)
    """One after the other; the last one stays."""
    tried: list[tuple[str, int]] = field(default_factory=list)

    async def reply(self, address: str, port: int) -> Reply:
        self.tried.append((address, port))
        replies = self.replies.get((address, port), (Reply.RESET,))
        return replies[min(self.tried.count((address, port)), len(replies)) - 1]
