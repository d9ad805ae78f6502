"""What helm's own words are taken to mean, held to the real programs; how helm is ended."""

import asyncio
import base64
import gzip
import json
import re
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pyhelm3.errors
import pytest

from devcluster.cluster import Cluster
from devcluster.toolchain import Tools
from service.adapters.helm.chart_revision import revision_of
from service.adapters.helm.reasons import Conflict, conflicts_of, reason_of
from service.adapters.helm.releases import HelmReleases
from service.domain.errors import (
    ChartInvalid,
    ClusterUnavailable,
    HelmTimeout,
    HelmUnavailable,
    InstallFailed,
    SessionBusy,
    UpgradeConflict,
    UpgradeFailed,
    causes,
)
from service.domain.idle_times import IdleTimes
from service.domain.names import SessionId, new_session_id
from service.domain.profiles import Profile, Profiles
from service.domain.workload import UNASSIGNED, Assignment, Workload
from stack.stack import ROOT

CHART = ROOT / "chart" / "user-pod"
GOOD = {"redis": {"address": "redis.example:6379"}}


def releases(helm: Path, **other: object) -> HelmReleases:
    arguments: dict[str, object] = {
        "helm": str(helm),
        "chart": CHART,
        "values": GOOD,
        "namespace": "default",
        "kubeconfig": None,
        "timeout": timedelta(seconds=20),
        **other,
    }
    return HelmReleases(**arguments)  # type: ignore[arg-type]


@pytest.fixture(params=["helm", "helm3"])
def helm(request: pytest.FixtureRequest, tools: Tools) -> Path:
    return tools.path(request.param)


def broken_chart(folder: Path, template: str) -> Path:
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text("apiVersion: v2\nname: broken\nversion: 0.1.0\n")
    (folder / "templates" / "object.yaml").write_text(template)
    return folder


@pytest.mark.parametrize(
    "template",
    [
        "{{ nonsense }}",
        "{{ if }}",
        "a: [",
        '{{ fail "no" }}',
        "{{ .Values.a.b.c }}",
        "apiVersion: no/v1\nkind: Such\nmetadata: {name: x}",
    ],
)
async def test_a_chart_that_cannot_be_rendered_is_invalid(
    helm: Path, cluster: Cluster, tmp_path: Path, template: str
) -> None:
    chart = broken_chart(tmp_path / "chart", template)
    with pytest.raises(ChartInvalid):
        await releases(helm, chart=chart, kubeconfig=cluster.kubeconfig).install(new_session_id(), "ann", IdleTimes())


@pytest.mark.parametrize("content", [None, ""])
async def test_a_missing_chart_is_invalid(helm: Path, tmp_path: Path, content: str | None) -> None:
    chart = tmp_path / "chart"
    if content is not None:
        chart.mkdir()
    with pytest.raises(ChartInvalid):
        await releases(helm, chart=chart).check()


async def test_values_that_violate_the_schema_make_the_chart_invalid(helm: Path) -> None:
    with pytest.raises(ChartInvalid):
        await releases(helm, values={**GOOD, "port": "eighty"}).check()


async def test_the_values_of_a_profile_are_checked_by_the_chart(helm: Path) -> None:
    good = Profile(name="large", values={"resources": {"limits": {"memory": "8Gi"}}})
    bad = Profile(name="bad", values={"port": "eighty"})
    all_of_them = releases(helm, profiles=Profiles([good, bad], default="large"))
    await all_of_them.check()
    await all_of_them.check_profile(good)
    with pytest.raises(ChartInvalid) as refused:
        await all_of_them.check_profile(bad)
    assert "port" in (causes(refused.value) or "")


async def test_an_unreachable_cluster_is_named(helm: Path, cluster: Cluster, tmp_path: Path) -> None:
    away = tmp_path / "kubeconfig"
    away.write_text(cluster.kubeconfig.read_text().replace(cluster.server, "https://127.0.0.1:9"))
    with pytest.raises(ClusterUnavailable):
        await releases(helm, kubeconfig=away).install(new_session_id(), "ann", IdleTimes())


async def test_an_install_that_the_cluster_rejects_fails(helm: Path, cluster: Cluster) -> None:
    with pytest.raises(InstallFailed):
        await releases(helm, kubeconfig=cluster.kubeconfig, namespace="nowhere").install(
            new_session_id(), "ann", IdleTimes()
        )


async def test_two_helm_runs_on_one_release_are_reported_as_a_conflict(helm: Path, cluster: Cluster) -> None:
    uuid = new_session_id()
    both = releases(helm, kubeconfig=cluster.kubeconfig)
    await both.install(uuid, "ann", IdleTimes())
    newest = f"sh.helm.release.v1.user-{uuid}.v1"
    cluster.kubectl("-n", "default", "label", "--overwrite", "secret", newest, "status=pending-upgrade")
    secret = cluster.kubectl("-n", "default", "get", "secret", newest, "-o", "jsonpath={.data.release}")
    cluster.kubectl("-n", "default", "patch", "secret", newest, "-p", pending(secret))
    with pytest.raises(SessionBusy):
        await both.install(uuid, "ann", IdleTimes())
    await both.uninstall(uuid)


