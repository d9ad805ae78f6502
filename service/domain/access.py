"""Who may enter a workspace: a ticket, valid once and briefly, is exchanged for a cookie that is valid for one session.

A ticket travels in a URL, so it works only once. Any replica can check a session cookie without a lookup. Both are
sealed with a key that is not in Redis. Redis only knows which tickets are unused, so access to Redis is not enough to
enter.

    ticket   <valid until>.<session and nonce, in base64>.<key>.<seal>
    cookie   <valid until>.<since>.<key>.<seal>

Times are in seconds since 1970. `since` is when the ticket was used: a cookie is renewed while it is in use, but never
beyond `limit` from then on.
"""

import asyncio
import base64
import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from service.domain.backoff import Backoff
from service.domain.errors import Unavailable
from service.domain.keyring import Keyring
from service.domain.names import SessionId
from service.domain.ports import Tickets
from service.domain.signing_key import SigningKey

log = logging.getLogger(__name__)

ENTER = "/.user-pods/enter"
"""The path that exchanges a ticket for a session cookie, on the workspace's own host."""
_REMEMBERED = 10_000
"""Cookies whose check is remembered."""
_NONCE = 16
"""Random bytes of a ticket; after an id of 8 bytes, base64 needs no padding."""
_NEVER: tuple[float, SigningKey | None] = (0, None)
_SEALED = r"(?P<key>[0-9a-f]{8})\.(?P<seal>[A-Za-z0-9_-]{43})"
_TICKET = re.compile(rf"(?P<until>[0-9]{{1,11}})\.(?P<body>[A-Za-z0-9_-]{{32}})\.{_SEALED}")
_COOKIE = re.compile(rf"(?P<until>[0-9]{{1,11}})\.(?P<since>[0-9]{{1,11}})\.{_SEALED}")


@dataclass(frozen=True, slots=True)
class WorkspaceLink:
    url: str
    """Opens the workspace once, for anybody who has it."""
    until: datetime


@dataclass(frozen=True, slots=True)
class ValidCookie:
    """Its bearer may enter the workspace."""

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
        *,
        origin: Callable[[SessionId], str],
        ticket: timedelta = timedelta(seconds=60),
        stay: timedelta = timedelta(hours=12),
        limit: timedelta = timedelta(days=7),
        now: Callable[[], float] = time.time,
    ) -> None:
        self._tickets = tickets
        self._keyring = keyring
        self._origin = origin
        self._ticket = ticket
        self.stay = stay
        self.limit = limit
        self._now = now
        self._checked: dict[tuple[str, SessionId], tuple[float, SigningKey]] = {}
        """Verified cookies: until when they need no check, and their key. A page sends the same one a hundred times."""

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

    async def issue_link(self, uuid: SessionId, to: str = "/") -> WorkspaceLink:
        """A link that opens the session's workspace once; `to` is a path there, with its query."""
        key = await self._keyring.newest()
        ends = self._now() + self._ticket.total_seconds()
        body = base64.urlsafe_b64encode(uuid.encode() + secrets.token_bytes(_NONCE)).decode()
        content = f"{int(ends)}.{body}.{key.id}"
        ticket = f"{content}.{_seal(key, 'ticket', content)}"
        await self._tickets.put(_digest(ticket), uuid, self._ticket)
        query = urlencode({"ticket": ticket, "to": to})
        return WorkspaceLink(f"{self._origin(uuid)}{ENTER}?{query}", datetime.fromtimestamp(ends, UTC))

    async def redeem(self, ticket: str, uuid: SessionId) -> str | None:
        """Exchange a ticket for a session cookie; None when the ticket is not valid for the session, or no longer.

        A genuine ticket is used up in any case.
        """
        shape = _TICKET.fullmatch(ticket)
        if shape is None or await self._verify(shape, "ticket", ticket.rpartition(".")[0]) is None:
            return None
        bearer = SessionId(base64.urlsafe_b64decode(shape["body"])[:-_NONCE].decode())
        if not await self._tickets.take(_digest(ticket), bearer):
            return None
        # One second longer: the ticket has whole seconds, and Redis counts fractions.
        if bearer != uuid or int(shape["until"]) + 1 <= self._now():
            return None
        return self._make_cookie(await self._keyring.newest(), uuid, int(self._now()))

    def is_known(self, cookie: str, uuid: SessionId) -> bool:
        """Whether the cookie has been checked before, is still valid, and is not due for renewal."""
        until, key = self._checked.get((cookie, uuid), _NEVER)
        return until > self._now() and key is not None and self._keyring.has(key)

    async def check_cookie(self, cookie: str, uuid: SessionId) -> ValidCookie | None:
        """None unless the cookie is genuine, for this session, and still valid.

        Needs no lookup unless its key is unknown.
        """
        shape, now = _COOKIE.fullmatch(cookie), self._now()
        if shape is None or int(shape["until"]) <= now:
            return None
        key = await self._verify(shape, "pass", f"{uuid}.{cookie.rpartition('.')[0]}")
        if key is None:
            return None
        until, since = int(shape["until"]), int(shape["since"])
        renewable = until - self.stay.total_seconds() / 2
        if until >= self._latest(since) or now < renewable:
            self._remember(cookie, uuid, until if until >= self._latest(since) else renewable, key)
            return ValidCookie()
        return ValidCookie(renewed=self._make_cookie(await self._keyring.newest(), uuid, since))

    def seconds_left(self, cookie: str) -> int:
        """How long a genuine cookie is valid, unless it is renewed."""
        return max(0, int(cookie.partition(".")[0]) - int(self._now()))

    def _latest(self, since: int) -> int:
        """When a cookie must expire if its ticket was used at `since`."""
        return since + int(self.limit.total_seconds())

    def _make_cookie(self, key: SigningKey, uuid: SessionId, since: int) -> str:
        until = min(int(self._now() + self.stay.total_seconds()), self._latest(since))
        content = f"{until}.{since}.{key.id}"
        return f"{content}.{_seal(key, 'pass', f'{uuid}.{content}')}"

    async def _verify(self, shape: "re.Match[str]", kind: str, content: str) -> SigningKey | None:
        """The key that sealed it; None when the seal is not genuine."""
        key = await self._keyring.find(shape["key"])
        return key if key and hmac.compare_digest(shape["seal"], _seal(key, kind, content)) else None

    def _remember(self, cookie: str, uuid: SessionId, until: float, key: SigningKey) -> None:
        if len(self._checked) >= _REMEMBERED:
            self._checked.pop(next(iter(self._checked)))
        self._checked[cookie, uuid] = (until, key)


def _seal(key: SigningKey, kind: str, content: str) -> str:
    """`kind`, "ticket" or "pass" (a session cookie), keeps one from being accepted as the other."""
    mac = hmac.digest(key.secret, f"{kind}.{content}".encode(), "sha256")
    return base64.urlsafe_b64encode(mac).decode().rstrip("=")


def _digest(ticket: str) -> str:
    return hashlib.sha256(ticket.encode()).hexdigest()
