"""The gateway's metrics: outcome of each request, waiting times, and open connections."""

import asyncio

from service.domain.metrics import ActivitySource, RequestOutcome, Traffic, Waiter
from service.gateway.limits import GatewayLimits
from tests.domain.conftest import World
from tests.gateway.conftest import House, answer
from tests.gateway.test_websockets import socket
from tests.waiting import until


async def test_a_request_to_an_awake_pod_counts_as_passed_whatever_the_answer(house: House) -> None:
    headers = await house.headers(await house.awake())
    for path in ("/echo", "/moved", "/bare", "/flood"):
        async with house.http.get(house.url(path), headers=headers, allow_redirects=False):
            pass
    assert house.metrics.visits == {RequestOutcome.PASSED: 4}
    assert not house.metrics.waits


async def test_a_request_to_a_sleeper_is_held_and_its_wait_is_measured_once(house: House) -> None:
    house.delay = 0.3
    uuid = await house.session()
    await answer(house, "/echo", await house.headers(uuid))
    assert house.metrics.visits == {RequestOutcome.HELD: 1}
    ((who, seconds),) = house.metrics.waits
    assert who is Waiter.REQUEST
    assert 0.3 <= seconds < 2


async def test_pages_waits_and_refusals_are_measured(house: House) -> None:
    house.delay = 0.3
    uuid = await house.session()
    await answer(house, "/", await house.person(uuid))
    await answer(house, "/.user-pods/wake", await house.headers(uuid))
    await answer(house, "/", {"Host": house.host(uuid)})
    assert house.metrics.visits == {RequestOutcome.PAGE: 1, RequestOutcome.OWN: 1, RequestOutcome.REFUSED: 1}
    ((who, seconds),) = house.metrics.waits
    assert who is Waiter.PAGE
    assert 0.1 < seconds < 2


async def test_failures_to_reach_a_pod_are_distinguished(world: World) -> None:
    async with House(world, GatewayLimits(held=1), delay=60).open() as house:
        uuid = await house.session()
        headers = await house.headers(uuid)
        await answer(house, "/healthz", headers)
        waiting = asyncio.create_task(answer(house, "/echo", headers))
        await until(lambda: house.gateway.traffic.held == 1)
        await answer(house, "/echo", headers)
        assert house.metrics.visits == {RequestOutcome.ASLEEP: 1, RequestOutcome.BUSY: 1}
        waiting.cancel()
        await until(lambda: house.metrics.visits[RequestOutcome.LEFT] == 1)
        await answer(house, "/reset", await house.headers(await house.awake("bob")), "POST", data=b"once")
        assert house.metrics.visits[RequestOutcome.FAILED] == 1
        assert house.metrics.visits.total() == 4


async def test_open_connections_are_counted_while_they_are_open(house: House) -> None:
    uuid = await house.awake()
    assert house.gateway.traffic == Traffic(connections=0, websockets=0, held=0)
    async with socket(house, uuid), socket(house, uuid):
        assert house.gateway.traffic == Traffic(connections=2, websockets=2, held=0)
    await until(lambda: house.gateway.traffic == Traffic(connections=0, websockets=0, held=0))
    assert house.metrics.visits == {RequestOutcome.PASSED: 2}


async def test_every_recorded_activity_is_counted(house: House) -> None:
    headers = await house.headers(await house.awake())
    for _ in range(5):
        await answer(house, "/echo", headers)
    await until(lambda: house.metrics.notes == {ActivitySource.VISIT: 1})