def pending(release: str) -> str:
    """The Secret's patch that makes helm believe that an upgrade is under way."""
    inner = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(release))))
    inner["info"]["status"] = "pending-upgrade"
    packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(inner).encode()))).decode()
    return json.dumps({"data": {"release": packed}})


def deployed(cluster: Cluster, uuid: SessionId) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        cluster.kubectl("-n", "default", "get", "deployment", f"user-{uuid}", "-o", "json")
    )
    return found


def shown(cluster: Cluster, uuid: SessionId) -> tuple[str, str | None, int]:
    """The image, the revision and the replicas."""
    found = deployed(cluster, uuid)
    image = found["spec"]["template"]["spec"]["containers"][0]["image"]
    return image, found["metadata"]["annotations"].get("user-pods/revision"), found["spec"]["replicas"]


TIMES = IdleTimes(cooldown=timedelta(seconds=777), poll=timedelta(seconds=7), lease=timedelta(seconds=21.5))


@pytest.mark.parametrize("replicas", [0, 1])
async def test_an_upgrade_changes_the_values_of_all_and_nothing_of_the_session(
    helm: Path, cluster: Cluster, replicas: int
) -> None:
    uuid, old = new_session_id(), releases(helm, kubeconfig=cluster.kubeconfig)
    await old.install(uuid, "ann", TIMES)
    cluster.kubectl("-n", "default", "scale", "deployment", f"user-{uuid}", f"--replicas={replicas}")
    new = releases(helm, kubeconfig=cluster.kubeconfig, values={**GOOD, "image": {"tag": "new"}})
    before = shown(cluster, uuid)
    assert (before[1], before[2]) == (old.target, replicas)
    await new.upgrade(Workload(uuid, user_id="ann", idle_times=TIMES))
    assert shown(cluster, uuid) == ("docker.io/codercom/code-server:new", new.target, replicas)
    assert old.target != new.target
    scaler = json.loads(cluster.kubectl("-n", "default", "get", "scaledobject", f"user-{uuid}-scaler", "-o", "json"))
    assert (scaler["spec"]["cooldownPeriod"], scaler["spec"]["pollingInterval"]) == (777, 7)
    assert scaler["metadata"]["annotations"]["user-pods/lease"] == "21.5"
    assert deployed(cluster, uuid)["metadata"]["annotations"]["user-pods/user-id"] == "ann"
    await new.rollback(uuid, 1)
    assert shown(cluster, uuid) == before
    await new.uninstall(uuid)


async def test_an_upgrade_that_the_cluster_refuses_says_why_and_can_be_rolled_back(
    helm: Path, cluster: Cluster
) -> None:
    uuid, old = new_session_id(), releases(helm, kubeconfig=cluster.kubeconfig)
    await old.install(uuid, "ann", IdleTimes())
    cluster.kubectl("-n", "default", "scale", "deployment", f"user-{uuid}", "--replicas=0")
    before = shown(cluster, uuid)
    # The label's value is too long for the API server, which says so and repeats it.
    secret = "s3cret-" * 12
    bad = releases(helm, kubeconfig=cluster.kubeconfig, values={**GOOD, "podLabels": {"note": secret}})
    with pytest.raises(UpgradeFailed, match="nvalid value: must be no more than 63") as raised:
        await bad.upgrade(Workload(uuid, user_id="ann", idle_times=IdleTimes()))
    assert "s3cret" not in str(raised.value)
    await bad.rollback(uuid, 1)
    assert shown(cluster, uuid) == before
    with pytest.raises(UpgradeFailed, match="could not roll the release back"):
        await bad.rollback(uuid, 77)
    await bad.uninstall(uuid)


async def test_what_somebody_has_changed_by_hand_is_not_overwritten(tools: Tools, cluster: Cluster) -> None:
    helm, uuid = tools.path("helm"), new_session_id()
    old = releases(helm, kubeconfig=cluster.kubeconfig)
    await old.install(uuid, "ann", IdleTimes())
    cluster.kubectl("-n", "default", "set", "image", f"deployment/user-{uuid}", "workspace=by/hand:1")
    new = releases(helm, kubeconfig=cluster.kubeconfig, values={**GOOD, "image": {"tag": "new"}})
    with pytest.raises(UpgradeConflict) as raised:
        await new.upgrade(Workload(uuid, user_id="ann", idle_times=IdleTimes()))
    image = '.spec.template.spec.containers[name="workspace"].image'
    assert f"because kubectl-set has set {image} of deployment/user-{uuid}" in str(raised.value)
    assert raised.value.managers == {"kubectl-set"}
    assert shown(cluster, uuid)[0] == "by/hand:1"
    await new.uninstall(uuid)


