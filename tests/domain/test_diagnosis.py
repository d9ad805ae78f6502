"""Each check of the diagnosis: what it finds, what it leaves alone, and what mending does."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from service.domain.cluster_facts import StorageClass
from service.domain.diagnosis.check import Check
from service.domain.diagnosis.checks.installation import KEPT
from service.domain.diagnosis.checks.keda import TESTED, Autoscalers
from service.domain.diagnosis.diagnosis import KEPT_CHARACTERS, Doctor
from service.domain.diagnosis.finding import Finding, Outcome, Severity
from service.domain.diagnosis.ports import Edit, KeyFacts, ObjectFacts, RedisConfiguration, Reply
from service.domain.diagnosis.run import SHOWN
from service.domain.diagnosis.survey import Survey, Surveyor
from service.domain.errors import IdTaken, RedisUnavailable, SessionBroken, SessionBusy, SessionUnreadable
from service.domain.health import Health
from service.domain.names import SessionId, autoscaler_name, release_name
from service.domain.release import Release, ReleaseState
from service.domain.workload import Pod, Workload
from stack.stack import ROOT
from tests.domain.conftest import World

ANN, LONG_AGO = "ann@example.com", timedelta(hours=1)
NOBODY = SessionId("nobody00")


@pytest.fixture
async def uuid(world: World) -> SessionId:
    return (await world.provisioner.create(ANN)).uuid


def ago(passed: timedelta) -> datetime:
    return datetime.now(UTC) - passed


async def faults(world: World, health: Health | None = None) -> list[Finding]:
    """What is found above ok. Each says what it means, and what to do."""
    found = [each for each in (await world.doctor(health).diagnosis()).findings if each.severity is not Severity.OK]
    assert all(each.what and each.meaning and each.next_step for each in found)
    places = [(each.check, each.subject) for each in found]
    assert len(places) == len(set(places))
    return found


async def the_fault(world: World, health: Health | None = None) -> tuple[str, str, Severity, bool]:
    (found,) = await faults(world, health)
    return found.check, found.subject, found.severity, found.fixable


def change(world: World, uuid: SessionId, **more: Any) -> None:
    world.cluster.change(replace(world.cluster.workload(uuid), **more))


def release(uuid: SessionId, state: ReleaseState, age: timedelta = LONG_AGO) -> Release:
    return Release(release_name(uuid), 1, state, ago(age))


async def test_a_healthy_system_has_a_line_for_each_check_and_no_fault(world: World, uuid: SessionId) -> None:
    found = (await world.doctor().diagnosis()).findings
    assert {each.severity for each in found} == {Severity.OK}
    assert len({each.check for each in found}) == 24


# --- parts and Redis --------------------------------------------------------------------------------------------------


async def test_a_part_that_fails_and_one_that_is_degraded(world: World) -> None:
    async def fail() -> None:
        raise RedisUnavailable

    health = Health({"redis": fail}, seconds=0, remarks={"sign-in": lambda: "away", "sessions": lambda: "elsewhere"})
    assert [(each.subject, each.severity) for each in await faults(world, health)] == [
        ("redis", Severity.ERROR), ("sign-in", Severity.WARNING),
    ]  # fmt: skip


async def test_rights_in_redis(world: World) -> None:
    world.redis.denied = ["run scripts"]
    assert await the_fault(world) == ("redis-rights", "run scripts", Severity.ERROR, False)


@pytest.mark.parametrize("flags", ["", "E", "Kl", "lA"])
async def test_notifications_that_are_off_are_switched_on(world: World, flags: str) -> None:
    world.redis.settings = replace(world.redis.settings, notifications=flags)
    assert await the_fault(world) == ("redis-settings", "notify-keyspace-events", Severity.WARNING, True)
    mended = await world.doctor().mend("redis-settings", "notify-keyspace-events")
    assert mended.outcome is Outcome.FIXED
    assert await faults(world) == []


@pytest.mark.parametrize(("limit", "severity"), [(0, Severity.WARNING), (10**9, Severity.ERROR)])
async def test_a_redis_that_evicts(world: World, limit: int, severity: Severity) -> None:
    world.redis.settings = replace(world.redis.settings, policy="allkeys-lru", memory_limit=limit)
    assert await the_fault(world) == ("redis-settings", "maxmemory-policy", severity, False)
    left = await world.doctor().mend("redis-settings", "maxmemory-policy")
    assert (left.outcome, "noeviction" in left.detail) == (Outcome.LEFT, True)


async def test_a_redis_that_hides_its_settings_or_saves_nothing_is_no_fault(world: World) -> None:
    for settings in (RedisConfiguration(), replace(world.redis.settings, persistent=False)):
        world.redis.settings = settings
        assert await faults(world) == []
        notes = [each for each in (await world.doctor().diagnosis()).findings if each.check == "redis-settings"]
        assert len(notes) == 2
        assert notes[1].next_step


@pytest.mark.parametrize("seconds", [-60, 60])
async def test_clocks_that_disagree(world: World, seconds: int) -> None:
    world.redis.ahead = timedelta(seconds=seconds)
    assert (await the_fault(world))[:2] == ("redis-clock", "clock")


async def test_lasting_keys_of_nobody_are_deleted(world: World, uuid: SessionId) -> None:
    world.redis.kept = {
        NOBODY: KeyFacts(lasting={f"user-pods:history:{NOBODY}"}),
        uuid: KeyFacts(lasting={f"user-pods:history:{uuid}"}),
    }
    assert await the_fault(world) == ("redis-keys", NOBODY, Severity.WARNING, True)
    assert (await world.doctor().mend("redis-keys", NOBODY)).outcome is Outcome.FIXED
    assert list(world.redis.kept) == [uuid]
    assert (await world.doctor().mend("redis-keys", uuid)).outcome is Outcome.GONE


async def test_keys_stay_while_the_cluster_has_something_of_the_id_or_may_have(world: World) -> None:
    world.redis.kept = {NOBODY: KeyFacts(lasting={f"user-pods:history:{NOBODY}"})}
    world.cluster.has_synced = False
    assert [(each.check, each.subject) for each in await faults(world)] == [("redis-keys", "the check")]
    world.cluster.has_synced = True
    doctor = world.doctor()
    read = world.cluster.read

    async def appears(uuids: Sequence[SessionId]) -> dict[SessionId, Workload]:
        world.cluster.change(Workload(NOBODY, deployed=True))
        return await read(uuids)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.cluster, "read", appears)
        assert "stay" in (await doctor.mend("redis-keys", NOBODY)).detail
    assert world.redis.kept


async def test_keys_of_a_session_whose_index_is_not_complete_are_not_judged(world: World) -> None:
    world.redis.kept = {NOBODY: KeyFacts(lasting={f"user-pods:history:{NOBODY}"})}
    world.store.index_is_complete = False
    assert {each.subject for each in await faults(world)} == {"the check"}
    assert world.redis.kept


async def test_long_lists_are_cut(world: World, uuid: SessionId) -> None:
    world.redis.kept = {uuid: KeyFacts(lengths={f"user-pods:history:{uuid}": 400})}
    assert await the_fault(world) == ("redis-lists", uuid, Severity.WARNING, True)
    await world.doctor().mend("redis-lists", uuid)
    assert await faults(world) == []


async def test_an_unreadable_record_is_written_again(world: World, uuid: SessionId) -> None:
    world.queues.unreadable_records[uuid] = "it is a string"
    assert await the_fault(world) == ("records", uuid, Severity.ERROR, True)
    installs = world.releases.installs
    await world.doctor().mend("records", uuid)
    assert await faults(world) == []
    assert world.releases.installs == installs


async def test_an_unreadable_record_of_somebody_unknown_is_left(world: World, uuid: SessionId) -> None:
    world.queues.unreadable_records[uuid] = "it is a string"
    world.queues.sessions[uuid] = replace(world.queues.sessions[uuid], user_id="")
    change(world, uuid, user_id=None)
    assert await the_fault(world) == ("records", uuid, Severity.ERROR, False)


# --- sessions and releases --------------------------------------------------------------------------------------------


async def test_a_missing_scaled_object_is_installed_again_with_the_session_s_times(
    world: World, uuid: SessionId
) -> None:
    change(world, uuid, has_scaler=False, replicas=1)
    world.queues.sessions[uuid] = replace(world.queues.sessions[uuid], written_at=ago(LONG_AGO))
    times = world.cluster.workload(uuid).idle_times
    assert await the_fault(world) == ("installation", uuid, Severity.ERROR, False)  # its user works
    change(world, uuid, replicas=0)
    assert await the_fault(world) == ("installation", uuid, Severity.ERROR, True)
    assert (await world.doctor().mend("installation", uuid)).outcome is Outcome.FIXED
    assert world.cluster.workload(uuid).has_scaler
    assert world.cluster.workload(uuid).idle_times == times
    assert (await world.doctor().mend("installation", uuid)).outcome is Outcome.GONE


async def test_a_release_that_a_dead_helm_left_is_installed_again(world: World, uuid: SessionId) -> None:
    change(world, uuid, replicas=0, release=release(uuid, ReleaseState.PENDING_INSTALL))
    assert await the_fault(world) == ("installation", uuid, Severity.ERROR, True)
    await world.doctor().mend("installation", uuid)
    assert await faults(world) == []


async def test_a_release_on_which_helm_works_is_no_fault(world: World, uuid: SessionId) -> None:
    change(world, uuid, replicas=0, release=release(uuid, ReleaseState.PENDING_INSTALL, timedelta(seconds=30)))
    assert await faults(world) == []


async def test_a_release_whose_repair_would_remove_the_volume_is_left(world: World, uuid: SessionId) -> None:
    change(world, uuid, replicas=0, release=release(uuid, ReleaseState.PENDING_INSTALL))
    world.inventory.found = [ObjectFacts(kind="persistentvolumeclaim", name="x", uuid=uuid)]
    assert await the_fault(world) == ("installation", uuid, Severity.ERROR, False)
    world.inventory.found = [replace(world.inventory.found[0], kept=True)]
    assert await the_fault(world) == ("installation", uuid, Severity.ERROR, True)


async def test_an_uninstall_that_stopped_half_way_is_left_to_its_operator(world: World, uuid: SessionId) -> None:
    change(world, uuid, replicas=0, release=release(uuid, ReleaseState.UNINSTALLING))
    assert await the_fault(world) == ("installation", uuid, Severity.ERROR, False)


async def test_a_session_on_which_another_replica_works_stays_as_it_is(world: World, uuid: SessionId) -> None:
    change(world, uuid, replicas=0, has_scaler=False)
    world.store.held.add(uuid)
    with pytest.raises(SessionBusy):
        await world.doctor().mend("installation", uuid)
    assert not world.cluster.workload(uuid).has_scaler


async def test_objects_of_another_user_with_the_session_s_name_are_not_taken(world: World, uuid: SessionId) -> None:
    change(world, uuid, replicas=0, has_scaler=False, user_id="bob")
    with pytest.raises(SessionBroken):
        await world.doctor().mend("installation", uuid)


def revision(uuid: SessionId, number: int, state: str, age: timedelta = LONG_AGO) -> ObjectFacts:
    return ObjectFacts(
        kind="secret",
        name=f"sh.helm.release.v1.user-{uuid}.v{number}",
        uuid=uuid,
        revision=number,
        state=state,
        modified_at=ago(age),
    )


def numbers(world: World) -> list[int | None]:
    return [each.revision for each in world.inventory.found]


async def test_an_upgrade_that_was_never_finished_is_dropped(world: World, uuid: SessionId) -> None:
    world.inventory.found = [revision(uuid, 9, "pending-upgrade"), revision(uuid, 8, "deployed")]
    assert await the_fault(world) == ("releases", uuid, Severity.ERROR, True)
    await world.doctor().mend("releases", uuid)
    assert numbers(world) == [8]
    assert await faults(world) == []


async def test_an_upgrade_in_progress_and_one_without_a_way_back_are_not_dropped(world: World, uuid: SessionId) -> None:
    world.inventory.found = [revision(uuid, 9, "pending-upgrade", timedelta(minutes=1)), revision(uuid, 8, "deployed")]
    assert await faults(world) == []
    world.inventory.found = [revision(uuid, 9, "pending-upgrade"), revision(uuid, 8, "failed")]
    assert await the_fault(world) == ("releases", uuid, Severity.ERROR, False)
    assert (await world.doctor().mend("releases", uuid)).outcome is Outcome.LEFT
    assert numbers(world) == [9, 8]


async def test_an_upgrade_that_somebody_finishes_meanwhile_is_not_dropped(
    world: World, uuid: SessionId, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.inventory.found = [revision(uuid, 8, "deployed"), revision(uuid, 9, "pending-upgrade")]

    async def finished(_: SessionId) -> Sequence[ObjectFacts]:
        return [revision(uuid, 8, "superseded"), revision(uuid, 9, "deployed")]

    monkeypatch.setattr(world.inventory, "revisions", finished)
    with pytest.raises(SessionBusy):
        await world.doctor().mend("releases", uuid)
    assert numbers(world) == [8, 9]


async def test_revisions_beyond_helm_s_own_limit_are_deleted_unless_they_may_be_needed(
    world: World, uuid: SessionId
) -> None:
    kept = [revision(uuid, number, "superseded") for number in range(3, KEPT + 2)]
    world.inventory.found = [revision(uuid, 1, "failed"), revision(uuid, 2, "superseded"), *kept]
    world.inventory.found.append(revision(uuid, KEPT + 2, "deployed"))
    assert await the_fault(world) == ("revisions", uuid, Severity.WARNING, True)
    await world.doctor().mend("revisions", uuid)
    assert numbers(world) == [1, *range(3, KEPT + 3)]
    assert await the_fault(world) == ("revisions", uuid, Severity.WARNING, False)


async def test_pauses_and_pods_that_do_not_start(world: World, uuid: SessionId) -> None:
    change(world, uuid, replicas=0, paused="`kubectl annotate` ends the pause")
    assert await the_fault(world) == ("pauses", uuid, Severity.WARNING, False)
    change(world, uuid, replicas=1, paused=None, warning="it waits for a node")
    assert await the_fault(world) == ("pods", uuid, Severity.WARNING, False)
    change(world, uuid, replicas=1, failure="ImagePullBackOff: no such image")
    assert await the_fault(world) == ("pods", uuid, Severity.ERROR, False)
    (found,) = await faults(world)
    assert found.what == f"The pod of {ANN} does not get ready: ImagePullBackOff: no such image."
    assert found.next_step.startswith("Compare the image's name with the values of every session.")
    change(world, uuid, replicas=0)
    assert await faults(world) == []


FULL = "Unschedulable: 0/3 nodes are available: 3 Insufficient memory"


async def test_sessions_for_which_no_node_has_room_are_one_finding(world: World, uuid: SessionId) -> None:
    others = [(await world.provisioner.create(f"{number}@example.com")).uuid for number in range(6)]
    for each in (uuid, *others):
        change(
            world, each, replicas=1, blocker=f"{FULL} of {each}", pod=Pod("uid", created_at=ago(timedelta(seconds=100)))
        )
    (found,) = await faults(world)
    assert (found.check, found.subject, found.severity) == ("pods", "Unschedulable", Severity.WARNING)
    assert "7 sessions" in found.what
    assert FULL in found.what
    assert sum(each in found.what for each in (uuid, *others)) == 5
    assert "`user-pods list --phase waking`" in found.next_step
    assert "`user-pods top` shows the room" in found.next_step

    change(world, others[0], blocker=None, failure="ImagePullBackOff: no such image")
    change(world, others[1], blocker=None, failure="CrashLoopBackOff: back-off", final=True)
    found_now = {(each.subject, each.severity) for each in await faults(world)}
    assert found_now == {
        ("Unschedulable", Severity.WARNING), (others[0], Severity.ERROR), (others[1], Severity.ERROR),
    }  # fmt: skip


async def test_a_pod_that_has_only_begun_to_wait_is_no_fault(world: World, uuid: SessionId) -> None:
    change(world, uuid, replicas=1, blocker=FULL, pod=Pod("uid", created_at=ago(timedelta(seconds=5))))
    assert await faults(world) == []
    change(world, uuid, blocker=None, pod=Pod("uid", created_at=ago(timedelta(minutes=1))))
    assert await faults(world) == []
    change(world, uuid, pod=Pod("uid", created_at=ago(timedelta(minutes=6))))
    assert await the_fault(world) == ("pods", uuid, Severity.WARNING, False)


async def test_a_session_that_should_sleep_and_does_not(world: World, uuid: SessionId) -> None:
    change(world, uuid, replicas=1, ready=1, last_active=ago(LONG_AGO))
    assert await the_fault(world) == ("sleeps", uuid, Severity.ERROR, False)
    await world.activity.wake(uuid)
    assert await faults(world) == []
    await world.queues.clear(uuid)
    cases: list[dict[str, Any]] = [
        {"last_active": ago(timedelta(seconds=30))}, {"paused": "x", "replicas": 0}, {"replicas": 0},
    ]  # fmt: skip
    for more in cases:
        change(world, uuid, **{"replicas": 1, "last_active": ago(LONG_AGO), "paused": None} | more)
        assert "sleeps" not in {each.check for each in await faults(world)}


async def test_objects_that_cannot_be_read(world: World, uuid: SessionId) -> None:
    change(world, uuid, replicas=0, read_error="spec.replicas is 'x'")
    assert await the_fault(world) == ("unreadable", uuid, Severity.ERROR, False)


# --- objects ----------------------------------------------------------------------------------------------------------


async def test_objects_of_a_user_without_a_session_get_their_record_again(world: World, uuid: SessionId) -> None:
    await world.store.forget(uuid)
    assert await the_fault(world) == ("orphans", uuid, Severity.WARNING, True)
    assert (await world.doctor().mend("orphans", uuid)).outcome is Outcome.FIXED
    assert (await world.provisioner.create(ANN)).uuid == uuid
    assert await faults(world) == []


async def test_an_id_that_somebody_else_gets_meanwhile_is_not_taken(
    world: World, uuid: SessionId, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.store.forget(uuid)

    async def taken(_user: str, candidate: SessionId) -> SessionId:
        raise IdTaken(candidate)

    monkeypatch.setattr(world.store, "claim", taken)
    with pytest.raises(SessionBroken):
        await world.doctor().mend("orphans", uuid)


async def test_objects_of_nobody_and_of_somebody_who_has_a_session_are_left(
    world: World, uuid: SessionId, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.cluster.change(Workload(NOBODY, deployed=True, user_id=ANN))
    assert await the_fault(world) == ("orphans", NOBODY, Severity.WARNING, False)
    world.cluster.change(Workload(NOBODY, deployed=True))
    assert await the_fault(world) == ("orphans", NOBODY, Severity.WARNING, False)
    world.cluster.change(Workload(NOBODY, deployed=True, user_id="bob"))

    async def owner(_: str) -> SessionId:
        raise SessionUnreadable

    monkeypatch.setattr(world.store, "owner", owner)
    assert await the_fault(world) == ("orphans", NOBODY, Severity.WARNING, False)


async def test_the_chart_by_hand_kept_volumes_and_what_is_being_deleted_are_no_orphans(world: World) -> None:
    whole = Workload(NOBODY, deployed=True, has_scaler=True, release=release(NOBODY, ReleaseState.DEPLOYED))
    for workload in (
        whole,
        Workload(NOBODY, volume=True, user_id=ANN),
        Workload(NOBODY, deployed=True, deleting=True, user_id=ANN),
    ):
        world.cluster.change(workload)
        assert await faults(world) == []


async def test_a_create_in_progress_is_no_orphan(world: World) -> None:
    await world.store.claim(ANN, NOBODY)
    await world.cluster.reserve(NOBODY, ANN)
    assert await faults(world) == []


async def test_edits_stuck_deletions_claims_and_keda(world: World, uuid: SessionId) -> None:
    name = release_name(uuid)
    world.inventory.found = [
        ObjectFacts(kind="deployment", name=name, uuid=uuid, edits=(Edit("kubectl-edit", ("a", "b", "c", "d"), None),)),
        ObjectFacts(kind="pod", name="old", uuid=uuid, deleting_since=ago(LONG_AGO)),
        ObjectFacts(kind="pod", name="new", uuid=uuid, deleting_since=ago(timedelta(0))),
        ObjectFacts(kind="secret", name="stuck", uuid=None, deleting_since=ago(LONG_AGO), finalizers=("x/y",)),
        ObjectFacts(kind="persistentvolumeclaim", name=name, uuid=uuid, unbound=True),
        ObjectFacts(kind="persistentvolumeclaim", name="later", uuid=uuid, unbound=True, storage_class="fast"),
        ObjectFacts(kind="scaledobject", name=name, uuid=uuid, not_ready="NOAUTH"),
        ObjectFacts(kind="scaledobject", name="another", uuid=uuid, not_ready="NOAUTH"),
    ]
    change(world, uuid, parked=False)
    found = await faults(world)
    assert sorted((each.check, each.subject, each.fixable) for each in found) == [
        ("edits", f"deployment/{name}", False), ("finalizers", "pod/old", False), ("finalizers", "secret/stuck", False),
        ("keda", name, False), ("volumes", f"persistentvolumeclaim/{name}", False),
    ]  # fmt: skip
    edits = next(each.what for each in found if each.check == "edits")
    assert edits == f"deployment/{name} of {ANN} differs from its chart: kubectl-edit has set a, b, c and 1 more."
    change(world, uuid, parked=True)
    assert "keda" not in {each.check for each in await faults(world)}


# --- what only an additional right lets it see ------------------------------------------------------------------------


async def test_without_the_right_each_fact_is_a_step_for_the_operator(world: World) -> None:
    def told(found: Sequence[Finding]) -> dict[tuple[str, str], str]:
        return {(each.check, each.subject): each.next_step for each in found if "rbac.clusterFacts" in each.next_step}

    assert not world.facts.allowed
    steps = told((await world.doctor().diagnosis()).findings)
    assert {place: step.split("`")[1] for place, step in steps.items()} == {
        ("keda", "version"): "kubectl get deployments -A -o wide | grep -i keda",
        ("storage-classes", "classes"): "kubectl get storageclass",
        ("autoscalers", "hpas"): "kubectl -n users get hpa",
    }
    world.facts.allowed = True
    assert told((await world.doctor().diagnosis()).findings) == {}


@pytest.mark.parametrize(
    ("version", "severity", "told"),
    [
        ("2.11.2", Severity.WARNING, "parks"),
        ("1.5", Severity.WARNING, "parks"),
        ("2.12.0", Severity.OK, "is older than 2.21"),
        ("2.21.3", Severity.OK, "is 2.21"),
        ("2.100.0", Severity.OK, "is newer than 2.21"),
        (None, Severity.OK, "keda-operator"),
    ],
)
async def test_keda_s_version(world: World, version: str | None, severity: Severity, told: str) -> None:
    world.facts.allowed, world.facts.version = True, version
    found = [each for each in (await world.doctor().diagnosis()).findings if each.check == "keda"]
    assert (found[-1].severity, told in found[-1].what) == (severity, True)
    assert (found[-1].subject == "version") == (version is None)  # what an old client shows as not checked


def test_the_version_of_keda_that_counts_as_tested_is_the_one_that_is_installed() -> None:
    installed = yaml.safe_load((ROOT / "environments" / "defaults.yaml").read_text())["keda"]["version"]
    assert tuple(map(int, installed.split(".")))[:2] == TESTED


def claim(name: str, storage_class: str | None, *, unbound: bool) -> ObjectFacts:
    return ObjectFacts(kind="persistentvolumeclaim", name=name, uuid=None, unbound=unbound, storage_class=storage_class)


def asks_for(storage_class: str | None) -> dict[str, Any]:
    """A rendered claim."""
    spec = {} if storage_class is None else {"storageClassName": storage_class}
    return {"kind": "PersistentVolumeClaim", "spec": spec}


async def class_faults(world: World) -> list[Finding]:
    return [each for each in await faults(world) if each.check == "storage-classes"]


async def test_a_storage_class_that_does_not_exist_is_a_fault_of_all_who_name_it(world: World) -> None:
    world.facts.allowed = True
    world.releases.objects = [asks_for("standard")]
    world.releases.objects_by_profile = {"large": [asks_for("fast")], "by-hand": [asks_for("")]}
    world.inventory.found = [
        claim("user-b", "fast", unbound=True),
        claim("user-a", "fast", unbound=True),
        claim("user-c", "standard", unbound=True),
        claim("user-d", "removed", unbound=False),
    ]
    (found,) = await class_faults(world)
    assert (found.subject, found.severity) == ("storageclass/fast", Severity.ERROR)
    assert "named by the profile large, 2 claims without a volume." in found.what
    assert "There are: standard." in found.next_step
    assert "delete persistentvolumeclaim/user-a`" in found.next_step


async def test_a_missing_class_whose_claims_have_volumes_may_be_one_of_volumes_made_by_hand(world: World) -> None:
    world.facts.allowed = True
    world.releases.objects = [asks_for("manual")]
    world.inventory.found = [claim("user-a", "manual", unbound=False)]
    assert [(each.subject, each.severity) for each in await class_faults(world)] == [
        ("storageclass/manual", Severity.WARNING)
    ]
    world.inventory.found += [claim("user-b", "manual", unbound=True)]
    assert [(each.subject, each.severity) for each in await class_faults(world)] == [
        ("storageclass/manual", Severity.ERROR)
    ]


async def test_values_that_name_no_class_need_a_default_one(world: World) -> None:
    world.facts.allowed = True
    world.facts.classes = [StorageClass("slow", default=False)]
    world.releases.objects = [asks_for("slow")]
    assert await class_faults(world) == []
    world.releases.objects_by_profile = {"large": [asks_for(None)]}
    assert [(each.subject, each.severity) for each in await class_faults(world)] == [("default", Severity.ERROR)]
    world.facts.classes += [StorageClass("fast", default=True)]
    assert await class_faults(world) == []


async def test_hpas_of_sessions_that_sleep_are_left_over(world: World, uuid: SessionId) -> None:
    world.facts.allowed = True
    check = Autoscalers(world.cluster, world.facts, namespace="users", second_look=0)
    world.facts.scalers = [autoscaler_name(uuid), autoscaler_name(NOBODY), "somebody-s-own"]
    for awake in ({"parked": False, "replicas": 0}, {"parked": True, "replicas": 1}):
        change(world, uuid, **awake)
        assert [each.severity for each in (await doctor(world, check).diagnosis()).findings] == [Severity.OK]
    change(world, uuid, parked=True, replicas=0)
    (found,) = (await doctor(world, check).diagnosis()).findings
    name = f"keda-hpa-user-{uuid}-scaler"
    assert (found.severity, found.subject) == (Severity.WARNING, f"horizontalpodautoscaler/{name}")
    assert "1 HPA of sessions that sleep" in found.what
    assert f"kubectl -n users delete hpa {name}" in found.next_step


async def test_an_hpa_that_keda_is_about_to_delete_is_no_fault(world: World, uuid: SessionId) -> None:
    change(world, uuid, parked=True, replicas=0)
    world.facts.allowed = True
    seen = iter([[autoscaler_name(uuid)], []])

    async def autoscalers() -> Sequence[str]:
        return next(seen)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.facts, "autoscalers", autoscalers)
        check = Autoscalers(world.cluster, world.facts, namespace="users", second_look=0)
        found = (await doctor(world, check).diagnosis()).findings
    assert [each.severity for each in found] == [Severity.OK]
    assert next(seen, None) is None


@pytest.mark.parametrize(
    ("container", "asks"),
    [
        ({"image": "docker.io/codercom/code-server:4.1", "args": ["--auth", "none"]}, False),
        ({"image": "docker.io/codercom/code-server:4.1"}, True),
        ({"image": "mirror.example.com:5000/code-server@sha256:1", "args": []}, True),
        ({"image": "x", "args": ["--auth=password"]}, True),
        ({"image": "x", "env": [{"name": "HASHED_PASSWORD", "value": "secret"}]}, True),
        ({"image": "x", "env": [{"name": "PASSWORD"}], "args": ["--auth", "none"]}, False),
        ({"image": "x"}, False),
    ],
)
async def test_an_image_that_asks_for_a_password(world: World, container: dict[str, Any], asks: bool) -> None:
    pod = {"containers": [{"name": "workspace", **container}, {"name": "sidecar", "image": "code-server"}]}
    deployment = {"kind": "Deployment", "spec": {"template": {"spec": pod}}}
    world.releases.objects = [deployment, {"kind": "NetworkPolicy"}]
    found = await faults(world)
    assert [each.check for each in found] == ["sign-in"] * asks
    assert "secret" not in json.dumps([each.what for each in found])


async def test_sessions_of_another_version_of_the_chart(world: World, uuid: SessionId) -> None:
    for version, found in (("user-pod-0.1.0", []), ("user-pod-0.2.0", [("charts", "user-pod-0.1.0")])):
        pod: dict[str, Any] = {"spec": {"template": {"spec": {"containers": []}}}}
        labels = {"metadata": {"labels": {"helm.sh/chart": version}}}
        world.releases.objects = [{"kind": "Deployment", **labels, **pod}, {"kind": "NetworkPolicy"}]
        faulty = await faults(world)
        assert [(each.check, each.subject) for each in faulty] == found
        assert all("`user-pods upgrade --all`" in (each.next_step or "") for each in faulty)


async def test_sessions_that_an_upgrade_of_all_would_change(world: World, uuid: SessionId) -> None:
    world.releases.target = "second"
    (found,) = await faults(world)
    assert (found.check, found.subject, found.severity) == ("charts", "revision", Severity.WARNING)
    assert "1 session was" in found.what
    assert "`user-pods upgrade --all`" in found.next_step
    await world.upgrades.upgrade(uuid, by="shop")
    assert await faults(world) == []


async def test_values_without_a_network_policy(world: World) -> None:
    world.releases.objects = [{"kind": "Service"}]
    assert (await the_fault(world))[:2] == ("network-policies", "chart")


async def test_values_of_a_profile_are_looked_at_too(world: World) -> None:
    pod = {"containers": [{"name": "workspace", "image": "codercom/code-server"}]}
    deployment = {"kind": "Deployment", "spec": {"template": {"spec": pod}}}
    policy = {"kind": "NetworkPolicy"}
    world.releases.objects_by_profile = {"gpu": [deployment], "large": [deployment, policy], "small": [policy]}
    found = [(each.check, each.subject) for each in await faults(world)]
    assert found == [("sign-in", "codercom/code-server"), ("network-policies", "profile gpu")]


# --- whether policies are enforced ------------------------------------------------------------------------------------

ADDRESS, PORT, CLOSED = "10.1.0.7", 8080, 9
FOR_THE_GATEWAY = {
    "kind": "NetworkPolicy",
    "spec": {"policyTypes": ["Ingress", "Egress"], "ingress": [{"from": [{}], "ports": [{"port": "http"}]}]},
}
FOR_ALL_BUT_USERS = {"kind": "NetworkPolicy", "spec": {"policyTypes": ["Ingress"], "ingress": [{"from": [{}]}]}}
YES, RESET, SILENT = Reply.ACCEPTED, Reply.RESET, Reply.NONE


def awaken(world: World, uuid: SessionId, address: str = ADDRESS, age: timedelta = LONG_AGO, **more: Any) -> None:
    pod = Pod("uid", address=address, port=PORT, ready=True, created_at=ago(age))
    change(world, uuid, **{"replicas": 1, "ready": 1, "pod": pod, **more})
    world.network.replies[address, PORT] = [YES]


async def enforcement(world: World) -> Finding:
    """What is said of the network."""
    found = (await world.doctor().diagnosis()).findings
    (said,) = [each for each in found if each.check == "network-policies" and each.subject != "all"]
    return said


@pytest.fixture(params=["of the namespace", "of each release"])
def closing(request: pytest.FixtureRequest, world: World) -> World:
    """Policies that admit the service at the workspace's port alone."""
    if request.param == "of the namespace":
        world.shared_policies, world.releases.objects = True, []
    else:
        world.releases.objects = [FOR_THE_GATEWAY]
    return world


