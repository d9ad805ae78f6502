"""The Progress in memory."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from service.domain.names import SessionId
from service.domain.progress import Event, ProgressUpdate, Stage

_LAST = frozenset({Stage.READY, Stage.FAILED, Stage.ASLEEP})
"""After one of these the next `accepted` starts a new wake."""


@dataclass
class MemoryProgress:
    """See `service.domain.ports.Progress`."""

    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    wakes: dict[SessionId, list[Event]] = field(default_factory=dict)
    flags: list[tuple[SessionId, asyncio.Event]] = field(default_factory=list)
    count: int = 0

    async def write(self, uuid: SessionId, *updates: ProgressUpdate) -> bool:
        taken = [self._write(uuid, each) for each in updates]
        return any(taken)

    async def events(self, uuid: SessionId) -> Sequence[Event]:
        return list(self.wakes.get(uuid, ()))

    async def notify(self, uuid: SessionId) -> None:
        self._notify(uuid)

    @contextmanager
    def following(self, uuid: SessionId) -> Iterator[asyncio.Event]:
        entry = (uuid, asyncio.Event())
        self.flags.append(entry)
        try:
            yield entry[1]
        finally:
            self.flags = [each for each in self.flags if each is not entry]

    def drop(self, uuid: SessionId) -> None:
        self.wakes.pop(uuid, None)
        self._notify(uuid)

    def _write(self, uuid: SessionId, update: ProgressUpdate) -> bool:
        wake = self.wakes.get(uuid, [])
        stages = {event.stage for event in wake}
        if update.stage is Stage.ACCEPTED and (not wake or stages & _LAST):
            wake, stages = self.wakes.setdefault(uuid, []), set()
            wake.clear()
        elif not wake or stages & {Stage.READY, Stage.ASLEEP}:
            return False
        if not any(_same(event, update) for event in wake):
            now, self.count = self.clock(), self.count + 1
            began = wake[0].at if wake else now
            id_ = f"{int(now.timestamp() * 1000)}-{self.count}"
            wake.append(Event(id_, update.stage, now, now - began, update.reason, update.final))
            self._notify(uuid)
        return True

    def _notify(self, uuid: SessionId) -> None:
        for followed, flag in self.flags:
            if followed == uuid:
                flag.set()


def _same(event: Event, update: ProgressUpdate) -> bool:
    """Whether the event is the update: each stage counts once, each warning, and a failure once more when final."""
    if event.stage is not update.stage:
        return False
    return event.reason == update.reason if update.stage is Stage.WARNING else event.final or not update.final
