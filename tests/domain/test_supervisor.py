"""Tasks that must never end are restarted whatever ends them, and one that does not recover is reported."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from service.domain.supervisor import Supervisor
from tests.domain.conftest import World
from tests.waiting import until


async def forever() -> None:
    await asyncio.Event().wait()


class Odd:
    """Ends in the given ways, one after the other, and then works."""

    def __init__(self, *ends: Exception | type[BaseException] | None) -> None:
        self.ends = list(ends)
        self.runs = 0

    async def run(self) -> None:
        self.runs += 1
        if not self.ends:
            await forever()
        end = self.ends.pop(0)
        if end is not None:
            raise end


def quick(**more: Any) -> Supervisor:
    return Supervisor(first=0.001, longest=0.01, **more)


@pytest.mark.parametrize(
    ("end", "name"),
    [
        (ValueError("secret"), "ValueError"),
        (None, "it returned"),
        (asyncio.CancelledError, "CancelledError"),
        (ExceptionGroup("", [OSError("secret")]), "OSError"),
    ],
)
async def test_a_task_that_ends_is_restarted_however_it_ended(
    end: Exception | type[BaseException] | None, name: str
) -> None:
    supervisor, part = quick(), Odd(end, end)
    async with supervisor.running({"leader": part.run}):
        await until(lambda: part.runs == 3)
        failure = supervisor.failures()["leader"]
    assert failure is not None
    assert name in failure
    assert "secret" not in failure, "an exception's text may hold anything"
    assert supervisor.restarts == {"leader": 2}


async def test_a_task_that_keeps_failing_does_not_affect_the_others() -> None:
    supervisor, other = quick(), Odd()
    failing = Odd(*[RuntimeError()] * 10_000)
    async with supervisor.running({"bad": failing.run, "good": other.run}):
        await until(lambda: failing.runs > 5)
        assert other.runs == 1
        failures = supervisor.failures()
        assert failures["bad"]
        assert failures["good"] is None


async def test_a_task_that_runs_for_a_while_has_recovered_and_resets_its_pauses() -> None:
    now = 0.0
    part = Odd(RuntimeError(), RuntimeError())
    supervisor = quick(steady=10, clock=lambda: now)
    async with supervisor.running({"leader": part.run}):
        await until(lambda: part.runs == 3)
        now = 9.0
        assert supervisor.failures()["leader"]
        now = 11.0
        assert supervisor.failures() == {"leader": None}
        assert supervisor.dead() == []


async def test_a_task_that_fails_for_longer_than_the_limit_is_dead() -> None:
    now = 0.0
    part = Odd(RuntimeError())
    supervisor = Supervisor(limit=timedelta(seconds=60), first=1000, longest=1000, clock=lambda: now)
    async with supervisor.running({"leader": part.run, "progress": forever}):
        await until(lambda: supervisor.failures()["leader"] is not None)
        now = 59.0
        assert supervisor.dead() == []
        now = 61.0
        assert supervisor.dead() == ["leader"]
    assert supervisor.dead() == [], "whoever should not run cannot be dead"


async def test_a_task_that_is_cancelled_from_outside_is_dead_at_once() -> None:
    supervisor = quick()
    async with supervisor.running({"leader": forever}):
        next(task for task in asyncio.all_tasks() if task.get_name() == "leader").cancel()
        await until(lambda: supervisor.dead() == ["leader"])
        assert "restart of the process" in str(supervisor.failures()["leader"])


async def test_leaving_the_context_ends_tasks_that_swallow_a_cancellation() -> None:
    lost = 0

    def loses(times: int) -> Callable[[], Coroutine[Any, Any, None]]:
        async def run() -> None:
            nonlocal lost
            for _ in range(times):
                try:
                    await forever()
                except asyncio.CancelledError:
                    lost += 1

        return run

    async with asyncio.timeout(10):
        async with quick().running({"once and returns": loses(1)}):
            await asyncio.sleep(0)
    assert lost == 1


async def test_a_task_that_continues_after_a_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.domain.supervisor._CANCEL_TIMEOUT", 0.01)
    monkeypatch.setattr("service.domain.supervisor._CANCEL_AGAIN", (500, 0.01))
    lost = 0

    async def loses_two() -> None:
        nonlocal lost
        while lost < 2:
            try:
                await forever()
            except asyncio.CancelledError:
                lost += 1
        await forever()

    async with asyncio.timeout(5), quick().running({"stubborn": loses_two}):
        await asyncio.sleep(0)
    assert lost == 2


async def test_shutdown_does_not_wait_indefinitely_for_a_task_that_ignores_cancellation(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("service.domain.supervisor._CANCEL_TIMEOUT", 0.01)
    monkeypatch.setattr("service.domain.supervisor._CANCEL_AGAIN", (5, 0.01))
    released = asyncio.Event()

    async def deaf() -> None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    async with asyncio.timeout(5), quick().running({"deaf": deaf}):
        await asyncio.sleep(0)
    assert "does not end" in caplog.text
    task = next(task for task in asyncio.all_tasks() if task.get_name() == "deaf")
    released.set()
    await asyncio.gather(task, return_exceptions=True)


async def test_recovery_continues_after_an_unexpected_exception(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, index_complete = 0, world.store.index_complete

    async def odd() -> bool:
        nonlocal looks
        looks += 1
        if looks < 3:
            raise KeyError("metadata")
        return await index_complete()

    monkeypatch.setattr(world.store, "index_complete", odd)
    recovery = world.recovery()
    async with quick().running({"recovery": lambda: recovery.run_forever(0.001)}):
        await until(lambda: looks > 5)
