"""What the checks of one diagnosis look at. Each part is read once, whoever asks for it first."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from service.domain.diagnosis.ports import Inventory, KeyFacts, ObjectFacts, RedisConfiguration, RedisInspection
from service.domain.errors import IndexIncomplete
from service.domain.names import SessionId
from service.domain.ports import Releases, Store
from service.domain.queries import SessionQueries
from service.domain.session import Session

T = TypeVar("T")
_PAGE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveyor:
    """Begins surveys of these parts."""

    queries: SessionQueries
    store: Store
    releases: Releases
    inventory: Inventory
    redis: RedisInspection

    def begin(self) -> "Survey":
        return Survey(self)


class Survey:
    """Close it when the diagnosis is over: reads that are still running then end."""

    def __init__(self, sources: Surveyor) -> None:
        self._sources = sources
        self._reads: dict[str, asyncio.Task[Any]] = {}
        self.now = datetime.now(UTC)

    async def sessions(self) -> Mapping[SessionId, Session]:
        """Every session with a record."""
        return await self._once("sessions", self._read_sessions)

    async def known(self) -> frozenset[SessionId]:
        """Every id in the index: sessions, and creates in progress. Raises IndexIncomplete."""
        return await self._once("known", self._read_known)

    async def objects(self) -> Sequence[ObjectFacts]:
        return await self._once("objects", self._sources.inventory.objects)

    async def keys(self) -> Mapping[SessionId, KeyFacts]:
        return await self._once("keys", self._sources.redis.keys)

    async def configuration(self) -> RedisConfiguration:
        return await self._once("configuration", self._sources.redis.configuration)

    async def rendered(self) -> Mapping[str | None, Sequence[Mapping[str, Any]]]:
        """What the chart renders for a session now, by the name of its profile; None: without one."""
        return await self._once("rendered", self._sources.releases.rendered)

    async def close(self) -> None:
        for task in self._reads.values():
            task.cancel()
        await asyncio.gather(*self._reads.values(), return_exceptions=True)

    async def _once(self, name: str, read: Callable[[], Awaitable[T]]) -> T:
        """The deadline of one check must not end the read that others wait for."""
        if name not in self._reads:
            self._reads[name] = asyncio.ensure_future(read())
        result: T = await asyncio.shield(self._reads[name])
        return result

    async def _read_sessions(self) -> Mapping[SessionId, Session]:
        found: dict[SessionId, Session] = {}
        cursor: str | None = None
        while True:
            page = await self._sources.queries.page(cursor=cursor, limit=_PAGE)
            found |= {session.record.uuid: session for session in page.sessions}
            cursor = page.cursor
            if cursor is None:
                return found

    async def _read_known(self) -> frozenset[SessionId]:
        if not await self._sources.store.index_complete():
            raise IndexIncomplete
        found: set[SessionId] = set()
        after = ""
        while batch := await self._sources.store.page(after, _PAGE):
            found.update(batch)
            after = batch[-1]
        return frozenset(found)
