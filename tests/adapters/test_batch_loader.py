"""Concurrent callers share a read, and no caller gets data from before its call."""

import asyncio
import gc
from collections.abc import Sequence

import pytest

from service.adapters.redis.batch_loader import BatchLoader


class Source:
    def __init__(self) -> None:
        self.value = 0
        self.reads: list[list[str]] = []
        self.fails: Exception | None = None

    async def read(self, keys: Sequence[str]) -> Sequence[str]:
        self.reads.append(list(keys))
        value = self.value
        await asyncio.sleep(0.01)
        if self.fails:
            raise self.fails
        return [f"{key}{value}" for key in keys]


async def test_callers_that_ask_during_a_read_share_the_next_one() -> None:
    source = Source()
    loader = BatchLoader(source.read, batch_size=100)
    first = asyncio.create_task(loader.load("a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    source.value = 1
    rest = await asyncio.gather(*(loader.load(key) for key in ("b", "c", "b", "a")))
    assert await first == "a0"
    assert rest == ["b1", "c1", "b1", "a1"]
    assert source.reads == [["a"], ["b", "c", "a"]]


async def test_a_batch_has_a_maximum_size() -> None:
    source = Source()
    loader = BatchLoader(source.read, batch_size=4)
    assert await asyncio.gather(*(loader.load(str(number)) for number in range(10))) == [f"{n}0" for n in range(10)]
    assert [len(keys) for keys in source.reads] == [4, 4, 2]


async def test_a_failed_read_fails_only_its_own_callers() -> None:
    source = Source()
    loader = BatchLoader(source.read, batch_size=100)
    source.fails = LookupError()
    found = await asyncio.gather(*(loader.load(key) for key in "ab"), return_exceptions=True)
    assert [type(each) for each in found] == [LookupError, LookupError]
    source.fails = None
    assert await loader.load("a") == "a0"


async def test_a_cancelled_caller_does_not_affect_the_others() -> None:
    source = Source()
    loader = BatchLoader(source.read, batch_size=100)
    gone, stays = asyncio.create_task(loader.load("a")), asyncio.create_task(loader.load("a"))
    await asyncio.sleep(0.001)
    gone.cancel()
    assert await stays == "a0"
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_a_read_with_too_few_results_leaves_no_caller_waiting() -> None:
    async def short(keys: Sequence[str]) -> Sequence[str]:
        return list(keys)[1:]

    loader = BatchLoader(short, batch_size=100)
    async with asyncio.timeout(5):
        found = await asyncio.gather(*(loader.load(key) for key in "ab"), return_exceptions=True)
    assert [type(each) for each in found] == [ValueError, ValueError]


async def test_a_failed_read_whose_only_caller_was_cancelled_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    source = Source()
    loader = BatchLoader(source.read, batch_size=100)
    source.fails = LookupError()
    gone = asyncio.create_task(loader.load("a"))
    await asyncio.sleep(0.001)
    gone.cancel()
    with pytest.raises(LookupError):
        await loader.load("b")  # its read starts when the first one has failed
    source.fails = None
    assert await loader.load("c") == "c0"
    gc.collect()
    assert not caplog.records