def test_the_revision_follows_what_releases_are_made_from(tmp_path: Path) -> None:
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("name: x")
    (chart / "templates" / "a.yaml").write_text("a")
    first = revision_of(chart, {"a": 1, "b": {"c": 2}})
    assert re.fullmatch("[0-9a-f]{12}", first)
    assert revision_of(chart, {"b": {"c": 2}, "a": 1}) == first
    (chart / "README.md").write_text("words")
    assert revision_of(chart, {"a": 1, "b": {"c": 2}}) == first
    assert revision_of(chart, {"a": 1, "b": {"c": 3}}) != first
    (chart / "templates" / "a.yaml").rename(chart / "templates" / "b.yaml")
    assert revision_of(chart, {"a": 1, "b": {"c": 2}}) != first
    assert revision_of(tmp_path / "none", {}) == revision_of(tmp_path / "nothing", {})


def test_each_profile_has_a_revision_of_its_own() -> None:
    def made(memory: str | None) -> HelmReleases:
        profiles = [Profile(name="large", values={"resources": {"limits": {"memory": memory}}})] if memory else []
        return releases(Path("helm"), profiles=Profiles(profiles))

    none, small, large = made(None), made("1Gi"), made("8Gi")
    of_large = Assignment(profile="large")
    assert none.target == none.revision(UNASSIGNED) == small.revision(UNASSIGNED) == large.revision(UNASSIGNED)
    assert len({none.target, small.target, large.target, small.revision(of_large), large.revision(of_large)}) == 5
    assert none.revision(of_large) is None


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        ("level=WARN x\nError: UPGRADE FAILED: no quota\n", "no quota"),
        ('Error: spec: Invalid value: "a \\"b\\" c": field is immutable', "spec: Invalid value: field is immutable"),
        ('Error: x: Invalid value: {"a":{"b":1}}: no', "x: Invalid value: no"),
        ("Error: x: Unsupported value: abc: supported values: 1", "x: Unsupported value: supported values: 1"),
        ("", "it gave no reason"),
    ],
)
def test_a_reason_is_one_line_without_values(stderr: str, reason: str) -> None:
    assert reason_of(pyhelm3.errors.Error(1, b"", stderr.encode())) == reason


def test_every_conflict_is_read_with_all_of_its_fields() -> None:
    start = "conflict occurred while applying object users/user-abc123xy"
    stderr = f"""level=WARN msg="upgrade failed" name=user-abc123xy
Error: UPGRADE FAILED: {start} /v1, Kind=Service: Apply failed with 1 conflict: conflict with "a b": .spec.type
{start} apps/v1, Kind=Deployment: Apply failed with 3 conflicts: conflicts with "kubectl":
- .metadata.annotations.user-pods/revision
- .spec.template.spec.containers[name="workspace"].image
conflicts with "other" using apps/v1:
- .spec.minReadySeconds
and more
- of this"""
    deployment = "deployment/user-abc123xy"
    image = '.spec.template.spec.containers[name="workspace"].image'
    assert conflicts_of(pyhelm3.errors.Error(1, b"", stderr.encode())) == [
        Conflict("a b", "service/user-abc123xy", (".spec.type",)),
        Conflict("kubectl", deployment, (".metadata.annotations.user-pods/revision", image)),
        Conflict("other", deployment, (".spec.minReadySeconds",)),
    ]
    assert str(Conflict("a", "b", tuple("1234567"))) == "a has set 1, 2, 3, 4, 5 and 2 more of b"
    assert conflicts_of(None) == conflicts_of(pyhelm3.errors.Error(1, b"", b"Error: no")) == []


async def test_uninstalling_a_missing_release_succeeds(helm: Path, cluster: Cluster) -> None:
    await releases(helm, kubeconfig=cluster.kubeconfig).uninstall(new_session_id())


async def test_a_missing_helm_is_reported_until_it_is_back(tools: Tools, tmp_path: Path) -> None:
    link = tmp_path / "helm"
    missing = releases(link)
    with pytest.raises(HelmUnavailable):
        await missing.check()
    with pytest.raises(HelmUnavailable):
        await missing.install(new_session_id(), "ann", IdleTimes())
    link.symlink_to(tools.path("helm"))
    await missing.check()


def slow_helm(folder: Path) -> Path:
    """A helm whose upgrade hangs in a process that can be found by its argument."""
    script = folder / "helm"
    cases = 'version) printf v4.0.0;;\nshow) echo "{apiVersion: v2, name: x, version: 1.0.0}";;\n*) exec sleep 61.25;;'
    script.write_text(f'#!/bin/sh\ncase "$1" in\n{cases}\nesac\n')
    script.chmod(0o755)
    return script


def sleepers() -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "61.25"]]


async def test_helm_is_stopped_at_its_deadline(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(HelmTimeout):
        await releases(slow_helm(tmp_path), timeout=timedelta(seconds=1)).install(
            SessionId("abc123xy"), "ann", IdleTimes()
        )
    assert time.monotonic() - started < 10
    assert sleepers() == []


async def test_a_cancelled_call_stops_helm(tmp_path: Path) -> None:
    work = asyncio.create_task(releases(slow_helm(tmp_path)).install(SessionId("abc123xy"), "ann", IdleTimes()))
    async with asyncio.timeout(10):
        while not sleepers():  # noqa: ASYNC110 - another process has no events
            await asyncio.sleep(0.05)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert sleepers() == []
