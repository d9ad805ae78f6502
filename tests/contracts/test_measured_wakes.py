"""What the domain relies on in the MeasuredWakes: in memory, on the Redis at hand, and on the oldest supported, 6.2."""

from dataclasses import replace
from datetime import UTC, datetime

from redis.asyncio import Redis

from service.adapters.redis.measured_wakes import RedisMeasuredWakes
from service.domain.progress import Stage
from service.domain.wake_times import MeasuredWake
from tests.contracts.conftest import Kept

WAKE = MeasuredWake(
    at=datetime(2026, 3, 2, 9, 30, 0, 125000, tzinfo=UTC),
    pod="0b1c2d3e",
    stages={Stage.SCALED: 0.05, Stage.UNPARKED: 0.081, Stage.SCHEDULED: 0.3, Stage.STARTED: 2.0, Stage.READY: 3.125},
)
UNFINISHED = MeasuredWake(at=WAKE.at, pod="", stages={Stage.SCALED: 0.5})


async def test_wakes_come_back_whole_newest_first(kept: Kept) -> None:
    assert await kept.measured.last() == []
    await kept.measured.append(WAKE)
    await kept.measured.append(UNFINISHED)
    assert await kept.measured.last() == [UNFINISHED, WAKE]


async def test_the_oldest_wakes_make_room(kept: Kept) -> None:
    for number in range(110):
        await kept.measured.append(replace(WAKE, pod=str(number)))
    assert [wake.pod for wake in await kept.measured.last()] == [str(number) for number in range(109, 9, -1)]


async def test_what_others_wrote_there_hides_no_wake(redis_port: int) -> None:
    async with Redis(port=redis_port, decode_responses=True) as redis:
        await redis.flushall()
        wakes = RedisMeasuredWakes(redis, kept=100)
        await redis.set("user-pods:wakes", "x")
        assert await wakes.last() == []
        await wakes.append(WAKE)
        for entry in (
            "{", "[]", "7", b"\xff", '{"at": 1}', '{"at": "x", "pod": ""}', '{"at": 1e400, "pod": ""}',
            '{"at": NaN, "pod": "", "ready": 1}', '{"at": 1, "pod": "", "ready": NaN}', "[" * 99_999,
            '{"at": 1, "pod": "", "ready": -1}', '{"at": 1, "pod": "", "ready": 1e300}', '{"at": 1, "ready": "x"}',
        ):  # fmt: skip
            await redis.lpush("user-pods:wakes", entry)
        await wakes.append(UNFINISHED)
        assert await wakes.last() == [UNFINISHED, WAKE]
