"""Who may enter a workspace by its host: a ticket, good once and soon, buys a pass that is good for one session.

A ticket travels in a URL, so it dies with its first use; a pass is the session cookie's value, made so that any replica
can check it without asking anybody. Both are sealed with a key that is not in Redis: Redis only knows which tickets are
not used yet, so whoever reads or writes it gets nobody in.

    ticket   <good until>.<session and nonce, in base64>.<key>.<seal>
    pass     <good until>.<since>.<key>.<seal>

Times are in seconds since 1970. `since` is when its bearer came in by a ticket: a pass is renewed while it is used, but
never beyond `limit` from then on.
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
"""Where a ticket is traded, on the workspace's own host."""
_KNOWN = 10_000
_NONCE = 16
"""Bytes of a ticket that make it the only one; with an id before them, no padding is needed."""
_SEALED = r"(?P<key>[0-9a-f]{8})\.(?P<seal>[A-Za-z0-9_-]{43})"
_TICKET = re.compile(rf"(?P<until>[0-9]{{1,11}})\.(?P<body>[A-Za-z0-9_-]{{32}})\.{_SEALED}")
_PASS = re.compile(rf"(?P<until>[0-9]{{1,11}})\.(?P<since>[0-9]{{1,11}})\.{_SEALED}")


@dataclass(frozen=True, slots=True)
class WorkspaceLink:
    url: str
    """Opens the workspace, once, for whoever has it."""
    until: datetime


@dataclass(frozen=True, slots=True)
class ValidCookie:
    """Its bearer may enter."""

    renewed: str | None = None
    """A pass to replace the present one with, which has lived for half of its time or more."""


class WorkspaceAccess:
    """`ticket` and `stay`: how long a ticket may lie about, and how long a pass is good for when nobody uses it.

    `limit`: how long after a ticket its bearer may come by renewed passes. `origin` gives scheme and host of a
    session's workspace, such as `https://vs-code-abc123xy.example.com`.

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
        keyring.withdrawn = self._forget
        self._origin = origin
        self._ticket = ticket
        self.stay = stay
        self.limit = limit
        self._now = now
        self._known: dict[tuple[str, SessionId], float] = {}
        """Passes found genuine, and until when nothing has to be done about them: a page brings a hundred requests."""

    def remark(self) -> str | None:
        """Why nobody can be let in, or not for long, for /health; None when nothing is wrong."""
        return self._keyring.remark()

    async def run(self) -> None:
        """Keep the keys current for ever, and remove what earlier versions kept in Redis."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keyring.run())
            group.create_task(self._drop_former_secret())

    async def _drop_former_secret(self) -> None:
        backoff = Backoff(1, 60)
        while True:
            try:
                return await self._tickets.drop_secret()
            except Unavailable:
                await asyncio.sleep(backoff.next())

    async def issue_link(self, uuid: SessionId, to: str = "/") -> WorkspaceLink:
        """A way in to the session's workspace, by a new ticket; `to` is a path there, with its query."""
        key = await self._keyring.newest()
        ends = self._now() + self._ticket.total_seconds()
        body = base64.urlsafe_b64encode(uuid.encode() + secrets.token_bytes(_NONCE)).decode()
        content = f"{int(ends)}.{body}.{key.id}"
        ticket = f"{content}.{_seal(key, 'ticket', content)}"
        await self._tickets.put(_digest(ticket), uuid, self._ticket)
        query = urlencode({"ticket": ticket, "to": to})
        return WorkspaceLink(f"{self._origin(uuid)}{ENTER}?{query}", datetime.fromtimestamp(ends, UTC))

    async def redeem(self, ticket: str, uuid: SessionId) -> str | None:
        """A pass for the session in exchange for its ticket; None when that is not (or no longer) good for it.

        A genuine ticket is used up by that, also where it is not good.
        """
        shape = _TICKET.fullmatch(ticket)
        if shape is None or not await self._is_genuine(shape, "ticket", ticket.rpartition(".")[0]):
            return None
        bearer = SessionId(base64.urlsafe_b64decode(shape["body"])[:-_NONCE].decode())
        if not await self._tickets.take(_digest(ticket), bearer):
            return None
        # A second longer, for the time in the ticket has none of the fractions that Redis counts.
        if bearer != uuid or int(shape["until"]) + 1 <= self._now():
            return None
        return self._pass(await self._keyring.newest(), uuid, int(self._now()))

    def knows(self, pass_: str, uuid: SessionId) -> bool:
        """Whether the pass was found genuine before, is still good, and is not due for renewal."""
        return self._known.get((pass_, uuid), 0) > self._now()

    async def check_cookie(self, pass_: str, uuid: SessionId) -> ValidCookie | None:
        """Whether the pass is genuine, for this session, and still good. Asks nobody unless its key is not known."""
        shape, now = _PASS.fullmatch(pass_), self._now()
        if shape is None or int(shape["until"]) <= now:
            return None
        if not await self._is_genuine(shape, "pass", f"{uuid}.{pass_.rpartition('.')[0]}"):
            return None
        until, since = int(shape["until"]), int(shape["since"])
        renewable = until - self.stay.total_seconds() / 2
        if until >= self._latest(since) or now < renewable:
            self._remember(pass_, uuid, until if until >= self._latest(since) else renewable)
            return ValidCookie()
        return ValidCookie(renewed=self._pass(await self._keyring.newest(), uuid, since))

    def seconds_left(self, pass_: str) -> int:
        """How long a pass of this access is good for."""
        return max(0, int(pass_.partition(".")[0]) - int(self._now()))

    def _latest(self, since: int) -> int:
        """When a pass must end whose bearer came in then."""
        return since + int(self.limit.total_seconds())

    def _pass(self, key: SigningKey, uuid: SessionId, since: int) -> str:
        until = min(int(self._now() + self.stay.total_seconds()), self._latest(since))
        content = f"{until}.{since}.{key.id}"
        return f"{content}.{_seal(key, 'pass', f'{uuid}.{content}')}"

    async def _is_genuine(self, shape: "re.Match[str]", kind: str, content: str) -> bool:
        key = await self._keyring.find(shape["key"])
        return key is not None and hmac.compare_digest(shape["seal"], _seal(key, kind, content))

    def _remember(self, pass_: str, uuid: SessionId, until: float) -> None:
        if len(self._known) >= _KNOWN:
            self._known.pop(next(iter(self._known)))
        self._known[pass_, uuid] = until

    def _forget(self) -> None:
        self._known.clear()


def _seal(key: SigningKey, kind: str, content: str) -> str:
    """`kind` keeps what was sealed as one thing from being taken for another."""
    mac = hmac.digest(key.secret, f"{kind}.{content}".encode(), "sha256")
    return base64.urlsafe_b64encode(mac).decode().rstrip("=")


def _digest(ticket: str) -> str:
    return hashlib.sha256(ticket.encode()).hexdigest()
