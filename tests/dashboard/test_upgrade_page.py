"""The upgrade of all sessions, on a page: how it stands, and who may start, continue and stop it."""

import re
from dataclasses import replace
from datetime import timedelta

import pytest

from service.dashboard.upgrade_page import STEPS
from service.domain.clock import utc_now
from service.domain.names import SessionId
from service.domain.permissions import CallerRole
from service.domain.rollout import Pace, Rollout, RolloutOptions, RolloutState
from tests.dashboard.conftest import FRONTEND, OPERATOR, VIEWER, Board
from tests.dashboard.test_list import HOSTILE
from tests.dashboard.test_overview import words
from tests.domain.conftest import World

UPGRADE = "/dashboard/upgrade"


async def sessions(world: World, count: int, *, awake: int = 0) -> list[SessionId]:
    """Sessions that are out of date; the last ones are awake."""
    uuids = [(await world.provisioner.create(f"user{number:02}@example.com")).uuid for number in range(count)]
    for uuid in uuids[count - awake :]:
        world.cluster.change(replace(world.cluster.workload(uuid), replicas=1, ready=1))
    for uuid in uuids[: count - awake]:
        world.cluster.change(replace(world.cluster.workload(uuid), replicas=0, ready=0))
    world.releases.target = "second"
    return uuids


def offered(page: str) -> list[str]:
    return re.findall(rf'href="{UPGRADE}/([a-z]+)"', page)


async def test_without_anything_to_do_nothing_is_offered(board: Board, world: World) -> None:
    await sessions(world, 1)
    world.releases.target = "first"
    page = await (await board.visitor(OPERATOR)).read(UPGRADE)
    assert "All sessions are up to date." in words(page)
    assert "1 of 1 sessions are up to date" in words(page)
    assert offered(page) == []


async def test_an_upgrade_is_started_with_the_chosen_options_followed_and_stopped(board: Board, world: World) -> None:
    uuids = await sessions(world, 5, awake=2)
    operator, viewer = await board.visitor(OPERATOR), await board.visitor(VIEWER)
    page = await operator.read(UPGRADE)
    assert "5 sessions are out of date." in words(page)
    assert offered(page) == ["start"]
    answer = await operator.submit(f"{UPGRADE}/start", canary="2", max_parallel="3", max_failures="4")
    page = await operator.read(answer.headers["Location"])
    assert "The upgrade is under way. It goes on without this page." in words(page)
    assert offered(page) == ["stop"]
    rollout = world.rollouts.stored
    assert rollout is not None
    assert rollout.options == RolloutOptions(canary=2, max_parallel=3, max_failures=4)
    # Those that are awake are named, and what has been done is counted.
    world.cluster.change(replace(world.cluster.workload(uuids[0]), revision="second"))
    shown = words(await viewer.read(UPGRADE))
    assert "An upgrade is under way." in shown
    assert "1 of 5 sessions are up to date" in shown
    assert "Asleep 2, which come next" in shown
    assert "Awake 2, which follow when their users are gone" in shown
    assert shown.endswith("user03@example.com user04@example.com")
    assert "by operator-all" in shown
    answer = await operator.submit(f"{UPGRADE}/stop")
    page = await operator.read(answer.headers["Location"])
    assert "The last upgrade was stopped." in words(page)
    assert offered(page) == ["start"]
    entries = [each.operation for each in await board.entries(4)]
    assert entries[:2] == ["stop_upgrade", "start_upgrade"]


async def test_an_upgrade_that_waits_for_its_canaries_can_be_continued(board: Board, world: World) -> None:
    first, second, _ = await sessions(world, 3)
    world.rollouts.stored = Rollout(
        id="a", target="second", options=RolloutOptions(canary=2), started_by="ops", started_at=utc_now(),
        state=RolloutState.WAITING_FOR_CANARY, canaries=(first, second), ready_canaries=(second,),
    )  # fmt: skip
    operator = await board.visitor(OPERATOR)
    page = await operator.read(UPGRADE)
    assert "have become ready: 1 of 2 have." in words(page)
    assert f"{first} : not ready yet {second} : ready" in words(page)
    assert offered(page) == ["continue", "stop"]
    await operator.submit(f"{UPGRADE}/continue")
    assert world.rollouts.stored.continued


