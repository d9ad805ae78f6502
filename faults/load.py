"""Simulated users of every kind, as many as two cores can handle, that call as a frontend would."""

import asyncio
import random
from collections.abc import Coroutine, Sequence
from contextlib import suppress

from faults.calls import Call, Operation
from faults.system import Replica, System

_WORKERS = 3
_REGULARS = 5
_BETWEEN = 1.5
"""Seconds between two creates of a kind: helm keeps a core busy for a fifth of a second with each."""
_RETRY = 0.5
"""Seconds after which a frontend repeats a refused call."""


class Load:
    """Runs until `stop`; calls in progress are finished, so that the effect of every call is known."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def prepare(self) -> None:
        """Create the sessions of long-standing users."""
        self._old = [self._system.user("worker") for _ in range(_WORKERS)]
        self._old += [self._system.user("regular") for _ in range(_REGULARS)]
        await self.made(self._old)

    def start(self) -> None:
        for user in self._old[:_WORKERS]:
            self._go(self._works(user))
        for user in self._old[_WORKERS:]:
            self._go(self._comes_and_goes(user))
        self._go(self._newcomers())
        self._go(self._leavers())
        self._go(self._readers())

    async def stop(self) -> None:
        self._stopping.set()
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def finish(self, seconds: float) -> None:
        """Repeat every create that was never answered, as its user would. The traces of a crash must not prevent it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(self._finish(user) for user in self._unanswered()))
        for user in self._unanswered():
            self._system.ledger.lost.append(f"{user}: no create was answered after the fault")

    def _unanswered(self) -> list[str]:
        return [a.user for a in self._system.ledger.accounts.values() if not a.uuid]

    async def _finish(self, user: str) -> None:
        while not (await self._call(Operation.CREATE, user)).accepted:  # noqa: ASYNC110 - it is asked again each time
            await asyncio.sleep(_RETRY)

    async def made(self, users: Sequence[str]) -> None:
        """Create a session for each of these users; afterwards only readers call them."""
        await asyncio.gather(*(self._created(user) for user in users))

    def burst(self, count: int) -> None:
        """Concurrent new users, each of whom retries until they have their session."""
        for _ in range(count):
            self._go(self._arrives())

    # --- the users ---

    async def _works(self, user: str) -> None:
        """A user who is always active, by messages or by what their page reports."""
        heartbeat = Operation.WAKE
        while not self._stopping.is_set():
            call = await self._call(heartbeat, user)
            heartbeat = random.choice((Operation.WAKE, Operation.ACTIVITY)) if call.accepted else Operation.WAKE  # noqa: S311
            await self._pause(0.8)

    async def _comes_and_goes(self, user: str) -> None:
        """A user who waits for their pod, uses it briefly, and lets it fall asleep or ends it."""
        while not self._stopping.is_set():
            await self._pause(random.random())  # noqa: S311
            if not (await self._until_accepted(Operation.WAKE, user)):
                return
            account = self._system.ledger.account(user)
            while not self._stopping.is_set() and not self._is_up(account.uuid):
                await self._call(Operation.STATUS, user)
                await self._pause(0.4)
            if random.random() < 0.5:  # noqa: S311
                await self._until_accepted(Operation.SLEEP, user)
            else:
                await self._pause(random.uniform(3, 12))  # noqa: S311

    def _is_up(self, uuid: str) -> bool:
        seen = self._system.ledger.now(uuid)
        return seen is not None and seen.ready > 0

    async def _newcomers(self) -> None:
        while not self._stopping.is_set():
            await self._arrives()
            await self._pause(_BETWEEN)

    async def _arrives(self) -> None:
        """A user whose two tabs create at the same time, and who then opens the workspace."""
        user, replicas = self._system.user("newcomer"), self._system.replicas
        living = [replica for replica in replicas if replica.ready] or replicas
        await asyncio.gather(*(self._call(Operation.CREATE, user, at=replica) for replica in living))
        if self._system.ledger.account(user).uuid or await self._until_accepted(Operation.CREATE, user):
            await self._until_accepted(Operation.WAKE, user)

    async def _leavers(self) -> None:
        """A user whose session is soon deleted. A failed delete is not repeated: the service must finish it."""
        while not self._stopping.is_set():
            user = self._system.user("leaver")
            if await self._created(user):
                if random.random() < 0.5:  # noqa: S311
                    await self._call(Operation.WAKE, user)
                await self._call(Operation.DELETE, user)
            await self._pause(_BETWEEN)

    async def _readers(self) -> None:
        while not self._stopping.is_set():
            if sessions := self._system.ledger.sessions:
                user = random.choice(sessions).user  # noqa: S311
                operation = random.choice((Operation.STATUS, Operation.STATUS, Operation.LIST))  # noqa: S311
                await self._call(operation, user)
            await self._pause(0.25)

    # --- how they call ---

    async def _created(self, user: str) -> bool:
        return await self._until_accepted(Operation.CREATE, user)

    async def _until_accepted(self, operation: Operation, user: str) -> bool:
        while not (await self._call(operation, user)).accepted:
            if self._stopping.is_set():
                return False
            await self._pause(_RETRY)
        return True

    async def _call(self, operation: Operation, user: str, *, at: Replica | None = None) -> Call:
        return await self._system.call(operation, user, at=at)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def _go(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