@pytest.mark.parametrize(("reply", "words"), [(SILENT, "got no answer"), (Reply.REJECTED, "was rejected")])
async def test_a_network_that_stops_what_no_policy_opens_enforces_them(
    closing: World, uuid: SessionId, reply: Reply, words: str
) -> None:
    awaken(closing, uuid)
    closing.network.replies[ADDRESS, CLOSED] = [reply]
    said = await enforcement(closing)
    assert (said.subject, said.severity) == ("enforced", Severity.OK)
    assert f"the pod of {uuid} answers" in said.what
    assert words in said.what
    assert closing.network.tried == [(ADDRESS, PORT), (ADDRESS, CLOSED), (ADDRESS, PORT)]


async def test_a_pod_that_answers_where_no_policy_opens_shows_that_the_network_ignores_them(
    closing: World, uuid: SessionId
) -> None:
    awaken(closing, uuid)
    assert await the_fault(closing) == ("network-policies", "enforcement", Severity.ERROR, False)
    said = await enforcement(closing)
    assert uuid in said.what
    assert "Calico" in said.next_step


@pytest.mark.parametrize(
    ("own", "closed", "words"),
    [
        ([SILENT], [SILENT], "does not answer this process at its own port, 8080"),
        ([RESET], [RESET], "does not answer this process"),
        ([Reply.UNREACHABLE], [Reply.UNREACHABLE], "does not answer this process"),
        ([YES], [YES], "a proxy such as a service mesh's"),
        ([YES], [Reply.REFUSED], "does not say whether"),
        ([YES], [Reply.UNREACHABLE], "this process's own system"),
        ([YES, SILENT], [SILENT], "went away"),
    ],
)
async def test_what_proves_nothing_is_not_taken_for_a_proof(
    closing: World, uuid: SessionId, own: list[Reply], closed: list[Reply], words: str
) -> None:
    awaken(closing, uuid)
    closing.network.replies = {(ADDRESS, PORT): own, (ADDRESS, CLOSED): closed}
    said = await enforcement(closing)
    assert (said.subject, said.severity) == ("enforcement", Severity.OK)
    assert words in said.what
    assert "`curl -m 5` to the address of another one's pod" in said.next_step


