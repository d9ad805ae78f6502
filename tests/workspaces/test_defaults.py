"""The chart's defaults on a real node: an ordinary start raises no warning, and the public image opens an editor."""

import asyncio
import gzip
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
import yaml
from playwright.async_api import Browser, Page, expect

from devcluster import node
from devcluster.cluster import Cluster
from images import recipes
from images.recipes import Name
from stack.stack import USERS, Stack
from tests.chart.conftest import CHART, Helm
from tests.pages import picture
from tests.stack.client import until
from tests.workspaces.conftest import Visitors

SCRIPT = '<script src="/.user-pods/companion.js?v='
PLAIN = {"Accept-Encoding": "identity"}
WAKES = 5
_CONFLICT = "Error saving claim: Operation cannot be fulfilled"
"""Scheduler and volume controller write to a new claim at the same time, now and then; the latter repeats at once."""


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
        and _CONFLICT not in event["message"]
    ]


@pytest.mark.timeout(900)
async def test_first_wakes_raise_no_warning_and_none_waits_for_its_volume(editors: Stack) -> None:
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


@pytest.mark.timeout(900)
async def test_no_users_pod_reaches_anothers_while_the_gateway_reaches_both(editors: Stack) -> None:
    kubectl = editors.cluster.kubectl
    timeout = aiohttp.ClientTimeout(total=90)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as http:
        pair = [await Visitors(editors, http).new() for _ in range(2)]
        for visitor in pair:
            await visitor.caller.call("POST", f"/session/{visitor.uuid}/wake")
        for visitor in pair:
            await visitor.caller.until(visitor.uuid, "ready", 60)

        async def code(own: str, target: str) -> str:
            """The HTTP status of the target from the pod of `own`, 000 if it cannot be reached."""
            curl = f"curl -m 3 -s -o /dev/null -w %{{http_code}} {target} || true"
            call = ("-n", USERS, "exec", f"deployment/user-{own}", "--", "sh", "-c", curl)
            return await asyncio.to_thread(kubectl, *call)

        for one, other in (pair, pair[::-1]):
            pods = json.loads(kubectl("-n", USERS, "get", "pods", f"--selector=uuid={other.uuid}", "-o", "json"))
            pod = f"{pods['items'][0]['status']['podIP']}:8080"
            asked = [f"http://{host}/healthz" for host in (f"user-{one.uuid}", f"user-{other.uuid}", pod)]

            async def apart(own: str = one.uuid, asked: list[str] = asked) -> bool:
                return [await code(own, target) for target in asked] == ["200", "000", "000"]

            # The Service of a pod that has just become ready, and its policy, take a moment.
            await until(apart, 30, lambda: "a pod does not reach itself, or reaches another user's")
            assert (await other.get("/healthz"))[0] == 200
        for visitor in pair:
            await visitor.caller.call("POST", f"/session/{visitor.uuid}/sleep")


@pytest.mark.timeout(900)
async def test_the_workspace_opens_at_its_files_without_chat_in_the_systems_colours_and_saves(
    editors: Stack,
    browser: Browser,
) -> None:
    timeout = aiohttp.ClientTimeout(total=90)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False, auto_decompress=False) as http:
        visitor = await Visitors(editors, http).new()
        await visitor.caller.call("POST", f"/session/{visitor.uuid}/wake")
        await visitor.caller.until(visitor.uuid, "ready", 60)
        deployment = ("-n", USERS, "exec", f"deployment/user-{visitor.uuid}", "--", "sh", "-c")
        editors.cluster.kubectl(*deployment, "python -m venv --help > /dev/null && touch ~/notes.txt")
        page = await browser.new_page(color_scheme="dark")
        urls: list[str] = []
        page.on("request", lambda got: urls.append(got.url))
        await page.goto(await visitor.link("/?folder=/home/coder"))
        await page.get_by_role("treeitem", name="notes.txt").wait_for(timeout=60_000)
        await expect(page.locator(".monaco-workbench.vs-dark.noauxiliarybar")).to_be_visible()
        await expect(page.get_by_role("tree", name="Files Explorer")).to_be_focused(timeout=30_000)
        await picture(page, "workspace-dark")

        await page.keyboard.press("End")
        await page.keyboard.press("Enter")
        await page.get_by_role("tab", name="notes.txt").wait_for(timeout=30_000)
        await expect(page.get_by_role("textbox", name="notes.txt")).to_be_focused(timeout=30_000)
        await page.keyboard.type("by itself")

        async def saved() -> bool:
            return editors.cluster.kubectl(*deployment, "cat ~/notes.txt") == "by itself"

        await until(saved, 30, lambda: "not saved")

        assert not [url for url in urls if "webWorkerExtensionHost" in url], "a second host of extensions, in the page"
        (script,) = (url.removeprefix(f"http://{visitor.host}") for url in urls if url.endswith("/workbench.js"))
        sizes = {}
        for coding in ("br", "gzip", "identity"):
            headers = {**visitor.headers, "Accept-Encoding": coding}
            async with http.get(visitor.url + script, headers=headers) as answer:
                assert answer.headers.get("Content-Encoding", "identity") == coding
                if coding != "identity":
                    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
                sizes[coding] = len(await answer.read())
        assert sizes["br"] < sizes["gzip"] < sizes["identity"] / 3

        # The page itself has the companion in every coding; what a script fetches is as the editor sent it.
        for accepted, coding in (("gzip, br", "gzip"), ("br", "identity"), ("identity", "identity")):
            headers = {**visitor.person, "Accept-Encoding": accepted}
            async with http.get(f"{visitor.url}/?folder=/home/coder", headers=headers) as answer:
                assert answer.headers.get("Content-Encoding", "identity") == coding
                body = await answer.read()
            assert SCRIPT in (gzip.decompress(body) if coding == "gzip" else body).decode()
        assert SCRIPT not in await page.evaluate("fetch(location.href).then((answer) => answer.text())")
        # One of the editor's pages has a tag, and a policy in its head.
        static, headers = f"{visitor.url}/_static/src/browser/pages/error.html", {**visitor.person, **PLAIN}
        async with http.get(static, headers=headers) as answer:
            assert SCRIPT in await answer.text()
        headers["If-None-Match"] = answer.headers["ETag"]
        async with http.get(static, headers=headers) as again:
            assert (again.status, again.headers["ETag"]) == (304, answer.headers["ETag"])


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
async def alone(editors: Stack) -> AsyncIterator[Alone]:
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


@pytest.mark.timeout(900)
async def test_the_public_image_opens_an_editor_and_keeps_its_home(alone: Alone, page: Page) -> None:
    alone.upgrade()
    await page.goto(await alone.page())
    await page.wait_for_selector(".monaco-workbench .part.editor", timeout=60_000)
    await picture(page, "public-image")
    assert "login" not in page.url
    assert alone.pod("sh", "-c", "echo kept > ~/public.txt; head -2 ~/.config/code-server/config.yaml") == (
        "bind-addr: 127.0.0.1:8080\nauth: password\n"
    )
    # Helm makes pod and claim together here, so the scheduler may see the pod before its volume and look again.
    assert [each for each in warnings(alone.cluster, alone.name) if not each.startswith("FailedScheduling")] == []

    alone.cluster.kubectl("-n", USERS, "delete", "pod", "-l", f"app.kubernetes.io/instance={alone.name}")
    await alone.page()
    assert alone.pod("sh", "-c", "cat ~/public.txt") == "kept\n"

    alone.upgrade(codeServer={"auth": "password"})
    await page.goto(await alone.page())
    await expect(page.locator("input[type=password]")).to_be_visible()
