"""The History in memory."""

from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace

from service.domain.history import LIMIT, POD_UID_LENGTH, dedup_key
from service.domain.journal import ExpiryAnnounced, HistoryEvent, Revoked, Upgraded, Woken
from service.domain.names import SessionId


@dataclass
class MemoryHistory:
    """See `service.domain.ports.History`; `sessions` has those with a record."""

    sessions: Container[SessionId] = ()
    kept: dict[SessionId, list[HistoryEvent]] = field(default_factory=dict)
    """Newest first."""

    async def append(self, event: HistoryEvent) -> bool:
        if event.uuid is None or event.uuid not in self.sessions:
            return False
        events = self.kept.setdefault(event.uuid, [])
        if any(dedup_key(event) == dedup_key(each) for each in events):
            return False
        if not isinstance(event, Woken | Revoked | Upgraded | ExpiryAnnounced) and event.pod is not None:
            event = replace(event, pod=event.pod[:POD_UID_LENGTH])
        events.insert(0, replace(event, user=None))
        del events[LIMIT:]
        return True

    async def events(self, uuid: SessionId) -> Sequence[HistoryEvent]:
        return list(self.kept.get(uuid, ()))