async def test_one_pod_is_tried_the_oldest_of_those_with_the_policies_of_today(closing: World, uuid: SessionId) -> None:
    others = [(await closing.provisioner.create(f"{number}@example.com")).uuid for number in range(5)]
    awaken(closing, uuid, "10.1.0.1", timedelta(hours=2))
    awaken(closing, others[0], "10.1.0.2", timedelta(hours=1))
    awaken(closing, others[1], "10.1.0.3", timedelta(hours=3), revision="older")
    awaken(closing, others[2], "10.1.0.4", timedelta(hours=3), ready=0)
    awaken(closing, others[3], "10.1.0.5", timedelta(hours=3), replicas=0, ready=0)
    awaken(closing, others[4], "10.1.0.6", timedelta(hours=3), pod=None)
    closing.network.replies["10.1.0.1", CLOSED] = [SILENT]
    assert (await enforcement(closing)).subject == "enforced"
    assert {address for address, _ in closing.network.tried} == {"10.1.0.1"}


async def test_nothing_is_tried_where_it_would_show_nothing(world: World, uuid: SessionId) -> None:
    world.releases.objects = [FOR_THE_GATEWAY]
    assert "no workspace is awake" in (await enforcement(world)).what
    awaken(world, uuid)
    world.in_cluster = False
    assert "outside of the cluster" in (await enforcement(world)).what
    world.in_cluster = True
    world.releases.objects = [FOR_ALL_BUT_USERS]
    assert "admit the service at every port" in (await enforcement(world)).what
    # Policies add up.
    world.releases.objects = [FOR_THE_GATEWAY, FOR_ALL_BUT_USERS]
    assert "admit the service at every port" in (await enforcement(world)).what
    world.shared_policies = True
    assert "admit the service at every port" in (await enforcement(world)).what
    assert world.network.tried == []


