"""Who may enter a workspace: a ticket, valid once and briefly, is exchanged for a cookie that is valid for one session.

A ticket travels in a URL, so it works only once. Any replica can check a session cookie without a lookup. Both are
sealed with a key that is not in Redis. Redis only knows which tickets are unused, so access to Redis is not enough to
enter.

    ticket   <valid until>.<session, since and nonce, in base64>.<key>.<seal>
    cookie   <valid until>.<since>.<key>.<seal>

Times are in seconds since 1970. `since` is when the ticket was issued: a cookie is renewed while it is in use, but
never beyond `limit` from then on. Tickets and cookies from before `Workload.earliest_sign_in` are refused; the workload
cache knows that time, so it costs no lookup either.
"""

import asyncio
import base64
import hashlib
import logging
import math
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from service.domain.backoff import Backoff
from service.domain.errors import ClusterUnavailable, Unavailable
from service.domain.keyring import Keyring
from service.domain.names import SessionId
from service.domain.ports import Tickets, WorkloadCache
from service.domain.signing_key import SEALED, SigningKey

log = logging.getLogger(__name__)

ENTER = "/.user-pods/enter"
"""The path that exchanges a ticket for a session cookie, on the workspace's own host."""
_REMEMBERED = 10_000
"""Cookies whose check is remembered."""
_SINCE = 4
_NONCE = 18
"""Random bytes of a ticket; after an id of 8 bytes and a time of 4, base64 needs no padding."""
_NEVER: tuple[float, int, SigningKey | None] = (0, 0, None)
MOST_SKEW = 300
"""Seconds by which the API server's clock, or another replica's, may be ahead of this one's."""
_TICKET = re.compile(rf"(?P<until>[0-9]{{1,11}})\.(?P<body>[A-Za-z0-9_-]{{40}})\.{SEALED}")
_COOKIE = re.compile(rf"(?P<until>[0-9]{{1,11}})\.(?P<since>[0-9]{{1,11}})\.{SEALED}")


@dataclass(frozen=True, slots=True)
class WorkspaceLink:
    url: str
    """Opens the workspace once, for anybody who has it."""
    until: datetime


@dataclass(frozen=True, slots=True)
class ValidCookie:
    """Its bearer may enter the workspace. `since` is when they signed in, in seconds since 1970."""

    since: int
    renewed: str | None = None
    """The cookie that replaces this one, half of whose life is over."""


