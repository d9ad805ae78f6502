"""The work queue loses no item, returns none to two workers, and lets no failure delay another item."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.controller.work_queue import WorkQueue
from tests.waiting import until


def make(*, batch: int = 1, low_batch: int | None = None, first: float = 0.01, longest: float = 0.1) -> WorkQueue[str]:
    return WorkQueue(batch=batch, low_batch=low_batch, first=first, longest=longest)


async def empty(queue: WorkQueue[str]) -> bool:
    """Whether nothing is handed out now."""
    getting = asyncio.ensure_future(queue.get())
    for _ in range(3):
        await asyncio.sleep(0)
    got = getting.done()
    getting.cancel()
    await asyncio.gather(getting, return_exceptions=True)
    return not got


async def test_an_item_that_is_added_many_times_is_returned_once() -> None:
    queue = make(batch=10)
    for _ in range(1000):
        queue.add("a")
        queue.add("a", low=True)
    queue.add("b")
    assert await queue.get() == ["a", "b"]
    assert await empty(queue)


async def test_an_item_in_progress_is_returned_again_only_when_it_is_done() -> None:
    queue = make()
    queue.add("a")
    await queue.get()
    queue.add("a")
    queue.add("a")
    assert await empty(queue)
    queue.done("a")
    assert await queue.get() == ["a"]
    queue.done("a")
    assert await empty(queue), "two additions make one piece of work"


async def test_high_priority_goes_first_and_raises_what_is_queued_low() -> None:
    queue = make(batch=2, low_batch=1)
    for item in "abc":
        queue.add(item, low=True)
    queue.add("c")
    queue.add("d")
    assert [await queue.get() for _ in range(3)] == [["c", "d"], ["a"], ["b"]]


async def test_adding_an_item_with_low_priority_does_not_lower_it() -> None:
    queue = make()
    queue.add("a", low=True)
    await queue.get()
    queue.add("a")
    queue.add("a", low=True)
    queue.add("b", low=True)
    queue.done("a")
    assert await queue.get() == ["a"]


async def test_a_failed_item_comes_back_after_a_pause_that_grows_and_is_bounded() -> None:
    queue = make(first=0.001, longest=0.004)
    pauses = []
    for _ in range(2000):  # a power of two with that exponent is no number any more
        queue.add("a")
        await queue.get()
        pauses.append(queue.add_rate_limited("a"))
        queue.done("a")
    assert pauses[0] <= 0.001
    assert max(pauses) <= 0.004
    assert min(pauses[5:]) >= 0.002
    assert queue.failures("a") == queue.retries == 2000
    assert await asyncio.wait_for(queue.get(), 5) == ["a"]
    queue.forget("a")
    assert queue.failures("a") == 0
    assert queue.add_rate_limited("a") <= 0.001


async def test_an_item_that_always_fails_delays_no_other() -> None:
    queue, served = make(first=5, longest=50), []
    queue.add("bad")
    for number in range(100):
        queue.add(f"{number}")

    async def work() -> None:
        while True:
            (item,) = await queue.get()
            if item == "bad":
                queue.add_rate_limited(item)
            else:
                served.append(item)
            queue.done(item)

    worker = asyncio.create_task(work())
    await until(lambda: len(served) == 100)
    worker.cancel()
    assert queue.failures("bad") == 1


async def test_what_is_added_while_it_waits_for_a_retry_waits_no_longer() -> None:
    queue = make()
    queue.add_after("a", 60)
    queue.add("a")
    assert await queue.get() == ["a"]
    queue.done("a")
    assert not queue._timers


async def test_the_shorter_of_two_delays_counts() -> None:
    queue = make()
    queue.add_after("a", 60)
    queue.add_after("a", 0.001)
    queue.add_after("a", 60)
    assert await asyncio.wait_for(queue.get(), 5) == ["a"]
    assert not queue._timers


async def test_items_that_are_put_back_come_next_in_their_old_order_and_priority() -> None:
    queue = make(batch=2)
    for item in "abc":
        queue.add(item)
    queue.add("z", low=True)
    queue.put_back(await queue.get())
    assert [await queue.get() for _ in range(3)] == [["a", "b"], ["c"], ["z"]]
    queue.put_back(["z"])
    queue.add("d")
    assert [await queue.get() for _ in range(2)] == [["d"], ["z"]]


async def test_items_of_workers_that_ended_are_returned_to_the_next() -> None:
    queue = make(batch=3, first=60, longest=60)
    for item in "abc":
        queue.add(item)
    await queue.get()
    queue.add("b")
    queue.add_rate_limited("c")
    queue.done("c")
    queue.release()
    assert sorted(await queue.get()) == ["a", "b", "c"]


@asynccontextmanager
async def workers(queue: WorkQueue[str], number: int) -> AsyncIterator[dict[str, int]]:
    """Work on everything at once, and count."""
    seen: dict[str, int] = {}
    busy: set[str] = set()

    async def work() -> None:
        while True:
            for item in await queue.get():
                assert item not in busy
                busy.add(item)
                await asyncio.sleep(0)
                seen[item] = seen.get(item, 0) + 1
                busy.discard(item)
                queue.done(item)

    tasks = [asyncio.create_task(work()) for _ in range(number)]
    try:
        yield seen
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_failed_item_of_low_priority_is_retried_with_high_priority_even_if_its_worker_ended() -> None:
    queue = make(first=1e6, longest=1e6)
    queue.add("a", low=True)
    queue.add("b", low=True)
    await queue.get()
    queue.add_rate_limited("a")
    queue.release()
    queue.add("c")
    assert [await queue.get() for _ in range(3)] == [["a"], ["c"], ["b"]]


async def test_many_workers_handle_each_item_once() -> None:
    queue = make()
    async with workers(queue, 8) as seen:
        for number in range(500):
            queue.add(f"{number}")
        await until(lambda: len(seen) == 500)
        assert set(seen.values()) == {1}


@pytest.mark.parametrize("ready", [True, False])
async def test_a_worker_that_is_cancelled_while_it_waits_takes_no_item(ready: bool) -> None:
    queue = make()
    first, second = asyncio.ensure_future(queue.get()), asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    if ready:
        queue.add("a")  # which wakes the first
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    queue.add("a")
    assert await asyncio.wait_for(second, 5) == ["a"]


class Model(RuleBasedStateMachine):
    """Any order of calls, held against sets: what must be handed out, and what is in progress."""

    items = st.sampled_from("abcdef")

    @initialize(batch=st.integers(1, 3), low_batch=st.integers(1, 3))
    def begin(self, batch: int, low_batch: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.queue = make(batch=batch, low_batch=low_batch, first=1e6, longest=1e6)
        self.wanted: dict[str, bool] = {}
        """To be handed out, and whether with low priority."""
        self.held: dict[str, bool] = {}
        self.again: dict[str, bool] = {}

    @rule(item=items, low=st.booleans())
    def add(self, item: str, low: bool) -> None:
        self.queue.add(item, low=low)
        target = self.again if item in self.held else self.wanted
        target[item] = target.get(item, True) and low

    @rule(item=items)
    def fail(self, item: str) -> None:
        async def call() -> None:
            self.queue.add_rate_limited(item)

        self.loop.run_until_complete(call())

    @precondition(lambda self: self.wanted)
    @rule()
    def get(self) -> None:
        batch = self.loop.run_until_complete(self.queue.get())
        low = all(self.wanted.values())
        assert 0 < len(batch) <= (self.queue._low_batch if low else self.queue._batch)
        for item in batch:
            assert item not in self.held
            assert self.wanted.pop(item) is low
            self.held[item] = low

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(sorted(self.held)))
        self.queue.done(item)
        del self.held[item]
        if item in self.again:
            self.wanted[item] = self.again.pop(item)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def put_back(self, data: st.DataObject) -> None:
        items = data.draw(st.lists(st.sampled_from(sorted(self.held)), unique=True))
        self.queue.put_back(items)
        self.give_back(items)

    def give_back(self, items: list[str]) -> None:
        for item in items:
            low, again_low = self.held.pop(item), self.again.pop(item, True)
            self.wanted[item] = low and again_low

    @rule()
    def release(self) -> None:
        delayed = list(self.queue._timers)
        self.queue.release()
        self.give_back(list(self.held))
        for item in delayed:
            self.wanted[item] = False

    @invariant()
    def holds_what_it_should(self) -> None:
        if hasattr(self, "queue"):
            assert len(self.queue) == len(self.wanted)
            assert self.queue.in_progress == len(self.held)

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.close()


TestOrders = Model.TestCase
TestOrders.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