async def test_releases_need_no_policy_where_the_namespace_has_them(world: World) -> None:
    world.releases.objects, world.shared_policies = [{"kind": "Service"}], True
    assert await faults(world) == []


# --- the doctor -------------------------------------------------------------------------------------------------------


class Odd(Check):
    """A check of which a test says what happens."""

    name = "odd"
    fine = "All is well."

    def __init__(self, *outcomes: Exception | float) -> None:
        self.outcomes = [*outcomes]
        self.runs = 0

    async def findings(self, survey: Survey) -> Sequence[Finding]:
        self.runs += 1
        outcome = self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        if isinstance(outcome, float):
            await asyncio.sleep(outcome)
        return [
            self.finding(str(number), Severity.WARNING, "It is odd.", meaning="So what.", next_step="Look.")
            for number in range(int(outcome))
        ]


class Calm(Odd):
    name = "calm"


def doctor(world: World, *checks: Check, deadline: float = 5) -> Doctor:
    surveyor = Surveyor(
        queries=world.queries, store=world.store, releases=world.releases, inventory=world.inventory, redis=world.redis
    )
    return Doctor(checks, surveyor, world.diagnoses, deadline=deadline)


@pytest.mark.parametrize("outcome", [RedisUnavailable(), ZeroDivisionError("private"), 60.0])
async def test_a_check_that_cannot_run_is_a_finding_and_stops_no_other(
    world: World, outcome: Exception | float
) -> None:
    found = (await doctor(world, Odd(outcome), Calm(0), deadline=0.05).diagnosis()).findings
    assert [(each.check, each.severity) for each in found] == [("odd", Severity.ERROR), ("calm", Severity.OK)]
    assert "private" not in found[0].what


