"""Forgets sessions whose release is gone for good: `released` is a state to come back from, not one to pile up."""

import asyncio
import logging
import random
from datetime import timedelta

from service.domain.errors import SessionError, Unavailable
from service.domain.names import SessionId
from service.domain.provisioning import Provisioner
from service.domain.queries import SessionQueries
from service.domain.session import RecordStatus

log = logging.getLogger(__name__)

_INTERVAL = timedelta(hours=1)
_PAGE = 200


class Collector:
    """A duty of the leader: a look at every session, once an hour, or more often when `retention` is short."""

    def __init__(self, *, provisioner: Provisioner, queries: SessionQueries, retention: timedelta) -> None:
        self._provisioner = provisioner
        self._queries = queries
        self._retention = retention
        self._interval = min(_INTERVAL, retention / 2).total_seconds()

    async def lead(self) -> None:
        """Work until cancelled."""
        while True:
            await asyncio.sleep(self._interval * random.uniform(0.9, 1.1))  # noqa: S311 - only spreads the load
            try:
                await self.look()
            except Unavailable as unavailable:
                log.warning("released sessions are kept until %s answers", unavailable.part)

    async def look(self) -> None:
        """Look at every session once: note who has just lost the release, forget who lost it long ago."""
        cursor: str | None = None
        while True:
            page = await self._queries.page(cursor=cursor, limit=_PAGE)
            for session in page.sessions:
                if session.status is RecordStatus.RELEASED or session.record.released_at:
                    await self._collect(session.record.uuid)
            cursor = page.cursor
            if cursor is None:
                return

    async def _collect(self, uuid: SessionId) -> None:
        try:
            if await self._provisioner.collect(uuid, self._retention):
                log.info("forgotten: its release has long been gone", extra={"uuid": uuid})
        except Unavailable:
            raise
        except SessionError as error:
            log.info("to be looked at again: %s", error, extra={"uuid": uuid})
        except Exception:
            log.exception("a released session could not be looked at; the next look tries again", extra={"uuid": uuid})
