"""The PodEvents in memory."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from service.domain.names import SessionId
from service.domain.progress import ProgressUpdate
from tests.fakes.listeners import listen


@dataclass
class MemoryPodEvents:
    """See `service.domain.ports.PodEvents`: yields what a test publishes."""

    listeners: list[asyncio.Queue[tuple[SessionId, str, ProgressUpdate]]] = field(default_factory=list)

    def updates(self) -> AsyncIterator[tuple[SessionId, str, ProgressUpdate]]:
        return listen(self.listeners)

    def publish(self, uuid: SessionId, pod_uid: str, update: ProgressUpdate) -> None:
        for heard in self.listeners:
            heard.put_nowait((uuid, pod_uid, update))
