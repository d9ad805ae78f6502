"""What an installation does for its users and its operators, from outside of the cluster."""

import asyncio
import json
import logging
import time
from collections import Counter
from typing import NamedTuple

import aiohttp
import pytest
from playwright.async_api import Browser
from websockets.exceptions import WebSocketException

from devcluster import node
from tests.chart.conftest import Helm
from tests.installed.conftest import ACCOUNTS, KEDA, SYSTEM, USERS, Installation, User, Users
from tests.pages import picture
from tests.stack.client import until
from tests.workspaces.vscode import loaded, opened, opened_terminal, ran, woken

pytestmark = pytest.mark.timeout(900)
"""Seconds of a test: on a new machine, the first one builds the images."""
_log = logging.getLogger(__name__)
_CLIENTS = 4
_WEBSOCKETS = 6
_DRAIN = ("--ignore-daemonsets", "--delete-emptydir-data")
"""As docs/how-to/nodes.md has it."""


async def test_three_replicas_serve_and_every_part_is_well(
    installation: Installation, http: aiohttp.ClientSession
) -> None:
    assert len(installation.pods()) == 3
    async with http.get(f"{installation.url('http')}/health") as answer:
        body = await answer.json()
        assert (answer.status, body["status"]) == (200, "healthy"), body


async def test_a_user_is_served_by_their_pod_which_sleeps_when_they_leave(
    installation: Installation, http: aiohttp.ClientSession, user: User
) -> None:
    async with http.get(f"{installation.url('gateway')}/", headers=user.headers) as answer:
        assert answer.status == 200, await answer.text()
    await user.caller.until(user.uuid, "ready", 20)
    await user.caller.until(user.uuid, "asleep", 40)
    pods = ("pods", "-l", f"uuid={user.uuid}", "--timeout=30s")
    installation.cluster.kubectl("-n", USERS, "wait", "--for=delete", *pods)


async def test_the_doctor_proves_that_the_network_enforces_policies_and_wakes_nobody_by_it(
    http: aiohttp.ClientSession, user: User
) -> None:
    said: dict[str, object] = {}
    async with http.get(f"{user.installation.url('gateway')}/", headers=user.headers) as answer:
        assert answer.status == 200

    async def is_proved() -> bool:
        """Not by a pod that falls asleep meanwhile."""
        await user.caller.call("POST", f"/session/{user.uuid}/wake")
        status, diagnosis = await user.caller.call("GET", "/diagnosis")
        assert status == 200
        found = [each for each in diagnosis["findings"] if each["check"] == "network-policies"]
        assert {each["severity"] for each in found} == {"ok"}, found
        said.update({each["subject"]: each["what"] for each in found})
        return "enforced" in said

    await until(is_proved, 60, lambda: str(said))
    _log.info("%s", said["enforced"])
    await user.caller.until(user.uuid, "asleep", 40)


async def test_a_rolling_upgrade_loses_no_request_and_websockets_are_back_at_once(
    installation: Installation, http: aiohttp.ClientSession, user: User
) -> None:
    async with http.get(f"{installation.url('gateway')}/", headers=user.headers) as answer:
        assert answer.status == 200
    before, done = set(installation.pods()), asyncio.Event()
    answers: Counter[str] = Counter()

    async def visit(url: str, headers: dict[str, str]) -> None:
        while not done.is_set():
            try:
                async with http.get(url, headers=headers) as answer:
                    await answer.read()
                    answers[f"{url}: {answer.status}"] += 1
            except (aiohttp.ClientError, TimeoutError) as error:
                answers[f"{url}: {error!r}"] += 1

    status, page = f"{installation.url('http')}/session/{user.uuid}/status", f"{installation.url('gateway')}/"
    targets = ((status, dict[str, str]()), (page, user.headers))
    clients = [asyncio.create_task(visit(*target)) for target in targets * _CLIENTS]
    lines = [asyncio.create_task(converse(user, done)) for _ in range(_WEBSOCKETS)]
    await asyncio.to_thread(_upgrade, installation, before)
    done.set()
    await asyncio.gather(*clients)
    ends = [end for ended in await asyncio.gather(*lines) for end in ended]
    assert len(before & set(installation.pods())) == 0, "a replica was not replaced"
    assert set(answers) == {f"{status}: 200", f"{page}: 200"}, answers
    assert min(answers.values()) > 100, "there was no load"

    assert len(ends) >= _WEBSOCKETS, "a WebSocket survived the replicas that it could be at"
    assert {end.code for end in ends} == {1012}, ends
    assert all(end.attempts == 1 for end in ends), ends
    slowest = max(end.seconds for end in ends)
    _log.info("%d WebSockets were closed, and back after %.3f s at most", len(ends), slowest)
    assert slowest < 2, ends


class End(NamedTuple):
    """A WebSocket that was closed: its code, and what it took until its successor echoed."""

    code: int
    attempts: int
    seconds: float


