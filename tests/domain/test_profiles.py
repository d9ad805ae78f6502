"""Profiles: who gets which, what a session keeps, and what becomes of one that is no longer defined."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from service.domain.errors import IdleTimesRefused, SessionBroken, UnknownProfile
from service.domain.idle_times import IdleTimes
from service.domain.limits import RequestedIdleTimes
from service.domain.names import SessionId
from service.domain.permissions import CallerRole
from service.domain.profiles import Profile, Profiles
from service.domain.wanted import Wanted
from service.domain.workload import Assignment
from tests.domain.conftest import World

ANN = "ann@example.com"
GPU = Profile(
    name="gpu", roles=frozenset({CallerRole.FRONTEND}), cooldown=timedelta(seconds=60), background=timedelta(0)
)
KNOWN = Profiles([Profile(name="small"), GPU], default="small")


@pytest.fixture
def world() -> World:
    return World(profiles=KNOWN)


def assigned(world: World, uuid: SessionId) -> str | None:
    return world.cluster.workload(uuid).assignment.profile


def cooldown(world: World, uuid: SessionId) -> timedelta:
    times = world.cluster.workload(uuid).idle_times
    assert times is not None
    return times.cooldown


async def test_whoever_chooses_none_gets_the_default_one(world: World) -> None:
    created = await world.provisioner.create(ANN)
    assert (created.assignment.profile, assigned(world, created.uuid)) == ("small", "small")


async def test_an_existing_session_keeps_its_profile_and_the_answer_says_which(world: World) -> None:
    first = await world.provisioner.create(ANN, profile="gpu")
    second = await world.provisioner.create(ANN, profile="small")
    assert (second.uuid, second.fresh, second.assignment.profile) == (first.uuid, False, "gpu")
    assert world.releases.installs == 1


async def test_concurrent_creates_with_different_profiles_agree(world: World) -> None:
    made = await asyncio.gather(*(world.provisioner.create(ANN, profile=name) for name in ("gpu", "small", "gpu")))
    assert {each.assignment.profile for each in made} == {"gpu"}
    assert [each.fresh for each in made] == [True, False, False]


async def test_a_repair_keeps_the_profile(world: World) -> None:
    uuid = (await world.provisioner.create(ANN, profile="gpu")).uuid
    world.cluster.change(replace(world.cluster.workload(uuid), has_scaler=False))
    repaired = await world.provisioner.create(ANN)
    assert (repaired.fresh, repaired.assignment.profile, assigned(world, uuid)) == (True, "gpu", "gpu")
    times = world.cluster.workload(uuid).idle_times
    assert times is not None
    assert times.cooldown == GPU.cooldown


async def test_a_create_that_died_before_helm_ran_is_finished_with_what_was_asked_for(world: World) -> None:
    uuid = SessionId("abc123xy")
    await world.store.claim(ANN, uuid)
    await world.cluster.reserve(uuid, ANN, Assignment(profile="gpu"))
    assert await world.recovery().run()
    assert assigned(world, uuid) == "gpu"


async def test_a_create_that_died_right_after_its_claim_is_finished_with_what_was_asked_for(world: World) -> None:
    uuid = SessionId("abc123xy")
    times = RequestedIdleTimes(cooldown=timedelta(seconds=30))
    await world.store.claim(ANN, uuid, Wanted(times, profile="gpu", group="staff"))
    assert await world.recovery().run()
    assert assigned(world, uuid) == "gpu"
    assert world.cluster.workload(uuid).assignment.group == "staff"
    assert cooldown(world, uuid) == timedelta(seconds=30)


async def test_a_create_that_died_after_its_reservation_keeps_its_times_when_redis_is_lost(world: World) -> None:
    uuid = SessionId("abc123xy")
    await world.cluster.reserve(uuid, ANN, Assignment(idle_times=IdleTimes(cooldown=timedelta(seconds=40))))
    world.store.index_is_complete = False
    assert await world.recovery().run()
    assert cooldown(world, uuid) == timedelta(seconds=40)


async def test_a_create_is_finished_although_what_it_asked_for_can_no_longer_be_had(world: World) -> None:
    long = RequestedIdleTimes(cooldown=timedelta(days=2))
    await world.store.claim(ANN, SessionId("abc123xy"), Wanted(long, profile="huge"))
    created = await world.provisioner.create(ANN)
    assert (created.uuid, created.assignment.profile) == ("abc123xy", "small")
    assert cooldown(world, created.uuid) == IdleTimes().cooldown


@pytest.mark.parametrize("gone", [{"has_scaler": False, "idle_times": None}, {"deployed": False}])
async def test_a_repair_keeps_the_idle_times(world: World, gone: dict[str, Any]) -> None:
    times = RequestedIdleTimes(cooldown=timedelta(seconds=30))
    uuid = (await world.provisioner.create(ANN, times)).uuid
    world.cluster.change(replace(world.cluster.workload(uuid), **gone))
    other = RequestedIdleTimes(cooldown=timedelta(seconds=50))
    assert (await world.provisioner.create(ANN, other)).fresh
    assert cooldown(world, uuid) == timedelta(seconds=30)


async def test_what_was_asked_for_is_in_the_cluster_before_the_wait_for_helm(world: World) -> None:
    async with world.provisioner.admission.slot(), world.provisioner.admission.slot():
        waiting = asyncio.create_task(world.provisioner.create(ANN, profile="gpu"))
        async with asyncio.timeout(5):
            while not world.cluster.workloads:  # noqa: ASYNC110 - the fake has no event for it
                await asyncio.sleep(0)
        (uuid,) = world.cluster.workloads
        assert (assigned(world, uuid), world.releases.installs) == ("gpu", 0)
    await waiting


async def test_a_kept_home_comes_back_with_its_profile_unless_another_is_chosen(world: World) -> None:
    uuid = (await world.provisioner.create(ANN, profile="gpu")).uuid
    await world.provisioner.delete(uuid, keep_data=True)
    assert (await world.provisioner.create(ANN)).assignment.profile == "gpu"
    await world.provisioner.delete(uuid, keep_data=True)
    again = await world.provisioner.create(ANN, profile="small")
    assert (again.uuid, again.assignment.profile) == (uuid, "small")


async def test_a_kept_home_comes_back_with_the_idle_times_that_are_asked_for_then(world: World) -> None:
    uuid = (await world.provisioner.create(ANN, RequestedIdleTimes(cooldown=timedelta(seconds=30)))).uuid
    await world.provisioner.delete(uuid, keep_data=True)
    await world.provisioner.create(ANN, RequestedIdleTimes(cooldown=timedelta(seconds=50)))
    assert cooldown(world, uuid) == timedelta(seconds=50)


async def test_a_kept_home_comes_back_in_its_group_unless_another_is_named(world: World) -> None:
    uuid = (await world.provisioner.create(ANN, group="students")).uuid
    await world.provisioner.delete(uuid, keep_data=True)
    assert (await world.provisioner.create(ANN)).assignment.group == "students"
    await world.provisioner.delete(uuid, keep_data=True)
    assert (await world.provisioner.create(ANN, group="staff")).assignment.group == "staff"


async def test_a_session_whose_profile_is_gone_runs_on_and_is_not_repaired_into_another(world: World) -> None:
    uuid = (await world.provisioner.create(ANN, profile="gpu")).uuid
    world.profiles = Profiles([Profile(name="small")], default="small")
    later = world.replica().provisioner
    assert (await later.create(ANN)).assignment.profile == "gpu"
    world.cluster.change(replace(world.cluster.workload(uuid), has_scaler=False))
    with pytest.raises(SessionBroken, match="'gpu' is no longer defined"):
        await later.create(ANN)
    assert assigned(world, uuid) == "gpu"
    await later.delete(uuid, keep_data=True)
    assert (await later.create(ANN)).assignment.profile == "small", "its home, with what there is now"


async def test_sessions_from_before_profiles_get_none_by_a_repair(world: World) -> None:
    uuid = (await World(queues=world.queues, cluster=world.cluster).provisioner.create(ANN)).uuid
    world.cluster.change(replace(world.cluster.workload(uuid), has_scaler=False))
    assert (await world.provisioner.create(ANN)).assignment.profile is None


async def test_a_profile_bounds_its_sessions_idle_times(world: World) -> None:
    long = RequestedIdleTimes(cooldown=timedelta(seconds=61))
    with pytest.raises(IdleTimesRefused, match="cooldown may be 1 min"):
        await world.provisioner.create(ANN, long, profile="gpu")
    with pytest.raises(IdleTimesRefused, match="background"):
        await world.provisioner.create(ANN, RequestedIdleTimes(background=timedelta(seconds=1)), profile="gpu")
    assert not world.store.users, "a refused create leaves nothing"
    uuid = (await world.provisioner.create(ANN, profile="gpu")).uuid
    times = world.cluster.workload(uuid).idle_times
    assert times is not None
    assert (times.cooldown, times.background) == (timedelta(seconds=60), timedelta(0))
    await world.provisioner.create("bob", long, profile="small")


def test_a_choice_is_refused_with_the_names_that_the_caller_may_use() -> None:
    KNOWN.check_choice("gpu", CallerRole.FRONTEND)
    KNOWN.check_choice(None, CallerRole.USER)
    for name in ("gpu", "huge"):
        with pytest.raises(UnknownProfile) as refused:
            KNOWN.check_choice(name, CallerRole.USER)
        assert str(refused.value) == "there is no such profile for you; there are: small"
    with pytest.raises(UnknownProfile, match="none is defined"):
        Profiles().check_choice("small", CallerRole.OPERATOR)


def test_a_default_that_is_not_defined_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no profile medium; there are: gpu, small"):
        Profiles([Profile(name="small"), GPU], default="medium")