@pytest.mark.parametrize(("seconds", "words_"), [(10, "a minute"), (600, "20 min"), (7000, "4 h"), (None, "")])
async def test_the_time_left_is_shown_in_round_numbers(
    board: Board, world: World, seconds: int | None, words_: str
) -> None:
    await sessions(world, 21, awake=1)
    pace = Pace(10, seconds, utc_now()) if seconds else Pace()
    world.rollouts.stored = Rollout(
        id="a", target="second", options=RolloutOptions(), started_by="ops", started_at=utc_now(), pace=pace
    )
    page = words(await (await board.visitor(VIEWER)).read(UPGRADE))
    assert f"Asleep 20, which come next{words_ and f'; about {words_} left'} Awake 1, which follow" in page


async def test_failures_are_named_with_their_reason_as_text(board: Board, world: World) -> None:
    uuid, *_ = await sessions(world, 2)
    begun = Rollout(
        id="a", target="second", options=RolloutOptions(max_failures=1), started_by="ops",
        started_at=utc_now() - timedelta(hours=1),
    )  # fmt: skip
    world.rollouts.stored = begun.with_failure(uuid, f"no quota {HOSTILE}", utc_now())
    page = await (await board.visitor(VIEWER)).read(UPGRADE)
    assert "The last upgrade has stopped after 1 failure." in words(page)
    assert "Failed 1, which keep what they had" in words(page)
    assert "no quota" in page
    assert HOSTILE not in page
    assert f'href="/dashboard/sessions/{uuid}"' in page
    assert offered(page) == []


async def test_an_upgrade_to_another_revision_than_this_process_has_is_told(board: Board, world: World) -> None:
    await sessions(world, 1)
    world.rollouts.stored = Rollout(
        id="a", target="third", options=RolloutOptions(), started_by="ops", started_at=utc_now()
    )
    operator = await board.visitor(OPERATOR)
    assert "the two have different versions" in words(await operator.read(UPGRADE))
    answer = await operator.submit(f"{UPGRADE}/start", canary="0")
    assert answer.status == 409
    assert "Stop that one first" in await answer.text()


async def test_many_that_are_awake_are_counted_and_not_all_named(board: Board, world: World) -> None:
    await sessions(world, 25, awake=25)
    shown = words(await (await board.visitor(VIEWER)).read(UPGRADE))
    assert shown.endswith("user19@example.com and 5 more")


@pytest.mark.parametrize(
    "fields",
    [{"canary": "-1"}, {"canary": "1001"}, {"canary": ""}, {"max_parallel": "0"}, {"max_parallel": "65"},
     {"max_failures": "0"}, {"max_failures": "9" * 99}, {"max_failures": "٣"}, {"max_parallel": "1.5"}],
)  # fmt: skip
async def test_options_that_do_not_fit_start_nothing(board: Board, world: World, fields: dict[str, str]) -> None:
    await sessions(world, 1)
    answer = await (await board.visitor(OPERATOR)).submit(f"{UPGRADE}/start", **fields)
    assert answer.status == 422
    assert world.rollouts.stored is None


@pytest.mark.parametrize("name", ["continue", "stop"])
async def test_without_an_upgrade_there_is_none_to_continue_or_stop(board: Board, world: World, name: str) -> None:
    await sessions(world, 1)
    answer = await (await board.visitor(OPERATOR)).submit(f"{UPGRADE}/{name}")
    assert answer.status == 409
    assert "it shows how the last one has ended" in await answer.text()


@pytest.mark.parametrize("who", [(VIEWER, None), (FRONTEND, None), (OPERATOR, "user00@example.com")])
async def test_who_may_look_and_act(board: Board, world: World, who: tuple[CallerRole, str | None]) -> None:
    await sessions(world, 1)
    visitor = await board.visitor(*who)
    answer = await visitor.get(UPGRADE)
    assert answer.status == (200 if who == (VIEWER, None) else 403)
    assert offered(await answer.text()) == []
    form = (await visitor.read("/dashboard")).partition('name="form" value="')[2].partition('"')[0]
    for name in STEPS:
        assert (await visitor.get(f"{UPGRADE}/{name}")).status == 403
        assert (await visitor.post(f"{UPGRADE}/{name}", {"form": form})).status == 403
    assert world.rollouts.stored is None


async def test_a_form_without_the_sessions_token_starts_nothing(board: Board, world: World) -> None:
    await sessions(world, 1)
    visitor = await board.visitor(OPERATOR)
    assert (await visitor.post(f"{UPGRADE}/start", {"form": "x"})).status == 403
    assert world.rollouts.stored is None
