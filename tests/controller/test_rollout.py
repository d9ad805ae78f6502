"""The upgrade of all sessions: none is woken or dropped, whatever happens in whatever order."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.controller import rollout_run
from service.controller.rollout_runner import RolloutRunner
from service.domain.errors import (
    ClusterUnavailable,
    NoUpgrade,
    RedisUnavailable,
    SessionError,
    UpgradeFailed,
    UpgradeRunning,
)
from service.domain.names import SessionId
from service.domain.release import Release, ReleaseState
from service.domain.rollout import Pace, Rollout, RolloutOptions, RolloutState
from service.domain.rollouts import RolloutControl, RolloutStatus
from service.domain.upgrading import ReleaseUpgrades
from service.domain.workload import Workload
from tests.domain.conftest import World

NO = UpgradeFailed("no quota")
PROMISED = ("upgrade", "undo an upgrade", "reasons of failed upgrades")
"""Tasks that go on when a leader does not lead any more."""


class Fleet(World):
    """Sessions whose releases are out of date, and a leader."""

    async def fill(self, sleepers: int, awake: int = 0) -> list[SessionId]:
        uuids = sorted([(await self.provisioner.create(f"u{n}")).uuid for n in range(sleepers + awake)])
        for uuid in random.sample(uuids, awake):
            self.put(uuid, replicas=1, ready=1)
        self.releases.target = "second"
        return uuids

    def put(self, uuid: SessionId, **changes: object) -> None:
        self.cluster.change(replace(self.cluster.workload(uuid), **changes))  # type: ignore[arg-type]

    def runner(self, upgrades: ReleaseUpgrades | None = None) -> RolloutRunner:
        upgrades = upgrades or self.release_upgrades(helm_deadline=0.05)  # a process of its own
        control = RolloutControl(rollouts=self.rollouts, upgrades=upgrades, cache=self.cluster)
        return RolloutRunner(rollouts=self.rollouts, control=control, upgrades=upgrades, cache=self.cluster, poll=0.02)

    @contextlib.asynccontextmanager
    async def leader(self, *, killed: bool = False) -> AsyncIterator[None]:
        """Leads for a while. What it leaves in progress is finished, unless the process is `killed`."""
        leads = asyncio.create_task(self.runner().lead())
        try:
            yield
        finally:
            leads.cancel()
            await asyncio.gather(leads, return_exceptions=True)
            left = [task for task in asyncio.all_tasks() if task.get_name() in PROMISED]
            for task in left if killed else ():
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def interrupted(self, call: Callable[..., Any], rand: random.Random) -> Callable[..., Any]:
        """The call, which a kill may interrupt, and which fails now and then."""

        async def flaky(*arguments: Any) -> Any:
            await asyncio.sleep(0.001)
            if rand.random() < 0.05:
                raise RedisUnavailable
            return await call(*arguments)

        return flaky

    async def start(self, **options: object) -> None:
        await self.rollout_control.start(RolloutOptions(**options), by="ci")  # type: ignore[arg-type]

    def come_and_go(self, rand: random.Random) -> set[SessionId]:
        """Some fall asleep, and sometimes one wakes; returns who woke. None wakes in the middle of its upgrade."""
        for uuid in sorted(self.awake()):
            if rand.random() < 0.3:
                self.put(uuid, replicas=0, ready=0)
        if rand.random() > 0.2:
            return set()
        waker = rand.choice(sorted(self.cluster.workloads))
        if waker in self.store.held:
            return set()
        self.put(waker, replicas=1, ready=1)
        return {waker}

    @property
    def rollout(self) -> Rollout:
        assert self.rollouts.stored is not None
        return self.rollouts.stored

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - the fakes have no event for it
                await asyncio.sleep(0.005)

    async def until_ended(self) -> RolloutState:
        await self.until(lambda: not self.rollout.active)
        return self.rollout.state

    def upgraded(self) -> set[SessionId]:
        return {uuid for uuid, workload in self.cluster.workloads.items() if workload.revision == "second"}

    def awake(self) -> set[SessionId]:
        return {uuid for uuid, workload in self.cluster.workloads.items() if workload.replicas}


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    fleet = Fleet()
    yield fleet
    await fleet.provisioner.close()


async def test_sleepers_stay_asleep_and_those_in_use_follow_when_they_sleep(fleet: Fleet) -> None:
    uuids, awake = await fleet.fill(18, 2), fleet.awake()
    status = (await fleet.rollout_control.status()).counts
    assert (status.total, status.upgraded, status.asleep, status.awake) == (20, 0, 18, 2)
    await fleet.start()
    async with fleet.leader():
        await fleet.until(lambda: len(fleet.upgraded()) == 18)
        assert fleet.upgraded() == {*uuids} - awake
        assert (fleet.awake(), fleet.rollout.state) == (awake, RolloutState.RUNNING)
        for uuid in awake:
            fleet.put(uuid, replicas=0, ready=0)
        assert await fleet.until_ended() is RolloutState.DONE
    assert fleet.upgraded() == {*uuids}
    assert sorted(fleet.releases.upgrades) == uuids, "one helm run each"
    assert (await fleet.rollout_control.status()).counts.upgraded == 20


async def test_only_those_asleep(fleet: Fleet) -> None:
    await fleet.fill(5, 3)
    await fleet.start(only_asleep=True)
    async with fleet.leader():
        assert await fleet.until_ended() is RolloutState.DONE
    assert len(fleet.upgraded()) == 5
    assert fleet.rollout.failures == ()


@pytest.mark.parametrize("limit", [1, 3])
async def test_as_many_at_a_time_as_may_be(fleet: Fleet, limit: int) -> None:
    fleet.releases.seconds = 0.01
    await fleet.fill(12)
    await fleet.start(max_parallel=limit)
    async with fleet.leader():
        await fleet.until_ended()
    assert fleet.releases.most_at_work == limit


async def test_it_stops_at_the_second_failure_and_the_failed_are_rolled_back(fleet: Fleet) -> None:
    uuids = await fleet.fill(12)
    odd = {uuids[2], uuids[5], uuids[9]}
    fleet.releases.failing = dict.fromkeys(odd, NO)
    await fleet.start(max_parallel=1)
    async with fleet.leader():
        assert await fleet.until_ended() is RolloutState.FAILED
        await asyncio.sleep(0.1)  # nothing else may begin
    assert fleet.upgraded() == {*uuids[:5]} - odd
    assert [(each.uuid, "no quota; it is rolled back" in each.reason) for each in fleet.rollout.failures] == [
        (uuids[2], True), (uuids[5], True),
    ]  # fmt: skip
    counts = (await fleet.rollout_control.status()).counts
    assert (counts.failed, counts.upgraded, counts.asleep) == (2, 4, 6)
    fleet.releases.failing = {}
    await fleet.start()
    async with fleet.leader():
        assert await fleet.until_ended() is RolloutState.DONE
    assert fleet.upgraded() == {*uuids}


@pytest.mark.parametrize("error", [SessionError("odd"), ValueError("odd")])
async def test_one_odd_session_stops_no_other(fleet: Fleet, error: SessionError) -> None:
    uuids = await fleet.fill(8)
    fleet.releases.failing[uuids[0]] = error
    fleet.put(uuids[1], has_scaler=False)
    fleet.put(uuids[2], release=None, deployed=False)
    fleet.put(uuids[3], user_id=None)
    await fleet.store.forget(uuids[4])
    await fleet.start()
    async with fleet.leader():
        assert await fleet.until_ended() is RolloutState.DONE
    assert fleet.upgraded() >= {*uuids[5:]}
    assert [failure.uuid for failure in fleet.rollout.failures] == [uuids[0]]


async def test_what_others_do_meanwhile_stops_nothing(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout_run, "_RETRY", 0.05)
    uuids = await fleet.fill(14)
    fleet.releases.seconds = 0.01
    await fleet.start()
    async with fleet.leader():
        await fleet.until(lambda: bool(fleet.upgraded()))
        at_work, uninstalled, deleted = uuids[-3:]
        await fleet.provisioner.delete(deleted, keep_data=False)
        fleet.put(uninstalled, release=None, deployed=False, has_scaler=False)
        release = fleet.cluster.workload(at_work).release
        assert release is not None
        release = replace(release, revision=2, state=ReleaseState.PENDING_UPGRADE, modified_at=datetime.now(UTC))
        fleet.put(at_work, release=release)
        created = (await fleet.provisioner.create("new")).uuid
        assert await fleet.until_ended() is RolloutState.DONE
    assert fleet.upgraded() == {*uuids, created} - {uninstalled, deleted}
    assert created not in fleet.releases.upgrades
    assert fleet.rollout.failures == ()


async def test_operators_who_start_at_once_share_one_upgrade(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    uuids = await fleet.fill(4)
    monkeypatch.setattr(fleet.rollouts, "read", fleet.interrupted(fleet.rollouts.read, random.Random(1)))  # noqa: S311
    started = [fleet.rollout_control.start(RolloutOptions(), by=f"operator {number}") for number in range(8)]
    answers = await asyncio.gather(*started, return_exceptions=True)
    runs = {answer.rollout and answer.rollout.id for answer in answers if isinstance(answer, RolloutStatus)}
    assert runs == {fleet.rollout.id}
    async with fleet.leader():
        await fleet.until_ended()
    assert sorted(fleet.releases.upgrades) == uuids


async def test_a_cluster_that_is_away_for_a_while_is_waited_for(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    uuids = await fleet.fill(6)
    monkeypatch.setattr(rollout_run, "_RETRY", 0.05)
    away, read = True, fleet.cluster.read

    async def unsteady(uuids: Sequence[SessionId]) -> dict[SessionId, Workload]:
        if away:
            raise ClusterUnavailable
        return await read(uuids)

    monkeypatch.setattr(fleet.cluster, "read", unsteady)
    await fleet.start()
    async with fleet.leader():
        await asyncio.sleep(0.2)
        assert (fleet.rollout.state, fleet.upgraded()) == (RolloutState.RUNNING, set())
        away = False
        assert await fleet.until_ended() is RolloutState.DONE
    assert (fleet.upgraded(), fleet.rollout.failures) == ({*uuids}, ())


async def test_a_stop_lets_those_in_progress_finish_and_begins_no_other(fleet: Fleet) -> None:
    fleet.releases.seconds = 0.05
    await fleet.fill(10)
    await fleet.start()
    async with fleet.leader():
        await fleet.until(lambda: bool(fleet.releases.at_work))
        await fleet.rollout_control.stop()
        await fleet.until(lambda: not fleet.releases.at_work)
        done = fleet.upgraded()
        await asyncio.sleep(0.2)
        assert fleet.upgraded() == done
    assert fleet.rollout.state is RolloutState.STOPPED
    assert 0 < len(done) < 10
    with pytest.raises(NoUpgrade):
        await fleet.rollout_control.stop()


async def test_the_reason_of_a_failure_after_a_stop_waits_until_redis_is_back(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> bool:
        raise RedisUnavailable

    uuids = await fleet.fill(3)
    fleet.releases.seconds = 0.3
    fleet.releases.failing = dict.fromkeys(uuids, NO)
    await fleet.start(max_parallel=1)
    async with fleet.leader():
        await fleet.until(lambda: bool(fleet.releases.at_work))
        await fleet.rollout_control.stop()
        with monkeypatch.context() as patch:
            patch.setattr(fleet.rollouts, "replace", away)
            await fleet.until(lambda: not fleet.releases.at_work)
            await asyncio.sleep(0.2)
            assert not fleet.rollout.failures
        await fleet.until(lambda: bool(fleet.rollout.failures))
    assert [(each.uuid, each.reason) for each in fleet.rollout.failures] == [(uuids[0], "no quota; it is rolled back")]
    assert fleet.rollout.state is RolloutState.STOPPED


async def test_a_failure_is_named_although_its_leader_does_not_lead_any_more(fleet: Fleet) -> None:
    uuids = await fleet.fill(3)
    fleet.releases.seconds = 0.1
    fleet.releases.failing = dict.fromkeys(uuids, NO)
    await fleet.start(max_parallel=1)
    async with fleet.leader():
        await fleet.until(lambda: bool(fleet.releases.at_work))
        await fleet.rollout_control.stop()
    assert [each.uuid for each in fleet.rollout.failures] == uuids[:1]


async def test_a_process_that_ends_begins_no_upgrade_and_does_not_wait_for_a_redis_that_is_away(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> bool:
        raise RedisUnavailable

    uuids = await fleet.fill(6)
    fleet.releases.seconds = 0.1
    fleet.releases.failing[uuids[0]] = NO
    await fleet.start(max_parallel=1)
    upgrades = fleet.release_upgrades()
    leads = asyncio.create_task(fleet.runner(upgrades).lead())
    await fleet.until(lambda: bool(fleet.releases.at_work))
    async with asyncio.timeout(5):
        await upgrades.close()
        monkeypatch.setattr(fleet.rollouts, "replace", away)
        leads.cancel()
        await asyncio.gather(leads, return_exceptions=True)
        await upgrades.close()
    assert (fleet.releases.upgrades, fleet.upgraded()) == (uuids[:1], set())
    assert fleet.rollout.active


async def test_the_pace_counts_what_is_done_and_outlasts_a_leader(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout_run, "_MEASURE", 0)
    fleet.releases.seconds = 0.05
    uuids = await fleet.fill(40, 4)
    await fleet.start(canary=2, max_parallel=2)
    async with fleet.leader():
        await fleet.until(lambda: fleet.rollout.state is RolloutState.WAITING_FOR_CANARY)
        assert fleet.rollout.pace.done == 0, "canaries do not count"
        await fleet.rollout_control.continue_()
        assert (await fleet.rollout_control.status()).time_left is None
        await fleet.until(lambda: fleet.rollout.pace.done >= 12)
        first = await fleet.rollout_control.status()
        assert first.time_left is not None
        assert first.time_left.total_seconds() >= 0.02 * first.counts.asleep
    before = fleet.rollout.pace
    async with fleet.leader():
        await fleet.until(lambda: fleet.rollout.pace.done >= before.done + 12)
        assert fleet.rollout.pace.seconds > before.seconds
        await fleet.until(lambda: len(fleet.upgraded()) == 40)
        left = await fleet.rollout_control.status()
        assert (left.counts.awake, left.time_left) == (4, None), "nobody knows when they sleep"
        spent = fleet.rollout.pace.seconds
        await asyncio.sleep(0.3)
        assert fleet.rollout.pace.seconds < spent + 0.2, "while nothing can be upgraded, no time counts"
    assert len(uuids) == 44


def test_a_pace_that_nobody_measures_any_more_says_nothing() -> None:
    now = datetime.now(UTC)
    pace = Pace(20, 60.0, now)
    assert pace.time_for(100, now) == timedelta(minutes=5)
    assert pace.time_for(100, now + timedelta(minutes=2)) is None
    assert Pace(9, 60.0, now).time_for(100, now) is None


async def test_a_second_start_is_the_same_rollout_and_one_of_another_service_is_refused(fleet: Fleet) -> None:
    await fleet.fill(1)
    await fleet.start()
    first = fleet.rollout
    await fleet.start(canary=5)
    assert fleet.rollout == first
    fleet.releases.target = "third"
    with pytest.raises(UpgradeRunning):
        await fleet.start()
    async with fleet.leader():
        await asyncio.sleep(0.1)  # this leader's service has another chart
    assert fleet.rollout == first
    assert fleet.releases.upgrades == []


async def test_the_rest_follows_when_all_canaries_have_become_ready(fleet: Fleet) -> None:
    uuids = await fleet.fill(10)
    await fleet.start(canary=3)
    async with fleet.leader():
        await fleet.until(lambda: fleet.rollout.state is RolloutState.WAITING_FOR_CANARY)
        canaries = fleet.rollout.canaries
        assert (fleet.upgraded(), fleet.awake()) == ({*canaries}, set())
        for uuid in canaries:
            assert fleet.upgraded() == {*canaries}
            fleet.put(uuid, replicas=1, ready=1)
            await fleet.until(lambda: uuid in fleet.rollout.ready_canaries)  # noqa: B023
            fleet.put(uuid, replicas=0, ready=0)
        assert await fleet.until_ended() is RolloutState.DONE
    assert fleet.upgraded() == {*uuids}


async def test_an_operator_may_continue_without_the_canaries(fleet: Fleet) -> None:
    uuids = await fleet.fill(6)
    await fleet.start(canary=2)
    async with fleet.leader():
        await fleet.until(lambda: fleet.rollout.state is RolloutState.WAITING_FOR_CANARY)
        await fleet.rollout_control.continue_()
        assert await fleet.until_ended() is RolloutState.DONE
    assert fleet.upgraded() == {*uuids}


async def test_a_canary_whose_pod_fails_is_rolled_back_and_the_rest_does_not_follow(fleet: Fleet) -> None:
    await fleet.fill(6)
    await fleet.start(canary=2)
    async with fleet.leader():
        await fleet.until(lambda: fleet.rollout.state is RolloutState.WAITING_FOR_CANARY)
        first, second = fleet.rollout.canaries
        fleet.put(first, replicas=1, failure="InvalidImageName", final=True)
        await fleet.until(lambda: bool(fleet.rollout.failures))
        fleet.put(second, replicas=1, ready=1)
        await fleet.until(lambda: fleet.rollout.ready_canaries == (second,))
        assert fleet.upgraded() == {second}
        assert fleet.rollout.state is RolloutState.WAITING_FOR_CANARY
        assert "InvalidImageName; it is rolled back" in fleet.rollout.failures[0].reason


async def test_a_canary_that_cannot_be_rolled_back_yet_is_not_tried_again_at_once(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fleet.fill(3)
    await fleet.start(canary=1)
    tried = 0

    async def away(uuid: SessionId, number: int) -> None:
        nonlocal tried
        tried += 1
        raise ClusterUnavailable

    monkeypatch.setattr(fleet.releases, "rollback", away)
    async with fleet.leader():
        await fleet.until(lambda: fleet.rollout.state is RolloutState.WAITING_FOR_CANARY)
        (canary,) = fleet.rollout.canaries
        fleet.put(canary, replicas=1, failure="InvalidImageName", final=True)
        await fleet.until(lambda: tried > 0)
        await asyncio.sleep(0.5)
    assert tried == 1


class Compared(str):
    """An id that counts how often one is compared."""

    __slots__ = ()
    times = 0

    def __eq__(self, other: object) -> bool:
        Compared.times += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


async def test_a_thousand_canaries_do_not_keep_the_leader_busy(fleet: Fleet) -> None:
    await fleet.fill(0)
    await fleet.start(canary=1000)
    run = rollout_run.RolloutRun(
        fleet.rollout, control=fleet.rollout_control, upgrades=fleet.upgrades, cache=fleet.cluster,
        now=lambda: datetime.now(UTC), poll=1,
    )  # fmt: skip
    others = [SessionId(Compared(f"{number:08}")) for number in range(4000)]
    run._due = dict.fromkeys(others[2000:])
    canaries = tuple(others[:1000])
    for uuid in canaries:
        fleet.cluster.change(
            Workload(uuid, user_id="ann", release=Release("r", 1, ReleaseState.DEPLOYED, datetime.now(UTC)))
        )
    Compared.times = 0
    run._observe_canaries(replace(fleet.rollout, canaries=canaries, ready_canaries=canaries[::-1]))
    assert Compared.times < 50_000


async def test_a_canary_that_is_deleted_is_replaced(fleet: Fleet) -> None:
    await fleet.fill(4)
    await fleet.start(canary=1)
    async with fleet.leader():
        await fleet.until(lambda: fleet.rollout.state is RolloutState.WAITING_FOR_CANARY)
        (gone,) = fleet.rollout.canaries
        await fleet.provisioner.delete(gone, keep_data=False)
        await fleet.until(lambda: fleet.rollout.canaries not in ((), (gone,)))
        await fleet.until(lambda: fleet.rollout.state is RolloutState.WAITING_FOR_CANARY)


@pytest.mark.parametrize("seed", range(10))
async def test_leaders_that_are_killed_and_users_who_come_and_go_leave_everything_upgraded(
    fleet: Fleet, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaders end or are killed between any two steps, two may lead at once, and Redis fails now and then."""
    rand = random.Random(seed)  # noqa: S311 - for a test's order
    uuids = await fleet.fill(16, 4)
    fleet.releases.seconds = 0.004
    odd = rand.choice(uuids)
    fleet.releases.failing[odd] = NO
    in_use: list[SessionId] = []
    upgrade = fleet.releases.upgrade

    async def checked(workload: Workload) -> None:
        if fleet.cluster.workload(workload.uuid).replicas:
            in_use.append(workload.uuid)
        await upgrade(workload)

    monkeypatch.setattr(fleet.releases, "upgrade", checked)
    monkeypatch.setattr(fleet.rollouts, "read", fleet.interrupted(fleet.rollouts.read, rand))
    monkeypatch.setattr(fleet.rollouts, "replace", fleet.interrupted(fleet.rollouts.replace, rand))
    monkeypatch.setattr(fleet.cluster, "read", fleet.interrupted(fleet.cluster.read, rand))
    monkeypatch.setattr(fleet.store, "record", fleet.interrupted(fleet.store.record, rand))
    while fleet.rollouts.stored is None:
        with contextlib.suppress(RedisUnavailable):
            await fleet.start(max_parallel=rand.randint(1, 4), max_failures=3)
    woken = {*fleet.awake()}
    async with asyncio.timeout(60):
        while fleet.rollout.active:
            async with contextlib.AsyncExitStack() as leaders:
                for _ in range(rand.choice((1, 1, 2))):
                    await leaders.enter_async_context(fleet.leader(killed=rand.random() < 0.5))
                for _ in range(5):
                    await asyncio.sleep(rand.random() * 0.03)
                    woken |= fleet.come_and_go(rand)
    assert not in_use
    assert fleet.awake() <= woken
    assert fleet.rollout.state is RolloutState.DONE
    assert {*uuids} - fleet.upgraded() <= {odd}
    assert {failure.uuid for failure in fleet.rollout.failures} <= {odd}
    assert {w.release and w.release.state for w in fleet.cluster.workloads.values()} == {ReleaseState.DEPLOYED}


async def test_a_wake_that_waits_for_ever_ends_nothing(fleet: Fleet) -> None:
    """A paused session with a pending wake has no pod, and is not asleep either."""
    uuids = await fleet.fill(3)
    await fleet.queues.wake(uuids[0], timedelta(days=1))
    await fleet.start(only_asleep=True)
    async with fleet.leader():
        assert await fleet.until_ended() is RolloutState.DONE
    assert fleet.upgraded() == {*uuids[1:]}