class WorkspaceAccess:
    """Issues links with tickets, exchanges tickets for session cookies, and checks and renews those.

    `ticket`: how long a ticket is valid. `stay`: how long a cookie is valid without use. `limit`: how long after its
    ticket a cookie can be renewed. `origin` returns scheme and host of a session's workspace, such as
    `https://vs-code-abc123xy.example.com`.

    Every coroutine may raise SigningKeysUnavailable.
    """

    def __init__(
        self,
        tickets: Tickets,
        keyring: Keyring,
        cache: WorkloadCache,
        *,
        origin: Callable[[SessionId], str],
        ticket: timedelta = timedelta(seconds=60),
        stay: timedelta = timedelta(hours=12),
        limit: timedelta = timedelta(days=7),
        now: Callable[[], float] = time.time,
    ) -> None:
        self._tickets = tickets
        self._keyring = keyring
        self._cache = cache
        self._origin = origin
        self._ticket = ticket
        self.stay = stay
        self.limit = limit
        self._now = now
        self._checked: dict[tuple[str, SessionId], tuple[float, int, SigningKey]] = {}
        """Verified cookies: until when they need no check, since when their bearers are signed in, and their key.

        A page sends the same one a hundred times.
        """

    def origin(self, uuid: SessionId) -> str:
        """Scheme and host of the session's workspace."""
        return self._origin(uuid)

    @property
    def keyring(self) -> Keyring:
        """The keys that seal, which `run` keeps up to date."""
        return self._keyring

    def remark(self) -> str | None:
        """For /health: why sign-ins fail, or soon will; None when nothing is wrong."""
        return self._keyring.remark()

    async def run(self) -> None:
        """Keep the keys up to date until cancelled, and remove what earlier versions kept in Redis."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keyring.run(), name="signing keys")
            group.create_task(self._drop_former_secret(), name="former secret")

    async def _drop_former_secret(self) -> None:
        backoff = Backoff(1, 60)
        while True:
            try:
                return await self._tickets.drop_secret()
            except Unavailable:
                await asyncio.sleep(backoff.next())

    async def issue_link(self, uuid: SessionId, to: str = "/", *, since: int | None = None) -> WorkspaceLink:
        """A link that opens the session's workspace once; `to` is a path there, with its query.

        `since` is when its user signed in, in seconds since 1970; None for now. A revocation after it voids the link.
        """
        key = await self._keyring.newest()
        issued = self._sign_in_time(uuid)
        ends = issued + self._ticket_seconds
        signed_in = issued if since is None else since
        secret = secrets.token_bytes(_NONCE)
        body = base64.urlsafe_b64encode(uuid.encode() + signed_in.to_bytes(_SINCE, "big") + secret).decode()
        content = f"{ends}.{body}.{key.id}"
        ticket = f"{content}.{key.seal('ticket', content)}"
        await self._tickets.put(_digest(ticket), uuid, self._ticket)
        query = urlencode({"ticket": ticket, "to": to})
        return WorkspaceLink(f"{self._origin(uuid)}{ENTER}?{query}", datetime.fromtimestamp(ends, UTC))

    async def redeem(self, ticket: str, uuid: SessionId) -> str | None:
        """Exchange a ticket for a session cookie; None when the ticket is not valid for the session, or no longer.

        A genuine ticket is used up in any case. Raises as `check_knows_revocations`.
        """
        self.check_knows_revocations()
        shape = _TICKET.fullmatch(ticket)
        if shape is None or await self._keyring.verified(shape, "ticket", ticket.rpartition(".")[0]) is None:
            return None
        body = base64.urlsafe_b64decode(shape["body"])[:-_NONCE]
        bearer = SessionId(body[:-_SINCE].decode())
        if not await self._tickets.take(_digest(ticket), bearer):
            return None
        since = min(int.from_bytes(body[-_SINCE:], "big"), self._sign_in_time(uuid))
        # One second longer: the ticket has whole seconds, and Redis counts fractions.
        if bearer != uuid or int(shape["until"]) + 1 <= self._now() or since < self.earliest_sign_in(uuid):
            return None
        return self._make_cookie(await self._keyring.newest(), uuid, since)

    def check_knows_revocations(self) -> None:
        """Raise ClusterUnavailable while the cache is still being filled, and so lacks revocations."""
        if not self._cache.has_synced:
            raise ClusterUnavailable("the sessions are still being read from Kubernetes; try again in a moment")

    def earliest_sign_in(self, uuid: SessionId) -> int:
        """Tickets and cookies from before this time, in seconds since 1970, are refused."""
        return self._cache.workload(uuid).earliest_sign_in

    def known_since(self, cookie: str, uuid: SessionId) -> int | None:
        """When the cookie's bearer signed in, in seconds since 1970.

        None unless the cookie has been checked before, is still valid, and is not due for renewal.
        """
        until, since, key = self._checked.get((cookie, uuid), _NEVER)
        if until <= self._now() or key is None or not self._keyring.has(key) or since < self.earliest_sign_in(uuid):
            return None
        return since

    async def check_cookie(self, cookie: str, uuid: SessionId) -> ValidCookie | None:
        """None unless the cookie is genuine, for this session, and still valid.

        Needs no lookup unless its key is unknown. Raises as `check_knows_revocations`.
        """
        self.check_knows_revocations()
        shape, now = _COOKIE.fullmatch(cookie), self._now()
        if shape is None or int(shape["until"]) <= now:
            return None
        key = await self._keyring.verified(shape, "pass", f"{uuid}.{cookie.rpartition('.')[0]}")
        if key is None or int(shape["since"]) < self.earliest_sign_in(uuid):
            return None
        until, since = int(shape["until"]), int(shape["since"])
        renewable = until - self.stay.total_seconds() / 2
        if until >= self._latest(since) or now < renewable:
            known_until = until if until >= self._latest(since) else renewable
            self._remember(cookie, uuid, (known_until, since, key))
            return ValidCookie(since)
        return ValidCookie(since, renewed=self._make_cookie(await self._keyring.newest(), uuid, since))

    def seconds_left(self, cookie: str) -> int:
        """How long a genuine cookie is valid, unless it is renewed."""
        return max(0, int(cookie.partition(".")[0]) - int(self._now()))

    @property
    def _ticket_seconds(self) -> int:
        return math.ceil(self._ticket.total_seconds())

    def _sign_in_time(self, uuid: SessionId) -> int:
        """The present time for a new ticket.

        Just after a revocation, or a create, it is the earliest time that is accepted: the second may be the same, and
        the clock that it was read from may be ahead.
        """
        now, earliest = int(self._now()), self.earliest_sign_in(uuid)
        return earliest if now < earliest <= now + MOST_SKEW else now

    def _latest(self, since: int) -> int:
        """When a cookie must expire if its ticket was used at `since`."""
        return since + int(self.limit.total_seconds())

    def _make_cookie(self, key: SigningKey, uuid: SessionId, since: int) -> str:
        until = min(int(self._now() + self.stay.total_seconds()), self._latest(since))
        content = f"{until}.{since}.{key.id}"
        return f"{content}.{key.seal('pass', f'{uuid}.{content}')}"

    def _remember(self, cookie: str, uuid: SessionId, checked: tuple[float, int, SigningKey]) -> None:
        if len(self._checked) >= _REMEMBERED:
            self._checked.pop(next(iter(self._checked)))
        self._checked[cookie, uuid] = checked


def _digest(ticket: str) -> str:
    return hashlib.sha256(ticket.encode()).hexdigest()
