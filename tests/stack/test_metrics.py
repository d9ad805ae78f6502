"""The service's /metrics after real wakes, creates and sleeps."""

import json
from collections.abc import Callable

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.domain.metrics import MEASURED
from stack.stack import Stack
from tests.conftest import free_port
from tests.stack.client import Caller, until

Restart = Callable[[dict[str, str]], None]


async def scrape(url: str) -> dict[str, float]:
    """Each series, as `name label=value,…`, and its value."""
    async with aiohttp.ClientSession(trust_env=False) as session, session.get(f"{url}/metrics") as answer:
        assert answer.status == 200
        families = text_string_to_metric_families(await answer.text())
    return {
        f"{s.name} {','.join(f'{k}={v}' for k, v in sorted(s.labels.items()))}".strip(): s.value
        for family in families
        for s in family.samples
    }


async def leads(stack: Stack) -> dict[str, float]:
    """Wait until the service leads and listens, and return its metrics."""
    now: dict[str, float] = {}

    async def there() -> bool:
        nonlocal now
        now = await scrape(stack.url)
        return now["user_pods_leader"] == 1 and now.get("user_pods_listening") == 1

    await until(there, 15, lambda: json.dumps(now, indent=1))
    return now


async def test_a_wake_is_measured_in_every_stage_without_a_false_sleep(
    stack: Stack, caller: Caller, restarted: Restart, user: str
) -> None:
    restarted({})  # so that everything counts from 0
    uuid = (await caller.create(user))[1]["uuid"]
    await caller.call("POST", f"/session/{uuid}/wake")
    await caller.until(uuid, "ready")
    now: dict[str, float] = {}

    async def counted() -> bool:
        nonlocal now
        now = await scrape(stack.url)
        return all(now[f"user_pods_wake_seconds_count stage={stage}"] == 1 for stage in MEASURED)

    await until(counted, 15, lambda: json.dumps(now, indent=1))
    assert now["user_pods_create_seconds_count outcome=installed"] == 1
    assert now["user_pods_helm_seconds_count outcome=ok,work=install"] == 1
    assert now["user_pods_sessions phase=ready"] >= 1
    assert now["user_pods_steps_total step=scale-up"] >= 1
    assert now["user_pods_wake_seconds_sum stage=scaled"] <= now["user_pods_wake_seconds_sum stage=ready"]

    await leads(stack)
    await caller.until(uuid, "asleep")
    now = await scrape(stack.url)
    assert now["user_pods_false_sleeps_total"] == now["user_pods_wakes_unfinished_total"] == 0


async def test_a_pod_that_ends_while_it_is_wanted_is_detected(stack: Stack, caller: Caller, user: str) -> None:
    uuid = (await caller.create(user))[1]["uuid"]
    await caller.call("POST", f"/session/{uuid}/wake")
    await caller.until(uuid, "ready")
    now = await leads(stack)
    fallen, healed = now["user_pods_felled_total"], now["user_pods_heal_seconds_count"]
    await caller.call("POST", f"/session/{uuid}/wake")
    stack.cluster.kubectl("-n", "users", "scale", "deployment", f"user-{uuid}", "--replicas=0")

    async def seen() -> bool:
        nonlocal now
        now = await scrape(stack.url)
        return now["user_pods_felled_total"] == fallen + 1 and now["user_pods_heal_seconds_count"] == healed + 1

    await until(seen, 15, lambda: json.dumps(now, indent=1))
    await caller.until(uuid, "ready")


@pytest.mark.parametrize("keys", ["", "k" * 20], ids=["open", "with-keys"])
async def test_a_separate_port_serves_scrapers_without_a_key(stack: Stack, restarted: Restart, keys: str) -> None:
    port = free_port()
    restarted({"METRICS_PORT": str(port), "API_KEYS": keys})
    assert "user_pods_leader" in await scrape(f"http://127.0.0.1:{port}")
