"""The keys of a replica: made once, rotated by age, and kept while anything that they have sealed may be good."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

import pytest

from service.domain import keyring as module
from service.domain.errors import ClusterUnavailable, SigningKeysUnavailable
from service.domain.keyring import REFRESH, SETTLING, Keyring
from service.domain.signing_key import SigningKey, StoredKeys
from tests.fakes import MemorySigningKeys
from tests.waiting import until

ROTATE, KEEP = timedelta(days=30), timedelta(days=7)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, time: timedelta) -> None:
        self.now += time.total_seconds()


class Flaky(MemorySigningKeys):
    """Keys behind an API server that may be down."""

    away = False

    async def read(self) -> StoredKeys:
        await asyncio.sleep(0)
        if self.away:
            raise ClusterUnavailable
        return await super().read()

    async def replace(self, keys: Sequence[SigningKey], version: str | None) -> bool:
        await asyncio.sleep(0)
        return await super().replace(keys, version)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stored() -> Flaky:
    return Flaky()


@pytest.fixture
def replica(stored: Flaky, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Keyring]:
    monkeypatch.setattr(module, "_MIN_READ_INTERVAL", 0)
    return lambda: Keyring(stored, rotate=ROTATE, keep=KEEP, now=clock)


@asynccontextmanager
async def running(keyring: Keyring) -> AsyncIterator[None]:
    task = asyncio.create_task(keyring.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_replicas_that_start_together_agree_on_one_key(stored: Flaky, replica: Callable[[], Keyring]) -> None:
    replicas = [replica() for _ in range(5)]
    keys = await asyncio.gather(*(each.newest() for each in replicas))
    assert len({key.id for key in keys}) == len(stored.keys) == 1


async def test_an_old_key_gets_one_successor_and_seals_until_all_replicas_know_it(
    stored: Flaky, clock: Clock, replica: Callable[[], Keyring]
) -> None:
    replicas = [replica() for _ in range(3)]
    old = await replicas[0].newest()
    clock.pass_(ROTATE - REFRESH)
    await asyncio.gather(*(each._refresh() for each in replicas))
    assert list(stored.keys) == [old]
    clock.pass_(REFRESH)
    await asyncio.gather(*(each._refresh() for each in replicas))
    assert len(stored.keys) == 2
    assert {(await each.newest()).id for each in replicas} == {old.id}
    clock.pass_(SETTLING)
    (new,) = {(await each.newest()).id for each in replicas}
    assert new != old.id
    assert all([await each.find(old.id) == old for each in replicas])


async def test_an_old_key_verifies_until_everything_that_it_sealed_has_expired(
    stored: Flaky, clock: Clock, replica: Callable[[], Keyring]
) -> None:
    keyring = replica()
    old = await keyring.newest()
    clock.pass_(ROTATE)
    await keyring._refresh()
    clock.pass_(SETTLING + KEEP)
    await keyring._refresh()
    assert await keyring.find(old.id) == old
    assert keyring.has(old)
    clock.pass_(SETTLING)
    await keyring._refresh()
    assert await keyring.find(old.id) is None
    assert not keyring.has(old)
    assert len(stored.keys) == 1


async def test_an_unknown_key_of_another_replica_is_read_on_demand(
    replica: Callable[[], Keyring], stored: Flaky
) -> None:
    first, second = replica(), replica()
    await second.newest()
    stored.keys = ()
    key = await first.newest()
    assert await second.find(key.id) == key


async def test_unknown_key_ids_cause_one_read_per_interval(stored: Flaky, clock: Clock) -> None:
    keyring = Keyring(stored, now=clock)
    await keyring.newest()
    before = stored.reads
    assert set(await asyncio.gather(*(keyring.find(f"{number:08x}") for number in range(100)))) == {None}
    assert stored.reads <= before + 1


async def test_known_keys_work_without_the_api_server(stored: Flaky, replica: Callable[[], Keyring]) -> None:
    keyring = replica()
    key = await keyring.newest()
    stored.away = True
    with pytest.raises(ClusterUnavailable):
        await keyring._refresh()
    assert await keyring.newest() == key
    assert await keyring.find(key.id) == key
    with pytest.raises(SigningKeysUnavailable):
        await keyring.find("00000000")  # it may be another replica's
    assert "cannot be re-read" in (keyring.remark() or "")


async def test_without_keys_nothing_is_sealed_and_the_keyring_recovers_by_itself(
    stored: Flaky, replica: Callable[[], Keyring], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.domain.backoff.Backoff.next", lambda _: 0.01)
    keyring = replica()
    stored.away = True
    async with running(keyring):
        with pytest.raises(SigningKeysUnavailable, match="try again in a moment"):
            await keyring.newest()
        assert keyring.remark() is not None
        stored.away = False
        await until(lambda: keyring.remark() is None)
        assert (await keyring.newest()).id


async def test_emptying_the_store_withdraws_every_key(stored: Flaky, replica: Callable[[], Keyring]) -> None:
    keyring = replica()
    old = await keyring.newest()
    stored.keys = ()
    await keyring._refresh()
    assert await keyring.find(old.id) is None
    assert (await keyring.newest()).id != old.id


def test_a_key_does_not_show_its_secret() -> None:
    key = SigningKey("00000000", datetime.now(UTC), b"secret-bytes")
    assert "secret-bytes" not in repr(key)


async def test_unknown_key_ids_share_one_slow_read() -> None:
    class Slow(Flaky):
        reads = 0

        async def read(self) -> StoredKeys:
            self.reads += 1
            await asyncio.sleep(0.02)
            raise ClusterUnavailable

    stored = Slow()
    keyring = Keyring(stored)
    with patch.object(module, "_MIN_READ_INTERVAL", 0.01):
        asked = (keyring.find(f"{number:08x}") for number in range(20))
        found = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(each) for each in found} == {SigningKeysUnavailable}
    assert stored.reads == 1, "each would wait for all those before it"
