"""The adapters for Kubernetes at an API server that answers nonsense, is too busy, or says nothing any more."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web

from service.adapters.kubernetes import api as kube_api
from service.adapters.kubernetes.api import KubeApi, connect
from service.adapters.kubernetes.cluster import KubeCluster
from service.adapters.kubernetes.cluster_facts import KubeClusterFacts
from service.adapters.kubernetes.election import KubeElection
from service.adapters.kubernetes.pod_events import KubePodEvents
from service.adapters.kubernetes.workload_cache import KubeWorkloadCache
from service.domain.cluster_facts import KedaOperator, Node
from service.domain.errors import ClusterUnavailable
from service.domain.names import SessionId
from service.domain.placement import Taint
from service.domain.progress import Stage
from tests.adapters import samples
from tests.adapters.samples import UUID, Json
from tests.waiting import until

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
SCHEDULE_TIMEOUT = timedelta(minutes=2)


class FakeApi:
    """An API server with one pod; `lists` and `watches` say what it answers instead of what it should."""

    def __init__(self) -> None:
        self.lists: Answer | None = None
        self.watches: Answer | None = None
        self.items: dict[str, list[Json]] = {"pods": [samples.pod()]}
        self.count: Counter[str] = Counter()
        self.timeouts: list[int] = []

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        watch = "watch" in request.query
        self.count["watch" if watch else "list"] += 1
        if watch:
            self.timeouts.append(int(request.query["timeoutSeconds"]))
        special = self.watches if watch else self.lists
        if special is not None:
            return await special(request)
        return await (silence(request) if watch else self.page(request))

    async def page(self, request: web.BaseRequest, **more: str) -> web.StreamResponse:
        items = self.items.get(request.path.rpartition("/")[2], [])
        return web.json_response({"items": items, "metadata": {"resourceVersion": "5", **more}})


async def silence(request: web.BaseRequest) -> web.StreamResponse:
    """A watch without any events."""
    response = web.StreamResponse()
    await response.prepare(request)
    while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110 - aiohttp has no event for it
        await asyncio.sleep(0.02)
    return response


def says(text: str, status: int = 200, **headers: str) -> Answer:
    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=text, status=status, headers=headers)

    return answer


@pytest.fixture
async def fake() -> AsyncIterator[FakeApi]:
    fake = FakeApi()
    runner = web.ServerRunner(web.Server(fake.handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    fake.port = runner.addresses[0][1]  # type: ignore[attr-defined]
    yield fake
    await runner.cleanup()


@pytest.fixture
async def kube(fake: FakeApi, tmp_path: Path) -> AsyncIterator[KubeApi]:
    config = tmp_path / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{fake.port}"}}  # type: ignore[attr-defined]
    config.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "clusters": [cluster],
                "users": [{"name": "u", "user": {"token": "t"}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            }
        )
    )
    async with await connect(config) as client:
        yield KubeApi(client, timeout=5)


@asynccontextmanager
async def following(kube: KubeApi) -> AsyncIterator[KubeWorkloadCache]:
    cache = KubeWorkloadCache(kube, namespace="users", schedule_timeout=SCHEDULE_TIMEOUT)
    async with cache.running():
        yield cache


def a_cluster(kube: KubeApi) -> KubeCluster:
    return KubeCluster(kube, namespace="users", keda_namespace="keda", schedule_timeout=SCHEDULE_TIMEOUT)


def some_facts(kube: KubeApi, *, allowed: bool = True) -> KubeClusterFacts:
    return KubeClusterFacts(kube, namespace="users", keda_namespace="keda", allowed=allowed)


NONSENSE = [
    "<html>maintenance</html>",
    "",
    "[]",
    "null",
    "7",
    '{"items": []}',
    '{"items": 7, "metadata": {"resourceVersion": "1"}}',
    '{"items": [], "metadata": {"resourceVersion": 1}}',
    '{"metadata": null}',
    "[" * 100_000,
]


@pytest.mark.parametrize("text", NONSENSE)
async def test_an_answer_that_does_not_come_from_the_api_counts_as_no_answer(
    fake: FakeApi, kube: KubeApi, text: str
) -> None:
    fake.lists = says(text)
    cluster = a_cluster(kube)
    for call in (lambda: cluster.read([UUID]), lambda: cluster.find("ann"), cluster.check):
        with pytest.raises(ClusterUnavailable):
            await call()
    with pytest.raises(ClusterUnavailable):
        await anext(aiter(KubePodEvents(kube, namespace="users").updates()))
    facts = some_facts(kube)
    for read in (facts.storage_classes, facts.autoscalers, facts.nodes):
        with pytest.raises(ClusterUnavailable):
            await read()


async def test_facts_that_the_service_has_no_right_to_see_are_unknown_and_no_error(
    fake: FakeApi, kube: KubeApi
) -> None:
    fake.lists = says("forbidden", 403)
    facts = some_facts(kube)
    assert (await facts.keda(), await facts.storage_classes(), await facts.autoscalers()) == (None, None, None)
    assert await facts.nodes() is None
    assert fake.count["list"] == 4
    # Who has not been given the right does not fill the audit log with refused calls.
    withheld = some_facts(kube, allowed=False)
    assert (await withheld.keda(), await withheld.storage_classes(), await withheld.autoscalers()) == (None, None, None)
    assert await withheld.nodes() is None
    assert fake.count["list"] == 4
    fake.lists = says("gone", 401)
    for read in (facts.keda, facts.storage_classes, facts.autoscalers, facts.nodes):
        with pytest.raises(ClusterUnavailable):
            await read()


def a_node(name: str, *, ready: str = "True", allocatable: Json | None = None, **spec: object) -> Json:
    had = {"cpu": "3920m", "memory": "16Gi", "pods": "110"}
    return {
        "metadata": {"name": name, "labels": {"pool": "users"}},
        "spec": spec,
        "status": {
            "allocatable": had if allocatable is None else allocatable,
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


async def test_nodes_say_what_they_have_for_pods_and_which_they_take(fake: FakeApi, kube: KubeApi) -> None:
    taints = [
        {"key": "a", "value": "b", "effect": "NoSchedule"},
        {"key": "c", "effect": "NoExecute"},
        {"key": "soft", "effect": "PreferNoSchedule"},
        7,
    ]
    fake.items["nodes"] = [
        a_node("plain"),
        a_node("cordoned", unschedulable=True),
        a_node("away", ready="Unknown"),
        a_node("tainted", taints=taints),
        a_node("odd", allocatable={"cpu": "lots", "memory": None, "pods": "-1"}, taints="x"),
        {"status": "x"},
    ]
    found = await some_facts(kube).nodes()
    assert found is not None
    whole = Node(name="plain", cpu=3.92, memory=16, pods=110, labels={"pool": "users"})
    assert list(found) == [
        whole,
        replace(whole, name="cordoned", usable=False),
        replace(whole, name="away", usable=False),
        replace(whole, name="tainted", taints=(Taint("a", "b", "NoSchedule"), Taint("c", "", "NoExecute"))),
        replace(whole, name="odd", cpu=0, memory=0, pods=0),
        Node(name="", cpu=0, memory=0, pods=0, usable=False),
    ]


@pytest.mark.parametrize(
    ("image", "label", "version"),
    [
        ("ghcr.io/kedacore/keda:2.21.0", None, "2.21.0"),
        ("mirror.example.com:5000/keda:v2.15.1-debug@sha256:1", "2.14.0", "2.15.1"),
        ("mirror.example.com:5000/keda@sha256:1", "2.14.0", "2.14.0"),
        ("ghcr.io/kedacore/keda:main", None, None),
        (7, "latest", None),
    ],
)
async def test_keda_s_version_is_that_of_its_image_or_of_its_chart(
    fake: FakeApi, kube: KubeApi, image: object, label: str | None, version: str | None
) -> None:
    containers = [{"name": "proxy", "image": "proxy:9.9.9"}, {"name": "keda-operator", "image": image}]
    deployment = {
        "metadata": {"labels": {"app.kubernetes.io/version": label}},
        "spec": {"template": {"spec": {"containers": containers}}},
    }
    fake.lists = says(json.dumps(deployment))
    assert await some_facts(kube).keda() == KedaOperator(version)
    fake.lists = says("not found", 404)
    assert await some_facts(kube).keda() == KedaOperator(None)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_an_api_server_that_answers_5xx_is_reported_at_once(fake: FakeApi, kube: KubeApi, status: int) -> None:
    fake.lists = says("etcdserver: request timed out", status)
    with pytest.raises(ClusterUnavailable):
        await a_cluster(kube).check()
    assert fake.count["list"] == 1


@pytest.mark.parametrize("text", ["<html>", "[]", "7", '{"metadata": 7}', '{"metadata": {"name": "x"}, "spec": {}}'])
async def test_an_election_with_an_invalid_lease_is_undecided(fake: FakeApi, kube: KubeApi, text: str) -> None:
    fake.lists = says(text)
    with pytest.raises(ClusterUnavailable):
        await KubeElection(
            kube, namespace="users", identity="me", lease_duration=timedelta(seconds=10)
        ).acquire_or_renew()


@pytest.mark.parametrize("duration", [None, "long", -1, True, [], 1e300])
async def test_a_lease_with_an_invalid_duration_is_taken_over(fake: FakeApi, kube: KubeApi, duration: object) -> None:
    lease = {"holderIdentity": "other", "leaseDurationSeconds": duration, "leaseTransitions": duration}
    fake.lists = says(json.dumps({"metadata": {"name": "l", "resourceVersion": "3"}, "spec": lease}))
    assert await KubeElection(
        kube, namespace="users", identity="me", lease_duration=timedelta(seconds=10)
    ).acquire_or_renew()


async def test_a_list_whose_next_page_has_expired_starts_over_without_an_error(fake: FakeApi, kube: KubeApi) -> None:
    async def broken(request: web.BaseRequest) -> web.StreamResponse:
        if "continue" in request.query:
            return web.json_response({"kind": "Status", "code": 410}, status=410)
        return await fake.page(request, **{"continue": "abc"})

    async def heals(request: web.BaseRequest) -> web.StreamResponse:
        return await (broken(request) if fake.count["list"] < 11 else fake.page(request))

    fake.lists = broken
    with pytest.raises(ClusterUnavailable):
        [workload async for workload in a_cluster(kube).scan()]
    fake.count.clear()
    fake.lists = heals
    assert (await a_cluster(kube).read([UUID]))[UUID].pod is not None


@pytest.mark.parametrize(
    "answer",
    [
        says(json.dumps({"type": "ERROR", "object": {"kind": "Status", "code": 410}}) + "\n"),
        says(""),
        says("<html>maintenance</html>\n"),
        says('{"type": "MODIFIED"}\n{"type": null}\n'),
        says("busy", 429),
        says("gone", 410),
    ],
    ids=["too old", "ends at once", "html", "no object", "busy", "gone"],
)
async def test_a_watch_that_keeps_breaking_is_restarted_with_growing_pauses(
    fake: FakeApi, kube: KubeApi, answer: Answer
) -> None:
    fake.watches = answer
    async with following(kube) as cache:
        await cache.wait_synced()
        await asyncio.sleep(1.5)
        assert fake.count["list"] <= 30
        assert fake.count["watch"] <= 60
        fake.watches = None
        await until(lambda: cache.behind() is None, 10)


@pytest.mark.parametrize("silent", [0.0, 0.3], ids=["refused", "cut off while silent"])
async def test_the_cache_falls_further_behind_while_a_watch_keeps_failing(
    fake: FakeApi, kube: KubeApi, silent: float
) -> None:
    """Ends with the first event, or once a silent watch has held for a while."""

    async def fails(request: web.BaseRequest) -> web.StreamResponse:
        if not silent:
            return web.Response(status=500)
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.sleep(silent)
        assert request.transport is not None
        request.transport.abort()
        return response

    fake.watches = fails
    async with following(kube) as cache:
        await cache.wait_synced()
        await until(lambda: cache.behind() is not None)
        begun, behind = asyncio.get_running_loop().time(), [timedelta()]
        while asyncio.get_running_loop().time() - begun < 2:
            found = cache.behind()
            assert found is not None
            behind.append(found)
            await asyncio.sleep(0.02)
        assert behind == sorted(behind), "it began anew"
        assert behind[-1] >= timedelta(seconds=1.9)
        assert fake.count["watch"] >= 15
        fake.watches = says(json.dumps({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "8"}}}) + "\n")
        await until(lambda: cache.behind() is None, 5)


async def test_a_quiet_watch_is_not_behind(fake: FakeApi, kube: KubeApi) -> None:
    fake.watches = says("", 500)
    async with following(kube) as cache:
        await cache.wait_synced()
        await until(lambda: cache.behind() is not None)
        fake.watches = None
        await until(lambda: cache.behind() is None, 10)


async def test_the_retry_after_of_the_api_server_is_respected(fake: FakeApi, kube: KubeApi) -> None:
    async with following(kube) as cache:
        await cache.wait_synced()
        fake.watches = says("busy", 429, **{"Retry-After": "30"})
    async with following(kube) as cache:
        await cache.wait_synced()
        await asyncio.sleep(1)
        before = fake.count["watch"]
        await asyncio.sleep(1)
        assert fake.count["watch"] == before


async def test_a_throttled_request_is_repeated_after_the_time_that_the_api_server_gives(
    fake: FakeApi, kube: KubeApi
) -> None:
    async def once(request: web.BaseRequest) -> web.StreamResponse:
        if fake.count["list"] == 1:
            return web.Response(status=429, headers={"Retry-After": "1"})
        return web.json_response({"metadata": {"name": "x"}})

    fake.lists = once
    begun = asyncio.get_running_loop().time()
    assert await kube.patch("/x", {})
    assert asyncio.get_running_loop().time() - begun >= 1
    fake.lists = says("", 429, **{"Retry-After": "40"})
    with pytest.raises(ClusterUnavailable) as refused:
        await kube.patch("/x", {})
    assert refused.value.retry_after == 40


async def test_a_half_open_watch_is_detected(fake: FakeApi, kube: KubeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kube_api._WATCH_SECONDS[1] + kube_api._WATCH_GRACE < 60
    monkeypatch.setattr(kube_api, "_WATCH_SECONDS", (1, 1))
    monkeypatch.setattr(kube_api, "_WATCH_GRACE", 0)
    async with following(kube) as cache:
        await cache.wait_synced()
        moved = samples.pod(podIP="10.0.0.9")
        moved["metadata"]["resourceVersion"] = "6"

        async def tells(request: web.BaseRequest) -> web.StreamResponse:
            if not request.path.endswith("/pods") or request.query["resourceVersion"] != "5":
                return await silence(request)
            return web.Response(text=json.dumps({"type": "MODIFIED", "object": moved}) + "\n")

        fake.watches = tells  # the watches under way stay silent for ever
        await until(lambda: (pod := cache.workload(UUID).pod) is not None and pod.address == "10.0.0.9", 10)
    assert set(fake.timeouts) == {1}


async def test_an_invalid_object_does_not_stop_the_watch(fake: FakeApi, kube: KubeApi) -> None:
    odd = samples.deployment(uuid="oddodd00", replicas=None)
    odd["metadata"]["resourceVersion"] = "6"
    nothing = {"metadata": None}
    fake.items["deployments"] = [samples.deployment(replicas=1), odd, nothing]

    async def tells(request: web.BaseRequest) -> web.StreamResponse:
        if not request.path.endswith("/deployments") or request.query["resourceVersion"] != "5":
            return await silence(request)
        fine = samples.deployment(replicas=0)
        fine["metadata"]["resourceVersion"] = "7"
        changes = [("MODIFIED", odd), ("ADDED", nothing), ("MODIFIED", fine)]
        lines = (json.dumps({"type": change, "object": item}) for change, item in changes)
        return web.Response(text="\n".join(lines) + "\n")

    fake.watches = tells
    async with following(kube) as cache:
        await cache.wait_synced()
        await until(lambda: cache.workload(UUID).replicas == 0, 5)
        assert "spec.replicas" in (cache.workload(SessionId("oddodd00")).read_error or "")
        assert cache.workload(UUID).read_error is None
        assert cache.breaks["lost"] == cache.breaks["expired"] == 0
        assert cache.breaks["unreadable"] >= 1
        assert fake.count["list"] == 5


async def test_invalid_pod_events_are_ignored(fake: FakeApi, kube: KubeApi) -> None:
    good = {
        "metadata": {"resourceVersion": "9"},
        "involvedObject": {"name": f"user-{UUID}-x", "uid": "pod-1"},
        "type": "Warning",
        "message": None,
    }
    events = [{}, {"involvedObject": None}, {"involvedObject": {"name": 7}}, good]
    fake.watches = says("".join(json.dumps({"type": "ADDED", "object": event}) + "\n" for event in events))
    uuid, uid, update = await asyncio.wait_for(anext(aiter(KubePodEvents(kube, namespace="users").updates())), 5)
    assert (uuid, uid, update.stage, update.reason) == (UUID, "pod-1", Stage.WARNING, "Unknown: ")
