"""What an installation does for its users and its operators, from outside of the cluster."""

import asyncio
import json
from collections import Counter

import aiohttp

from tests.chart.conftest import Helm
from tests.installed.conftest import ACCOUNT, SYSTEM, USERS, Installation, User

_CLIENTS = 4


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


async def test_a_rolling_upgrade_under_load_loses_no_request(
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
    await asyncio.to_thread(_restart, installation)
    done.set()
    await asyncio.gather(*clients)
    assert len(before & set(installation.pods())) == 0, "a replica was not replaced"
    assert set(answers) == {f"{status}: 200", f"{page}: 200"}, answers
    assert min(answers.values()) > 100, "there was no load"


def _restart(installation: Installation) -> None:
    kubectl = installation.cluster.kubectl
    kubectl("-n", SYSTEM, "rollout", "restart", "deployment/session-service")
    kubectl("-n", SYSTEM, "rollout", "status", "deployment/session-service", "--timeout=180s")


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


async def test_the_service_did_nothing_that_its_account_may_not(installation: Installation) -> None:
    assert installation.cluster.forbidden(ACCOUNT) == []
    pod = installation.pods()[0]
    spec = json.loads(installation.cluster.kubectl("-n", SYSTEM, "get", "pod", pod, "-o", "json"))["spec"]
    assert spec["serviceAccountName"] == "session-service"


async def test_at_last_it_is_removed_and_leaves_nothing_that_hangs(installation: Installation, user: User) -> None:
    cluster = installation.cluster
    helm = Helm(cluster.tools.path("helm"), cluster.kubeconfig, USERS)
    users = [name for name in helm("list", "--short").split() if name.startswith("user-")]
    assert f"user-{user.uuid}" in users
    helm("uninstall", *users)
    installation.sync("destroy")
    for namespace in (SYSTEM, USERS):
        assert cluster.kubectl("-n", namespace, "get", "deployments,statefulsets,scaledobjects", "-o", "name") == ""
    cluster.kubectl("delete", "namespace", SYSTEM, USERS, "--timeout=60s")