async def test_a_read_that_hangs_ends_with_the_diagnosis(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled = asyncio.Event()

    async def hang() -> Sequence[ObjectFacts]:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return []

    monkeypatch.setattr(world.inventory, "objects", hang)
    checks = world.doctor()._checks.values()
    found = (await doctor(world, *checks, deadline=0.05).diagnosis()).findings
    lost = {each.check for each in found if each.severity is Severity.ERROR}
    assert lost == {"keda", "releases", "revisions", "edits", "finalizers", "volumes"}
    assert cancelled.is_set()


async def test_callers_at_the_same_time_share_one_run_and_one_who_leaves_disturbs_nobody(world: World) -> None:
    check = Odd(0.01)
    several = doctor(world, check)
    callers = [asyncio.create_task(several.diagnosis()) for _ in range(3)]
    await asyncio.sleep(0)
    callers[0].cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    assert check.runs == 1
    await several.diagnosis()
    assert check.runs == 2


async def test_too_many_findings_of_one_kind_are_counted(world: World) -> None:
    found = (await doctor(world, Odd(10_000)).diagnosis()).findings
    assert len(found) == SHOWN + 1
    assert (found[-1].subject, str(10_000 - SHOWN) in found[-1].what) == ("others", True)


async def test_few_mends_run_at_the_same_time(world: World) -> None:
    check = Odd(0.01)
    several = doctor(world, check)
    mends = [asyncio.create_task(several.mend("odd", "x")) for _ in range(20)]
    await asyncio.sleep(0)
    assert check.runs <= 4
    assert {mended.outcome for mended in await asyncio.gather(*mends)} == {Outcome.GONE}


async def test_nothing_is_mended_that_no_check_finds(world: World) -> None:
    for check, subject in (("nonsense", "x"), ("records", "x"), ("records", "all"), ("redis-rights", "all")):
        assert (await world.doctor().mend(check, subject)).outcome is Outcome.GONE


async def test_what_is_kept_for_others_is_bounded_and_the_worst_of_it(world: World) -> None:
    class Talks(Check):
        name = "talks"
        fine = "It is silent."

        async def findings(self, survey: Survey) -> Sequence[Finding]:
            return [
                self.finding(str(number), Severity.ERROR, "x" * (KEPT_CHARACTERS // 10), meaning="m", next_step="n")
                for number in range(20)
            ]

    several = doctor(world, Calm(0), Talks())
    found = (await several.diagnosis()).findings
    kept = (await several.recall()).last
    assert kept is not None
    assert kept.findings[:9] == found[:9]
    assert [each.what for each in kept.findings[9:]] == [f"{len(found) - 9} more findings were too many to keep."]
    assert kept == world.diagnoses.kept.last


async def test_a_replica_that_died_while_it_looked_is_not_waited_for(world: World) -> None:
    several = doctor(world, Calm(0), deadline=5)
    await world.diagnoses.begin(ago(timedelta(seconds=9)))
    assert (await several.recall()).looking_since is not None
    await world.diagnoses.begin(ago(timedelta(seconds=11)))
    assert (await several.recall()).looking_since is None


async def test_others_know_that_it_looks_while_it_does(world: World) -> None:
    seen = []

    class Sees(Odd):
        async def findings(self, survey: Survey) -> Sequence[Finding]:
            await asyncio.sleep(0)
            seen.append((await doctor(world).recall()).looking_since)
            return []

    await doctor(world, Sees(0)).diagnosis()
    assert seen != [None]
    assert (await doctor(world).recall()).looking_since is None


class Held(Odd):
    """Ends when it is let go."""

    name = "held"

    def __init__(self) -> None:
        super().__init__(0)
        self.go = asyncio.Event()

    async def findings(self, survey: Survey) -> Sequence[Finding]:
        await self.go.wait()
        return []


async def test_a_run_says_which_checks_are_done_and_what_failed_before_it_is_over(world: World) -> None:
    held = Held()
    several = doctor(world, held, Odd(RedisUnavailable()), Calm(2))
    run = several.begin()
    assert (run.progress.done, run.progress.total) == (0, 3)
    assert set(run.progress.running) == {"held", "odd", "calm"}
    while run.progress.done < 2:
        await run.changed.wait()
    assert run.progress.running == ("held",)
    # Those that failed come first, at once.
    assert [(each.check, each.severity) for each in run.progress.faults] == [
        ("odd", Severity.ERROR), ("calm", Severity.WARNING), ("calm", Severity.WARNING),
    ]  # fmt: skip
    assert (several.begin(), several.running) == (run, run)
    over = run.changed
    held.go.set()
    found = await run.diagnosis()
    await over.wait()
    assert run.is_over
    assert run.progress.done == 3
    assert run.result is found
    assert several.begin() is not run
