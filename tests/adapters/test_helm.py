"""What helm's own words are taken to mean, held to the real programs; how helm is ended."""

import asyncio
import base64
import gzip
import json
import time
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from devcluster.cluster import Cluster
from devcluster.toolchain import Tools
from service.adapters.helm.releases import HelmReleases
from service.domain.errors import (
    ChartInvalid,
    ClusterUnavailable,
    HelmTimeout,
    HelmUnavailable,
    InstallFailed,
    SessionBusy,
    causes,
)
from service.domain.idle_times import IdleTimes
from service.domain.names import SessionId, new_session_id
from service.domain.profiles import Profile, Profiles
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
