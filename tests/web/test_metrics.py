"""/metrics: who may read it where, and what requests leave in it."""

import aiohttp

from service.adapters.prometheus.exposition import Exposition
from service.adapters.prometheus.gauges import LeaderGauges
from service.adapters.prometheus.metrics import PrometheusMetrics
from service.edge.ports import bind
from service.web.metrics import make_metrics
from service.web.server import running
from tests.fakes.gauges import FakeLeader
from tests.web.conftest import Client, Serve

KEY = "k" * 16


async def test_requests_are_counted_by_operation_and_class_of_status(client: Client) -> None:
    uuid = (await (await client.post("/session/create", json={"user_id": "ann"})).json())["uuid"]
    for path in (f"/session/{uuid}/status", "/session/00000000/status", "/session/00000000/status", f"/{uuid}"):
        await client.get(path)
    answer = await client.get("/metrics")
    assert answer.content_type == "text/plain"
    lines = (await answer.text()).splitlines()
    counted = {line for line in lines if line.startswith("user_pods_http_request_seconds_count")}
    assert counted == {
        'user_pods_http_request_seconds_count{operation="create",status="2xx"} 1.0',
        'user_pods_http_request_seconds_count{operation="status",status="2xx"} 1.0',
        'user_pods_http_request_seconds_count{operation="status",status="4xx"} 2.0',
        'user_pods_http_request_seconds_count{operation="other",status="4xx"} 1.0',
    }


async def test_metrics_on_the_api_port_need_a_key(serve: Serve) -> None:
    client = await serve(keys=[KEY])
    assert (await client.get("/metrics")).status == 401
    assert (await client.get("/metrics", headers={"Authorization": f"Bearer {KEY}"})).status == 200


async def test_a_separate_port_serves_metrics_without_a_key_and_nothing_else(
    metrics: PrometheusMetrics, exposition: Exposition
) -> None:
    metrics.registry.register(LeaderGauges(FakeLeader()))
    app = make_metrics(exposition)
    async with (
        running(app, bind("metrics", "127.0.0.1", 0), shutdown_timeout=1) as url,
        aiohttp.ClientSession(trust_env=False) as session,
    ):
        async with session.get(f"{url}/metrics") as answer:
            assert answer.status == 200
            assert "user_pods_leader 0.0" in await answer.text()
        async with session.get(f"{url}/metrics", headers={"Sec-Fetch-Site": "cross-site"}) as answer:
            assert answer.status == 403
        for path in ("/sessions", "/docs", "/health"):
            async with session.get(url + path) as answer:
                assert answer.status == 404
