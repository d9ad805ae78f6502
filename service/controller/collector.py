"""Deletes the records of sessions whose release has been gone for longer than the retention time."""

import asyncio
import logging
import random
from datetime import timedelta

from service.domain.errors import SessionError, Unavailable
from service.domain.names import SessionId
from service.domain.provisioning import Provisioner
from service.domain.queries import SessionQueries
from service.domain.record import RecordStatus

log = logging.getLogger(__name__)

_INTERVAL = timedelta(hours=1)
_PAGE = 200


class Collector:
    """A duty of the leader: checks every session once an hour, or more often when `retention` is short."""

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
                await self.collect()
            except Unavailable as unavailable:
                log.warning("released sessions are not collected until %s answers", unavailable.part)

    async def collect(self) -> None:
        """Check every session once: note when its release was first missing; forget it after the retention time."""
        cursor: str | None = None
        while True:
            page = await self._queries.page(cursor=cursor, limit=_PAGE)
            for session in page.sessions:
                if session.status is RecordStatus.RELEASED or session.record.released_at:
                    await self._collect_session(session.record.uuid)
            cursor = page.cursor
            if cursor is None:
                return

    async def _collect_session(self, uuid: SessionId) -> None:
        try:
            if await self._provisioner.collect(uuid, self._retention):
                log.info(
                    "session removed: its release has been gone for longer than the retention time",
                    extra={"uuid": uuid},
                )
        except Unavailable:
            raise
        except SessionError as error:
            log.info("a released session is collected later: %s", error, extra={"uuid": uuid})
        except Exception:
            log.exception("a released session cannot be collected; the next round tries again", extra={"uuid": uuid})
