"""Who may enter a workspace by its host: a ticket, good once and soon, buys a pass that is good for one session.

A ticket travels in a URL, so it dies with its first use; a pass is a cookie's value, made so that any replica can check
it without asking anybody. Neither can be made by somebody who only reads Redis' dump: of tickets it has the digests.
"""

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from service.domain.names import SessionId
from service.domain.ports import Tickets

ENTER = "/.user-pods/enter"
"""Where a ticket is traded, on the workspace's own host."""
_KNOWN = 10_000
_LOOK_AGAIN = 1.0
"""Seconds between two looks at the shared secret, when passes are not genuine by the one that is known."""


@dataclass(frozen=True, slots=True)
class Invitation:
    url: str
    """Opens the workspace, once, for whoever has it."""
    until: datetime


class Entrance:
    """`ticket` and `stay`: how long a ticket may lie about, and how long a pass is good for.

    `origin` gives scheme and host of a session's workspace, such as `https://vs-code-abc123xy.example.com`.
    """

    def __init__(
        self,
        tickets: Tickets,
        *,
        origin: Callable[[SessionId], str],
        ticket: timedelta = timedelta(seconds=60),
        stay: timedelta = timedelta(hours=12),
        now: Callable[[], float] = time.time,
    ) -> None:
        self._tickets = tickets
        self._origin = origin
        self._ticket = ticket
        self.stay = stay
        self._now = now
        self._secret = secrets.token_bytes(32)
        """Of this replica alone, until it has looked whether there is one that all share."""
        self._looked = float("-inf")
        self._known: dict[tuple[str, SessionId], None] = {}
        """Passes found genuine: a page brings a hundred requests with the same one."""

    async def invite(self, uuid: SessionId, to: str = "/") -> Invitation:
        """A way in to the session's workspace, by a new ticket; `to` is a path there, with its query."""
        ticket = secrets.token_urlsafe(24)
        await self._tickets.put(_digest(ticket), uuid, self._ticket)
        query = urlencode({"ticket": ticket, "to": to})
        until = datetime.fromtimestamp(self._now(), UTC) + self._ticket
        return Invitation(f"{self._origin(uuid)}{ENTER}?{query}", until)

    async def redeem(self, ticket: str, uuid: SessionId) -> str | None:
        """A pass for the session in exchange for its ticket; None when that is not (or no longer) good for it."""
        if await self._tickets.take(_digest(ticket)) != uuid:
            return None
        await self._look()
        until = str(int(self._now() + self.stay.total_seconds()))
        return f"{until}.{self._seal(uuid, until)}"

    def knows(self, pass_: str, uuid: SessionId) -> bool:
        """Whether the pass was found genuine before, and is still good."""
        return (pass_, uuid) in self._known and int(pass_.partition(".")[0]) > self._now()

    async def admits(self, pass_: str, uuid: SessionId) -> bool:
        """Whether the pass is genuine, for this session, and still good. Asks nobody unless it looks false."""
        until, _, seal = pass_.partition(".")
        if not (until.isdecimal() and until.isascii() and len(until) < 12 and int(until) > self._now()):
            return False
        if self._genuine(seal, uuid, until):
            self._remember(pass_, uuid)
            return True
        if self._now() - self._looked < _LOOK_AGAIN:
            return False
        await self._look()
        return self._genuine(seal, uuid, until)

    def _remember(self, pass_: str, uuid: SessionId) -> None:
        if len(self._known) >= _KNOWN:
            self._known.pop(next(iter(self._known)))
        self._known[pass_, uuid] = None

    async def _look(self) -> None:
        self._looked = self._now()
        self._secret = await self._tickets.secret(self._secret)

    def _genuine(self, seal: str, uuid: SessionId, until: str) -> bool:
        return hmac.compare_digest(seal.encode(), self._seal(uuid, until).encode())

    def _seal(self, uuid: SessionId, until: str) -> str:
        mac = hmac.digest(self._secret, f"{uuid}.{until}".encode(), "sha256")
        return base64.urlsafe_b64encode(mac).decode().rstrip("=")


def _digest(ticket: str) -> str:
    return hashlib.sha256(ticket.encode("utf-8", "surrogateescape")).hexdigest()