async def converse(user: User, done: asyncio.Event) -> list[End]:
    """Hold a WebSocket until `done`, and connect again when it is closed, as browsers do."""
    ends: list[End] = []
    closed: tuple[int, float] | None = None
    attempts = 0
    over = asyncio.create_task(done.wait())
    while not done.is_set():
        attempts += 1
        try:
            async with user.websocket() as connection:
                await connection.send("hello")
                assert await connection.recv() == "hello"
                if closed is not None:
                    code, at = closed
                    ends.append(End(code, attempts, time.monotonic() - at))
                attempts = 0
                end = asyncio.create_task(connection.wait_closed())
                await asyncio.wait([end, over], return_when=asyncio.FIRST_COMPLETED)
            await end
            closed = connection.close_code or 0, time.monotonic()
        except (OSError, WebSocketException):
            await asyncio.sleep(0.05)
    await over
    return ends


def _upgrade(installation: Installation, before: set[str]) -> None:
    """Change a value and sync, and wait until the replicas from before are gone with their connections."""
    installation.upgrade_to_editors()
    if set(installation.pods()) == before:  # a second try of the test finds it upgraded
        installation.cluster.kubectl("-n", SYSTEM, "rollout", "restart", "deployment/session-service")
    pods = [f"pod/{name}" for name in before]
    installation.cluster.kubectl("-n", SYSTEM, "wait", "--for=delete", *pods, "--timeout=120s")


async def test_a_person_writes_in_vs_code_and_has_the_file_after_the_node_was_drained(
    installation: Installation, http: aiohttp.ClientSession, browser: Browser, users: Users
) -> None:
    await asyncio.to_thread(installation.upgrade_to_editors)
    user, page = await users.new(), await browser.new_page()
    await page.goto(await user.link("/?folder=/home/coder"))
    await loaded(page)
    await opened_terminal(page)
    await ran(page, "touch notes.md", "notes.md")
    await opened(page, "notes.md")
    await page.keyboard.type("Remember me.", delay=20)

    async def is_saved() -> bool:
        return user.shown("notes.md") == "Remember me."

    await until(is_saved, 30, lambda: "the file is not saved")
    await picture(page, "installed-editor")

    before, drained, answers = set(installation.pods()), asyncio.Event(), Counter[int]()

    async def check() -> None:
        while not drained.is_set():
            async with http.get(f"{installation.url('gateway')}/.user-pods/healthz") as answer:
                answers[answer.status] += 1
            await asyncio.sleep(0.05)

    kubectl, checking = installation.cluster.kubectl, asyncio.create_task(check())
    drain = asyncio.create_task(asyncio.to_thread(kubectl, "drain", node.NAME, *_DRAIN, "--timeout=150s"))

    async def one_is_left() -> bool:
        budget = kubectl("-n", SYSTEM, "get", "poddisruptionbudget", "session-service", "-o", "json")
        status = json.loads(budget)["status"]
        return bool(status["currentHealthy"] == 1 and status["disruptionsAllowed"] == 0)

    await until(one_is_left, 60, lambda: "the replicas are not evicted")
    assert not drain.done()
    assert set(installation.pods()) < before
    # Room for the pods elsewhere would be another node; this cluster has the one.
    kubectl("uncordon", node.NAME)
    await drain
    kubectl("-n", SYSTEM, "rollout", "status", "deployment/session-service", "--timeout=60s")
    kubectl("-n", SYSTEM, "rollout", "status", "statefulset/redis", "--timeout=60s")
    kubectl("-n", KEDA, "rollout", "status", "deployment/keda-operator", "--timeout=60s")
    drained.set()
    await checking
    assert not before & set(installation.pods())
    assert set(answers) == {200}, answers
    await page.bring_to_front()
    await woken(page)
    await picture(page, "installed-after-drain")
    assert user.shown("notes.md") == "Remember me."


async def test_a_killed_replica_is_replaced_and_the_others_serve_meanwhile(
    installation: Installation, user: User
) -> None:
    victim = installation.pods()[0]
    kubectl = installation.cluster.kubectl
    kubectl("-n", SYSTEM, "delete", "pod", victim, "--grace-period=0", "--force")
    for _ in range(10):
        assert (await user.caller.status(user.uuid))["phase"]
    kubectl("-n", SYSTEM, "rollout", "status", "deployment/session-service", "--timeout=120s")
    assert victim not in installation.pods()


async def test_service_and_keda_did_nothing_that_their_accounts_may_not(installation: Installation) -> None:
    for account in ACCOUNTS:
        assert installation.cluster.used(account), "it did nothing at all"
        assert installation.cluster.forbidden(account) == []


async def test_at_last_it_is_removed_and_leaves_nothing_that_hangs(installation: Installation, user: User) -> None:
    cluster, scaler = installation.cluster, f"scaledobject/user-{user.uuid}-scaler"
    for state in ("create", "jsonpath={.metadata.finalizers[0]}=finalizer.keda.sh"):
        cluster.kubectl("-n", USERS, "wait", scaler, f"--for={state}", "--timeout=60s")
    helm = Helm(cluster.tools.path("helm"), cluster.kubeconfig, USERS)
    users = [name for name in helm("list", "--short").split() if name.startswith("user-")]
    assert f"user-{user.uuid}" in users
    helm("uninstall", *users)
    installation.sync("destroy")
    for namespace in (SYSTEM, KEDA, USERS):
        assert cluster.kubectl("-n", namespace, "get", "deployments,statefulsets,scaledobjects", "-o", "name") == ""
    cluster.kubectl("delete", "namespace", SYSTEM, KEDA, USERS, "--timeout=120s")
