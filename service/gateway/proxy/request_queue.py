"""Requests of one session at the same time: so many are under way, the next ones wait in line, more are refused.

A page may ask for hundreds of modules at once. They are served in the order in which they came. What takes long (a
download, a stream of events, a held request) steps aside when others wait, so that it holds up none of them.
"""

import asyncio
import contextlib
import time
from collections import deque

from service.domain.names import SessionId

_LONG = 5.0
"""Seconds after which a request that is under way steps aside for those in line."""


class LineFull(Exception):
    """There is no room in the line, or it did not move in time."""


class Turn:
    """One request that is under way, since `begun` (seconds of time.monotonic)."""

    __slots__ = ("begun",)

    def __init__(self, begun: float) -> None:
        self.begun = begun


class _Line:
    """The requests of one session."""

    __slots__ = ("aside", "timer", "under_way", "waiting")

    def __init__(self) -> None:
        self.under_way: dict[Turn, None] = {}
        """In the order in which they began."""
        self.aside: set[Turn] = set()
        """Under way for long; they take no room from others."""
        self.waiting: deque[asyncio.Future[Turn]] = deque()
        self.timer: asyncio.TimerHandle | None = None


class Lines:
    """The lines of all sessions. In each `limit` requests are under way, as many again aside, and `room` wait."""

    def __init__(self, *, limit: int, room: int, patience: float) -> None:
        """`patience`: seconds that a request waits at most."""
        self._limit = limit
        self._room = room
        self._patience = patience
        self._lines: dict[SessionId, _Line] = {}

    @property
    def waiting(self) -> int:
        """How many wait, of all sessions."""
        return sum(len(line.waiting) for line in self._lines.values())

    @property
    def is_empty(self) -> bool:
        return not self._lines

    def enter(self, uuid: SessionId) -> Turn | None:
        """Begin at once; None when the request has to wait. Every turn must be given back by `leave`."""
        line = self._lines.get(uuid)
        if line is None:
            line = self._lines[uuid] = _Line()
        elif line.waiting or len(line.under_way) >= self._limit:
            return None
        turn = Turn(time.monotonic())
        line.under_way[turn] = None
        return turn

    async def wait(self, uuid: SessionId) -> Turn:
        """Wait in line, after `enter` has given no turn. Raises LineFull."""
        line = self._lines[uuid]
        if len(line.waiting) >= self._room:
            raise LineFull
        mine: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
        line.waiting.append(mine)
        self._admit(uuid, line)
        try:
            async with asyncio.timeout(self._patience):
                return await mine
        except BaseException as error:
            if not mine.cancelled():
                self.leave(uuid, mine.result())  # its turn came just when it went away
            else:
                with contextlib.suppress(ValueError):  # it may have been passed over already
                    line.waiting.remove(mine)
                self._forget_if_empty(uuid, line)
            if isinstance(error, TimeoutError):
                raise LineFull from None
            raise

    def leave(self, uuid: SessionId, turn: Turn) -> None:
        line = self._lines[uuid]
        if turn in line.under_way:
            del line.under_way[turn]
        else:
            line.aside.discard(turn)
        if line.waiting:
            self._admit(uuid, line)
        else:
            self._forget_if_empty(uuid, line)

    def _admit(self, uuid: SessionId, line: _Line) -> None:
        """Let in whoever has room now, and come back when somebody may step aside."""
        now = time.monotonic()
        self._make_room(line, now)
        while line.waiting and len(line.under_way) < self._limit:
            mine = line.waiting.popleft()
            if mine.cancelled():
                continue  # its client has gone away, and `wait` has not run since
            turn = Turn(now)
            line.under_way[turn] = None
            mine.set_result(turn)
        if line.waiting and line.timer is None and len(line.aside) < self._limit:
            after = max(0.0, next(iter(line.under_way)).begun + _LONG - now)
            line.timer = asyncio.get_running_loop().call_later(after, self._look_again, uuid, line)

    def _make_room(self, line: _Line, now: float) -> None:
        for turn in list(line.under_way):
            is_wanted = len(line.under_way) - self._limit + len(line.waiting) > 0 and len(line.aside) < self._limit
            if not is_wanted or now - turn.begun < _LONG:
                break
            del line.under_way[turn]
            line.aside.add(turn)

    def _look_again(self, uuid: SessionId, line: _Line) -> None:
        line.timer = None
        if line.waiting:
            self._admit(uuid, line)

    def _forget_if_empty(self, uuid: SessionId, line: _Line) -> None:
        if line.under_way or line.aside or line.waiting or self._lines.get(uuid) is not line:
            return
        if line.timer is not None:
            line.timer.cancel()
        del self._lines[uuid]
