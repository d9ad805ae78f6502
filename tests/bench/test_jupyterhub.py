"""The benchmark measures what JupyterHub's users get: the pod's own answer, for programs and for browsers."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from bench.jupyterhub import Guest, JupyterHub, versions
from devcluster import node
from devcluster.cluster import Cluster
from stack.stack import ROOT

POD = "<p>A tiny workspace.</p>"


def pod() -> dict[str, Any]:
    """As the chart makes it, as far as it matters here."""
    container = {
        "image": "localhost/user-pods/tiny:1",
        "imagePullPolicy": "Never",
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"tcpSocket": {"port": "http"}},
        "resources": {"requests": {"cpu": "100m"}},
        "securityContext": {"readOnlyRootFilesystem": True},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - in the pod
    }
    return {
        **node.PLACEMENT,
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "securityContext": {"runAsUser": 1000},
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 10,
        "restartPolicy": "Always",
    }


class Hub:
    """Answers like a hub whose pod starts slowly; the pod is ready once the hub has reported it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.end: dict[str, Any] = {"progress": 100, "ready": True}
        self.page = POD
        self.stopping = 2
        self._ready = False

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        match request.method, request.path:
            case "POST", "/hub/api/users/ann/server":
                return web.Response(status=202)
            case "DELETE", "/hub/api/users/ann/server":
                return web.Response(status=202)
            case "GET", "/hub/api/users/ann/server":
                self.stopping -= 1
                return web.json_response({"pending": "stop" if self.stopping else None})
            case "GET", "/hub/api/users/ann/server/progress":
                return await self._progress(request)
            case "GET", "/hub/spawn/ann":
                raise web.HTTPFound("/hub/spawn-pending/ann")
            case "GET", "/hub/spawn-pending/ann":
                if self._ready:
                    raise web.HTTPFound("/user/ann/")
                return web.Response(text="Your server is starting up.")
            case "GET", "/user/ann/" if self._ready:
                return web.Response(text=self.page)
        raise web.HTTPNotFound

    async def _progress(self, request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        await stream.write(b'\n\ndata: {"progress": 0, "message": "Server requested"}\n\n')
        await asyncio.sleep(0.05)
        self._ready = "ready" in self.end
        await stream.write(f"data: {json.dumps(self.end)}\n\n".encode())
        return stream


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
async def guest(hub: Hub) -> AsyncIterator[Guest]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", hub.answer)
    async with TestServer(app) as server, aiohttp.ClientSession(raise_for_status=True) as http:
        yield Guest(http, f"http://127.0.0.1:{server.port}", "ann", "token")


async def test_a_program_waits_for_a_slow_start_and_then_visits_the_pod(hub: Hub, guest: Guest) -> None:
    await guest.visit_by_program()
    server = "/hub/api/users/ann/server"
    assert hub.asked == [f"POST {server}", f"GET {server}/progress", "GET /user/ann/"]


async def test_a_person_sees_the_spawn_page_and_then_the_pod(hub: Hub, guest: Guest) -> None:
    await guest.visit_by_person()
    pending = "GET /hub/spawn-pending/ann"
    progress = "GET /hub/api/users/ann/server/progress"
    assert hub.asked == ["GET /hub/spawn/ann", pending, progress, pending, "GET /user/ann/"]


async def test_only_the_pods_own_page_is_a_visit(hub: Hub, guest: Guest) -> None:
    hub.page = "Your server is not running."
    with pytest.raises(RuntimeError, match="not answered by the pod: Your server is not running"):
        await guest.visit_by_program()
    with pytest.raises(RuntimeError, match="not answered by the pod"):
        await guest.visit_by_person()


async def test_a_failed_start_is_reported_in_the_hubs_words(hub: Hub, guest: Guest) -> None:
    hub.end = {"progress": 100, "failed": True, "message": "Spawn failed: no room"}
    with pytest.raises(RuntimeError, match="Spawn failed: no room"):
        await guest.visit_by_program()


async def test_leaving_waits_until_the_hub_knows_that_the_pod_is_gone(hub: Hub, guest: Guest) -> None:
    await guest.leave()
    assert hub.stopping == 0


def test_the_hub_listens_on_loopback_only_and_requires_the_password(tmp_path: Path) -> None:
    hub = JupyterHub(Cluster(tmp_path), pod())
    settings = hub.settings()
    for part, name in (
        ("JupyterHub", "bind_url"),
        ("JupyterHub", "hub_bind_url"),
        ("ConfigurableHTTPProxy", "api_url"),
    ):
        assert URL(settings[part][name]).host == "127.0.0.1"
    assert settings["SharedPasswordAuthenticator"]["user_password"] == hub.password
    assert JupyterHub(Cluster(tmp_path), pod()).password != hub.password


def test_its_pods_match_the_others_except_for_the_probes(tmp_path: Path) -> None:
    spawner, wanted = JupyterHub(Cluster(tmp_path), pod()).settings()["KubeSpawner"], pod()
    container = wanted["containers"][0]
    assert (spawner["image"], spawner["image_pull_policy"]) == (container["image"], "Never")
    assert {"nodeSelector": spawner["node_selector"], "tolerations": spawner["tolerations"]} == node.PLACEMENT
    assert (spawner["volumes"], spawner["volume_mounts"]) == (wanted["volumes"], container["volumeMounts"])
    assert spawner["container_security_context"] == container["securityContext"]
    assert spawner["extra_container_config"] == {"resources": container["resources"]}
    assert spawner["extra_pod_config"]["terminationGracePeriodSeconds"] == 10


def test_the_measured_versions_are_reported() -> None:
    assert list(versions()) == ["JupyterHub", "KubeSpawner", "its proxy"]
    assert all(version[0].isdigit() for version in versions().values())


def test_the_benchmark_lists_its_options() -> None:
    argv = [sys.executable, "-m", "bench.peers", "--help"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(option in done.stdout for option in ("--rounds", "--crowds", "--state", "--output"))
