"""How the process reports its tasks: a failing one in /health, a dead one in /livez, all of them in /metrics."""

import asyncio

from service.adapters.prometheus.gauges import PartGauges
from service.adapters.prometheus.metrics import PrometheusMetrics
from service.domain.supervisor import Supervisor
from tests.waiting import until
from tests.web.conftest import Client


async def broken() -> None:
    raise ValueError("whatever")


async def forever() -> None:
    await asyncio.Event().wait()


async def test_a_task_that_does_not_recover_is_named_until_the_process_restarts(
    client: Client, supervisor: Supervisor, metrics: PrometheusMetrics
) -> None:
    metrics.registry.register(PartGauges(supervisor))
    async with supervisor.running({"leader": broken, "reporter": forever}):
        await until(lambda: bool(supervisor.dead()))
        health = await client.get("/health")
        assert health.status == 503
        report = await health.json()
        assert report["failing"] == ["leader"]
        assert report["parts"]["reporter"] == "ok"
        assert "ValueError" in report["parts"]["leader"]
        assert "whatever" not in report["parts"]["leader"]
        livez = await client.get("/livez")
        assert (livez.status, livez.content_type) == (503, "application/problem+json")
        problem = await livez.json()
        assert (problem["type"], problem["part"]) == ("/problems/not-alive", "leader")
        page = await (await client.get("/metrics")).text()
        assert 'user_pods_part_up{part="leader"} 0.0' in page
        assert 'user_pods_part_up{part="reporter"} 1.0' in page
        assert 'user_pods_part_restarts_total{part="leader"} 0.0' in page


async def test_a_process_whose_tasks_run_is_live(client: Client, supervisor: Supervisor) -> None:
    async with supervisor.running({"leader": forever}):
        assert (await client.get("/livez")).status == 200
        assert (await client.get("/health")).status == 200
