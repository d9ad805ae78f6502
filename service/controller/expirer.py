"""Warns the users of sessions that have lived or slept too long, and deletes them.

Doubt keeps a session. Every round begins with what would make all of them wrong: a cache of the cluster that is behind,
clocks that differ, and a time in which nobody looked.
"""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from service.domain.activity import SessionActivity
from service.domain.backoff import Backoff
from service.domain.errors import SessionError, SessionInUse, SessionNotFound, Unavailable
from service.domain.expiry import Expired, Expiry, ExpiryReason, ExpiryRule
from service.domain.journal import ExpiryAnnounced, Journal, hashed
from service.domain.names import SessionId
from service.domain.ports import Store
from service.domain.provisioning import Provisioner
from service.domain.queries import SessionQueries
from service.domain.session import Session

log = logging.getLogger(__name__)

_GAP = timedelta(hours=1)
"""Warnings from before a longer time without a round do not count: nobody could see them, or a clock has jumped."""
_GAP_OF_WARNING = 10
"""A short warning allows for less: this part of it."""
_MOST_SKEW = timedelta(minutes=1)
"""Between this replica's clock and Redis'."""
_PAGE = 200
_LONGEST_BACKOFF = 3600.0


class Expirer:
    """A duty of the leader. What it must remember is in Redis; two leaders at once do no harm."""

    def __init__(
        self,
        *,
        rule: ExpiryRule,
        queries: SessionQueries,
        store: Store,
        activity: SessionActivity,
        provisioner: Provisioner,
        journal: Journal,
        interval: timedelta,
        per_hour: int,
    ) -> None:
        """`interval`: between two rounds; `per_hour`: the most deletions in an hour."""
        self._rule = rule
        self._queries = queries
        self._store = store
        self._activity = activity
        self._provisioner = provisioner
        self._journal = journal
        self._gap = min(_GAP, rule.warning / _GAP_OF_WARNING)
        self._interval = min(interval, self._gap / 4).total_seconds()
        self._per_second = per_hour / 3600
        self._most = max(1.0, self._per_second * self._interval * 2) if per_hour else 0.0
        self._allowed = min(1.0, self._most)
        """How many sessions may be deleted now."""
        self._counted = time.monotonic()
        self._noted: datetime | None = None
        """The last round of this process, by Redis' clock: a backup of Redis does not have it."""
        self._later: dict[SessionId, tuple[Backoff, float]] = {}
        """Sessions that have failed: when to try again."""
        self.warned: Mapping[ExpiryReason, int] | None = None
        """Sessions whose users are warned, by the last complete round; None while another replica leads."""

    async def lead(self) -> None:
        """Work until cancelled."""
        try:
            while True:
                await asyncio.sleep(self._interval * random.uniform(0.9, 1.1))  # noqa: S311 - only spreads the load
                try:
                    await self.expire()
                except Unavailable as unavailable:
                    log.warning("no session is warned or deleted until %s answers", unavailable.part)
        finally:
            self.warned = None

    async def expire(self) -> None:
        """Look at every session once."""
        if not self._rule or self._queries.behind() is not None:
            return
        since, now = await self._store.note_round(self._gap, self._noted)
        self._noted = now
        if abs(now - datetime.now(UTC)) > _MOST_SKEW:
            log.error("no session is warned or deleted: the clocks of Redis and of this replica differ too much")
            return
        self._refill()
        warned: Counter[ExpiryReason] = Counter()
        cursor: str | None = None
        while True:
            page = await self._queries.page(cursor=cursor, limit=_PAGE)
            for session in page.sessions:
                if (reason := await self._look_at(session, since)) is not None:
                    warned[reason] += 1
            cursor = page.cursor
            if cursor is None:
                break
        self.warned = warned

    def _refill(self) -> None:
        """Let as many be deleted as the time since the last round allows, but save up no more than that of two."""
        now = time.monotonic()
        passed, self._counted = now - self._counted, now
        self._allowed = min(self._allowed + passed * self._per_second, self._most)

    async def _look_at(self, session: Session, since: datetime) -> ExpiryReason | None:
        """Returns why its user is warned, if so. A session with which something is wrong affects no other."""
        uuid = session.record.uuid
        try:
            reason = await self._continue(session, since)
        except SessionNotFound:
            self._later.pop(uuid, None)
            log.info("somebody else has deleted the session", extra={"uuid": uuid})
        except SessionInUse as used:
            log.info("the session is not deleted: %s", used, extra={"uuid": uuid})
        except SessionError as error:
            self._try_later(uuid)
            log.warning("the session is warned or deleted later: %s", error, extra={"uuid": uuid})
        except Exception:
            self._try_later(uuid)
            log.exception("the session cannot be warned or deleted; tried again later", extra={"uuid": uuid})
        else:
            return reason
        return None

    async def _continue(self, session: Session, since: datetime) -> ExpiryReason | None:
        record, now, expiry = session.record, datetime.now(UTC), session.expiry
        if not self._may_try(record.uuid):
            return expiry.reason if expiry and expiry.warning else None
        if expiry is None or now < expiry.warn_at:
            if record.deletion_warning is not None:
                await self._store.note_warning(record.uuid, None)
            return None
        if expiry.warning is None or not since - _MOST_SKEW <= expiry.warning.at <= now + _MOST_SKEW:
            await self._warn(session, expiry, now)
        elif now >= expiry.at and self._allowed >= 1:
            self._allowed -= 1
            await self._delete(record.uuid, expiry)
        self._later.pop(record.uuid, None)
        return expiry.reason

    async def _warn(self, session: Session, expiry: Expiry, now: datetime) -> None:
        record, warning = session.record, self._rule.warn(now, expiry)
        await self._store.note_warning(record.uuid, warning)
        self._journal.note(
            ExpiryAnnounced(uuid=record.uuid, user=hashed(record.user_id), why=warning.reason, due=warning.due)
        )

    async def _delete(self, uuid: SessionId, seen: Expiry) -> None:
        """Look again first: a page of sessions takes a while, and a cache that is behind may hide a wake."""
        session = await self._queries.status(uuid)
        expiry = session.expiry
        if expiry is None or expiry.warning is None or expiry.warning != seen.warning:
            raise SessionInUse
        if datetime.now(UTC) < expiry.at or self._queries.behind() is not None:
            raise SessionInUse
        by_age = expiry.reason is ExpiryReason.LIFETIME
        if by_age and session.awake:
            await self._activity.sleep(uuid, by="", request=f"deletion-{expiry.reason}")
        expired = Expired(expiry.warning, None if by_age else session.last_awake)
        await self._provisioner.delete(uuid, keep_data=True, wait=False, expired=expired)

    def _may_try(self, uuid: SessionId) -> bool:
        later = self._later.get(uuid)
        return later is None or later[1] <= time.monotonic()

    def _try_later(self, uuid: SessionId) -> None:
        backoff = self._later[uuid][0] if uuid in self._later else Backoff(self._interval, _LONGEST_BACKOFF)
        self._later[uuid] = (backoff, time.monotonic() + backoff.next())
