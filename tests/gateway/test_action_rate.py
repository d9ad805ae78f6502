"""How often a session may be asked to wake, stay awake, sleep or restart: kindly refused beyond, and only there."""

import pytest

from service.domain.names import SessionId
from service.gateway.action_rate import BURST, INTERVAL, ActionRate
from service.gateway.errors import GatewayError
from tests.gateway.conftest import House, answer
from tests.gateway.test_companion_channel import fall_asleep, page
from tests.gateway.test_workspace_page import post, shown

UUID, OTHER = SessionId("abc123xy"), SessionId("12345678")


def test_after_a_burst_each_further_action_takes_its_time_and_others_are_not_affected() -> None:
    now = 100.0
    rate = ActionRate(lambda: now)
    for _ in range(BURST):
        rate.take(UUID)
    for _ in range(3):
        with pytest.raises(GatewayError) as refused:
            rate.take(UUID)
        assert (refused.value.status, refused.value.retry_after) == (429, INTERVAL)
    rate.take(OTHER)
    now += INTERVAL - 1
    with pytest.raises(GatewayError) as refused:
        rate.take(UUID)
    assert refused.value.retry_after == 1
    now += 1
    rate.take(UUID)
    now += 1000
    for _ in range(BURST):
        rate.take(UUID)


def test_the_memory_of_actions_is_bounded() -> None:
    rate = ActionRate()
    for number in range(10_100):
        rate.take(SessionId(f"{number:08}"))
    assert len(rate._paid) == 10_000


async def test_the_buttons_of_the_page_are_refused_with_a_page_and_those_of_others_are_not(house: House) -> None:
    uuid, other = await house.awake(), await house.awake("bob")
    for _ in range(BURST):
        assert (await post(house, uuid, "action=stay&seconds=60"))[0] == 303
    for form in ("action=stay&seconds=60", "action=sleep", "action=restart", "action=wake"):
        status, headers, body = await post(house, uuid, form)
        assert (status, "<h1>That was too often</h1>" in body) == (429, True)
        assert 0 < int(headers["Retry-After"]) <= INTERVAL
    assert house.world.cluster.workload(uuid).replicas == 1
    await shown(house, uuid)
    assert (await post(house, other, "action=stay&seconds=60"))[0] == 303


async def test_a_pages_messages_are_refused_once_and_those_of_others_are_not(house: House) -> None:
    uuid, other = await house.awake(), await house.awake("bob")
    async with page(house, uuid) as each:
        await each.hears("state", phase="ready")
        for _ in range(BURST):
            await each.says("stay")
            await each.hears("stayed")
        kept = house.world.store.sessions[uuid].kept_until
        await fall_asleep(house, uuid)
        await each.hears("state", phase="asleep")
        for _ in range(20):
            await each.says("wake")
        refusal = await each.hears("failed")
        assert (refusal["title"], "then try again" in refusal["detail"]) == ("That was too often", True)
        await each.says("stay")
        with pytest.raises(TimeoutError):
            await each.hears("failed")
        assert (house.starts, house.world.store.sessions[uuid].kept_until) == (2, kept)
    async with page(house, other) as each:
        await each.says("stay")
        await each.hears("stayed")


async def test_a_program_in_the_pod_is_told_when_to_try_again_and_takes_nothing_from_its_user(house: House) -> None:
    uuid, form = await house.awake(), {"uuid": "", "for": "1h"}
    form["uuid"] = uuid
    sent = {"Host": "gateway.internal"}
    for _ in range(BURST):
        assert (await answer(house, "/.user-pods/keep-awake", sent, "POST", data=form))[0] == 200
    async with house.http.post(house.url("/.user-pods/keep-awake"), headers=sent, data=form) as found:
        assert (found.status, int(found.headers["Retry-After"])) == (429, INTERVAL)
        assert "try again" in await found.text()
    assert (await post(house, uuid, "action=stay&seconds=60"))[0] == 303
