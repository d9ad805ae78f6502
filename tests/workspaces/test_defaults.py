"""The chart's defaults on a real node: an ordinary start raises no warning, and the public image opens an editor."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
import yaml
from playwright.async_api import Page, expect

from devcluster import node
from devcluster.cluster import Cluster
from images import recipes
from images.recipes import Name
from stack.stack import USERS, Stack
from tests.chart.conftest import CHART, Helm
from tests.stack.client import until
from tests.workspaces.conftest import Picture, Visitors
from tests.workspaces.test_editor import editors  # noqa: F401 - a fixture

WAKES = 5


def warnings(cluster: Cluster, release: str) -> list[str]:
    """Warnings about the workload and the volume of a release.

    Not about scaling: the test cluster has no metrics adapter for the HPA, and KEDA may see a new ScaledObject before
    helm has made its TriggerAuthentication.
    """
    events = json.loads(cluster.kubectl("-n", USERS, "get", "events", "--field-selector=type=Warning", "-o", "json"))
    return [
        f"{event['reason']}: {event['message']}"
        for event in events["items"]
        if event["involvedObject"]["name"].startswith(release)
        and event["involvedObject"]["kind"] not in {"HorizontalPodAutoscaler", "ScaledObject"}
    ]


@pytest.mark.timeout(300)
async def test_first_wakes_raise_no_warning_and_none_waits_for_its_volume(editors: Stack) -> None:  # noqa: F811
    seconds, warned = {}, {}
    clock = asyncio.get_running_loop().time
    timeout = aiohttp.ClientTimeout(total=90)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as http:
        for _ in range(WAKES):
            visitor = await Visitors(editors, http).new()
            began = clock()
            await visitor.caller.call("POST", f"/session/{visitor.uuid}/wake")
            await visitor.caller.until(visitor.uuid, "ready", 60)
            seconds[visitor.uuid] = clock() - began
            warned[visitor.uuid] = warnings(editors.cluster, f"user-{visitor.uuid}")  # before its end raises some
            await visitor.caller.call("POST", f"/session/{visitor.uuid}/sleep")
    assert {uuid: found for uuid, found in warned.items() if found} == {}
    # A kubelet that is refused a claim tries again after 10 s at the earliest.
    assert max(seconds.values()) < min(seconds.values()) + 10, seconds


@dataclass
class Alone:
    """A release of the chart alone, as somebody without the service has it."""

    cluster: Cluster
    name: str
    values: dict[str, Any]

    def upgrade(self, **values: Any) -> None:
        helm = Helm(self.cluster.tools.path("helm"), self.cluster.kubeconfig, USERS)
        merged = yaml.safe_dump({**self.values, **values})
        helm("upgrade", "--install", self.name, str(CHART), "--values", "-", stdin=merged)
        self.cluster.kubectl("-n", USERS, "rollout", "status", f"deployment/{self.name}", "--timeout=90s")

    async def page(self, within: float = 60) -> str:
        """The editor's address, as soon as the pod is ready."""
        pods: list[dict[str, Any]] = []
        selector = f"app.kubernetes.io/instance={self.name}"

        async def ready() -> bool:
            nonlocal pods
            found = self.cluster.kubectl("-n", USERS, "get", "pods", "-l", selector, "-o", "json")
            pods = [pod for pod in json.loads(found)["items"] if "deletionTimestamp" not in pod["metadata"]]
            conditions = [each for pod in pods for each in pod["status"].get("conditions", [])]
            return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

        await until(ready, within, lambda: f"not ready: {json.dumps(pods)[-3000:]}")
        return f"http://{pods[0]['status']['podIP']}:8080/"

    def pod(self, *command: str) -> str:
        return self.cluster.kubectl("-n", USERS, "exec", f"deployment/{self.name}", "--", *command)


@pytest.fixture
async def alone(editors: Stack) -> AsyncIterator[Alone]:  # noqa: F811
    image = recipes.build(Name.CODE_SERVER)
    editors.cluster.load_image(image.archive)
    repository, _, tag = image.reference.rpartition(":")
    values = {
        "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
        "autoscaling": {"enabled": False},
        **node.PLACEMENT,
    }
    name = f"user-{secrets.token_hex(4)}"
    yield Alone(editors.cluster, name, values)
    editors.cluster.kubectl("-n", USERS, "delete", "deployment", name, "--ignore-not-found")


@pytest.mark.timeout(400)
async def test_the_public_image_opens_an_editor_and_keeps_its_home(alone: Alone, page: Page, picture: Picture) -> None:
    alone.upgrade()
    await page.goto(await alone.page())
    await page.wait_for_selector(".monaco-workbench .part.editor", timeout=60_000)
    await picture(page, "public-image")
    assert "login" not in page.url
    assert alone.pod("sh", "-c", "echo kept > ~/kept.txt; head -2 ~/.config/code-server/config.yaml") == (
        "bind-addr: 127.0.0.1:8080\nauth: password\n"
    )
    assert warnings(alone.cluster, alone.name) == []

    alone.cluster.kubectl("-n", USERS, "delete", "pod", "-l", f"app.kubernetes.io/instance={alone.name}")
    await alone.page()
    assert alone.pod("sh", "-c", "cat ~/kept.txt") == "kept\n"

    alone.upgrade(codeServer={"auth": "password"})
    await page.goto(await alone.page())
    await expect(page.locator("input[type=password]")).to_be_visible()
