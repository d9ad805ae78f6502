"""What the domain relies on in a Cluster and in Releases: in memory, and on the real API with the service's rights."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from kubernetes.aio.client import ApiClient

from devcluster.cluster import Cluster as Devcluster
from service.adapters.helm.releases import HelmReleases
from service.adapters.kubernetes.api import KubeApi, connect
from service.adapters.kubernetes.cluster import KubeCluster
from service.adapters.kubernetes.workload_cache import KubeWorkloadCache
from service.domain.errors import ClusterUnavailable, IdTaken, SessionReleased
from service.domain.idle_times import IdleTimes
from service.domain.names import SessionId, new_session_id
from service.domain.ports import Cluster, Releases, WorkloadCache
from service.domain.profiles import Profile, Profiles
from service.domain.release import ReleaseState
from service.domain.workload import Assignment
from stack.stack import ROOT, SERVICE, SYSTEM, USERS, Stack
from tests.fakes import MemoryCluster, MemoryReleases
from tests.waiting import until

Parts = tuple[Cluster, Releases]
IDLE_TIMES = IdleTimes(lease=timedelta(seconds=12.5), cooldown=timedelta(seconds=90), poll=timedelta(seconds=5))


def real_releases(cluster: Devcluster, helm: str, kubeconfig: Path) -> HelmReleases:
    values = yaml.safe_load((cluster.state / "config" / "user-pod.yaml").read_text())
    values["redis"]["address"] = f"127.0.0.1:{cluster.redis_port}"
    return HelmReleases(
        helm=str(cluster.tools.path(helm)),
        chart=ROOT / "chart" / "user-pod",
        values={**values, "persistence": {"enabled": True}},
        namespace=USERS,
        kubeconfig=kubeconfig,
        timeout=timedelta(seconds=20),
        profiles=Profiles([Profile(name="small")]),
    )


def kube_cluster(api: ApiClient) -> KubeCluster:
    kube = KubeApi(api, timeout=5)
    return KubeCluster(kube, namespace=USERS, keda_namespace="keda", schedule_timeout=timedelta(minutes=2))


@pytest.fixture(
    params=["memory", pytest.param("helm", marks=pytest.mark.cluster), pytest.param("helm3", marks=pytest.mark.cluster)]
)
async def parts(request: pytest.FixtureRequest) -> AsyncIterator[Parts]:
    if request.param == "memory":
        cluster = MemoryCluster()
        yield cluster, MemoryReleases(cluster)
        return
    stack: Stack = request.getfixturevalue("stack")
    stack.cluster.stop(stack.name)  # the service itself would park what these tests make
    kubeconfig = stack.cluster.service_account(SYSTEM, SERVICE)
    async with await connect(kubeconfig) as api:
        kube = kube_cluster(api)
        yield kube, real_releases(stack.cluster, request.param, kubeconfig)


@pytest.fixture
def uuid() -> SessionId:
    return new_session_id()


async def test_an_unused_id_has_no_objects(parts: Parts, uuid: SessionId) -> None:
    workload = (await parts[0].read([uuid]))[uuid]
    assert (workload.exists, workload.released, workload.user_id) == (False, True, None)
    assert await parts[0].read([]) == {}


async def test_a_reservation_belongs_to_one_user(parts: Parts, uuid: SessionId) -> None:
    cluster, _ = parts
    user = f"ann-{uuid}"
    await cluster.reserve(uuid, user)
    await cluster.reserve(uuid, user)
    with pytest.raises(IdTaken):
        await cluster.reserve(uuid, "bob")
    workload = (await cluster.read([uuid]))[uuid]
    assert (workload.deployed, workload.release, workload.replicas, workload.user_id) == (True, None, 0, user)
    assert await cluster.find(user) == uuid
    await cluster.unreserve(uuid)
    await cluster.unreserve(uuid)
    assert await cluster.find(user) is None


async def test_an_install_adopts_the_reservation_without_waking_it(parts: Parts, uuid: SessionId) -> None:
    cluster, releases = parts
    user = f"ann-{uuid}"
    assigned = Assignment(profile="small", group="staff", idle_times=IDLE_TIMES)
    await cluster.reserve(uuid, user, assigned)
    assert (await cluster.read([uuid]))[uuid].assignment == assigned
    await releases.install(uuid, user, IDLE_TIMES, assigned)
    workload = (await cluster.read([uuid]))[uuid]
    assert workload.assignment == assigned
    assert workload.release is not None
    assert (workload.release.name, workload.release.revision) == (f"user-{uuid}", 1)
    assert workload.release.state is ReleaseState.DEPLOYED
    assert (workload.replicas, workload.has_scaler, workload.broken_reason, workload.user_id) == (0, True, None, user)
    assert (workload.chart, workload.idle_times, workload.parked) == ("user-pod-0.1.0", IDLE_TIMES, False)
    assert uuid in [found.uuid async for found in cluster.scan()]
    await releases.uninstall(uuid)
    await releases.uninstall(uuid)
    left = (await cluster.read([uuid]))[uuid]
    kept = replace(assigned, idle_times=None)  # the volume has the labels alone
    assert (left.released, left.volume, left.user_id, left.assignment) == (True, True, user, kept)
    assert await cluster.find(user) == uuid
    await cluster.delete_volume(uuid)
    await cluster.delete_volume(uuid)
    assert await cluster.find(user) is None


async def test_a_volume_that_is_being_deleted_no_longer_belongs_to_its_user(stack: Stack, uuid: SessionId) -> None:
    user, kubectl = f"ann-{uuid}", stack.cluster.kubectl
    kubeconfig = stack.cluster.service_account(SYSTEM, SERVICE)
    async with await connect(kubeconfig) as api:
        cluster = kube_cluster(api)
        releases = real_releases(stack.cluster, "helm", kubeconfig)
        await releases.install(uuid, user, IDLE_TIMES)
        await releases.uninstall(uuid)
        hold = '{"metadata":{"finalizers":["user-pods/test"]}}'
        kubectl("-n", USERS, "patch", "pvc", f"user-{uuid}", "--type=merge", "-p", hold)
        assert await cluster.find(user) == uuid
        await cluster.delete_volume(uuid)
        assert await cluster.find(user) is None
        assert not (await cluster.read([uuid]))[uuid].volume
        kubectl("-n", USERS, "patch", "pvc", f"user-{uuid}", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')


async def test_a_second_install_adds_a_revision(parts: Parts, uuid: SessionId) -> None:
    cluster, releases = parts
    await cluster.reserve(uuid, "ann")
    await releases.install(uuid, "ann", IDLE_TIMES)
    await releases.install(uuid, "ann", IDLE_TIMES)
    assert not await cluster.disown(uuid, ["kubectl"]), "nobody else has set anything"
    release = (await cluster.read([uuid]))[uuid].release
    assert release is not None
    assert release.revision == 2
    await releases.uninstall(uuid)
    await cluster.delete_volume(uuid)


async def test_a_session_can_be_parked_unparked_and_scaled(parts: Parts, uuid: SessionId) -> None:
    cluster, releases = parts
    await cluster.park(uuid)  # there is nothing to park, and that is fine
    await cluster.reserve(uuid, "ann")
    await releases.install(uuid, "ann", IDLE_TIMES)
    for _ in range(2):
        await cluster.park(uuid)
        assert (await cluster.read([uuid]))[uuid].parked
    await cluster.scale(uuid, 1)
    assert (await cluster.read([uuid]))[uuid].replicas == 1
    await cluster.scale(uuid, 0)
    for _ in range(2):
        await cluster.unpark(uuid)
        assert not (await cluster.read([uuid]))[uuid].parked
    await releases.uninstall(uuid)
    await cluster.delete_volume(uuid)


async def test_a_revocation_lasts_through_an_upgrade_and_ends_with_the_deployment(
    parts: Parts, uuid: SessionId, cache: WorkloadCache
) -> None:
    cluster, releases = parts
    at = datetime(2026, 3, 2, 9, 30, 15, 600_000, tzinfo=UTC)
    await cluster.revoke(uuid, at)  # there is nothing to revoke, and that is fine
    await cluster.reserve(uuid, "ann")
    await releases.install(uuid, "ann", IDLE_TIMES)
    assert (await cluster.read([uuid]))[uuid].revoked_at is None
    for moment in (at, at + timedelta(hours=1)):
        await cluster.revoke(uuid, moment)
        await releases.install(uuid, "ann", IDLE_TIMES)
        revoked = moment.replace(microsecond=0)
        assert (await cluster.read([uuid]))[uuid].revoked_at == revoked
        await until(lambda: cache.workload(uuid).revoked_at == revoked, 10)  # noqa: B023 - it is called at once
    await releases.uninstall(uuid)
    assert (await cluster.read([uuid]))[uuid].revoked_at is None
    await cluster.reserve(uuid, "ann")
    again = (await cluster.read([uuid]))[uuid]
    assert again.revoked_at is None
    assert again.created_at is not None
    assert again.earliest_sign_in == int(again.created_at.timestamp())
    await cluster.unreserve(uuid)
    await cluster.delete_volume(uuid)


async def test_the_service_marks_its_parks_to_distinguish_them_from_an_operators_pause(
    stack: Stack, uuid: SessionId
) -> None:
    paused, mark = "autoscaling.keda.sh/paused", "user-pods/parked"
    kubeconfig = stack.cluster.service_account(SYSTEM, SERVICE)
    stack.cluster.stop(stack.name)  # the service itself would park what this test makes

    def kubectl(*arguments: str) -> str:
        return stack.cluster.kubectl("-n", USERS, *arguments)

    def notes() -> dict[str, str]:
        found = json.loads(kubectl("get", "scaledobject", f"user-{uuid}-scaler", "-o", "json"))
        return {name: found["metadata"]["annotations"].get(name, "") for name in (paused, mark)}

    async with await connect(kubeconfig) as api:
        cluster, releases = kube_cluster(api), real_releases(stack.cluster, "helm", kubeconfig)

        async def is_parked_and_paused() -> tuple[bool, bool]:
            workload = (await cluster.read([uuid]))[uuid]
            return workload.parked, workload.paused is not None

        async def annotated(*arguments: str) -> tuple[bool, bool]:
            await asyncio.to_thread(kubectl, "annotate", "scaledobject", f"user-{uuid}-scaler", *arguments)
            return await is_parked_and_paused()

        await cluster.reserve(uuid, "ann")
        await releases.install(uuid, "ann", IDLE_TIMES)
        await cluster.park(uuid)
        assert (notes(), await is_parked_and_paused()) == ({paused: "true", mark: "true"}, (True, False))
        # Another value makes a pause of the operator's own out of the park.
        assert await annotated(f"{paused}=True", "--overwrite") == (False, True)
        await cluster.unpark(uuid)
        assert (notes(), await is_parked_and_paused()) == ({paused: "", mark: ""}, (False, False))
        assert await annotated(f"{paused}=true") == (False, True)
        await cluster.park(uuid)  # a park that was under way changes nothing about that
        assert await is_parked_and_paused() == (False, True)
        assert await annotated(f"{paused}-") == (False, False)
        assert await annotated(f"{paused}-", f"{mark}-") == (False, False)
        # A version of the service that knew no mark was called this by the API server.
        assert await annotated(f"{paused}=true", "--field-manager=OpenAPI-Generator") == (True, False)
        await releases.uninstall(uuid)
        await cluster.delete_volume(uuid)


async def test_the_cache_follows_changes(parts: Parts, uuid: SessionId, cache: WorkloadCache) -> None:
    cluster, releases = parts
    told: list[SessionId] = []
    unsubscribe = cache.subscribe(told.append)
    await cluster.reserve(uuid, "ann")
    await releases.install(uuid, "ann", IDLE_TIMES)
    await cluster.park(uuid)
    await until(lambda: cache.workload(uuid).parked and cache.workload(uuid).volume, 10)
    async with asyncio.timeout(10):  # KEDA may have something to say in between
        while cache.workload(uuid) != (await cluster.read([uuid]))[uuid]:  # noqa: ASYNC110 - the other side is asked
            await asyncio.sleep(0.05)
    assert uuid in cache.uuids()
    assert uuid in told
    assert cache.behind() is None
    await releases.uninstall(uuid)
    await cluster.delete_volume(uuid)
    await until(lambda: uuid not in cache.uuids(), 10)
    assert not cache.workload(uuid).exists
    unsubscribe()


@pytest.fixture
async def cache(parts: Parts, request: pytest.FixtureRequest) -> AsyncIterator[WorkloadCache]:
    if isinstance(parts[0], MemoryCluster):
        yield parts[0]
        return
    stack: Stack = request.getfixturevalue("stack")
    async with await connect(stack.cluster.service_account(SYSTEM, SERVICE)) as api:
        cache = KubeWorkloadCache(KubeApi(api, timeout=5), namespace=USERS, schedule_timeout=timedelta(minutes=2))
        async with cache.running():
            await cache.wait_synced()
            yield cache


async def test_a_missing_deployment_cannot_be_scaled(parts: Parts, uuid: SessionId) -> None:
    with pytest.raises(SessionReleased):
        await parts[0].scale(uuid, 0)


async def test_all_checks_pass_on_a_healthy_cluster(parts: Parts) -> None:
    cluster, releases = parts
    await cluster.check()
    await cluster.check_keda()
    await releases.check()


async def test_an_unreachable_api_server_is_named(tmp_path: Path, stack: Stack) -> None:
    config = yaml.safe_load(stack.cluster.service_account(SYSTEM, SERVICE).read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    away = tmp_path / "kubeconfig"
    away.write_text(yaml.safe_dump(config))
    async with await connect(away) as api:
        with pytest.raises(ClusterUnavailable):
            await kube_cluster(api).check()
