"""The list of sessions: searching, filtering, sorting, paging, and what it says of what is wrong."""

import re
from dataclasses import replace

import pytest

from service.dashboard.session_list import PAGE, ListQuery, SessionList
from service.domain.errors import RedisUnavailable
from service.domain.session_index import SessionIndex
from tests.dashboard.conftest import OPERATOR, VIEWER, Board
from tests.dashboard.sessions import fill, put
from tests.domain.conftest import World

HOSTILE = "\"><img/src=x/onerror=alert(1)>{{7*7}}'</script><!--"


def users(page: str) -> list[str]:
    return re.findall(r'<th scope="row"><a href="[^"]+">([^<]*)</a>', page)


@pytest.mark.parametrize(
    ("query", "found", "first"),
    [
        ("", "1,000 sessions.", "user00000@example.com"),
        ("?q=USER00042", "1 of 1,000 sessions.", "user00042@example.com"),
        ("?q=0042@ex", "1 of 1,000 sessions.", "user00042@example.com"),
        ("?q=a0000007", "1 of 1,000 sessions.", "user00007@example.com"),
        ("?q=a000000&sort=-id", "10 of 1,000 sessions.", "user00009@example.com"),
        ("?phase=ready", "20 of 1,000 sessions.", "user00001@example.com"),
        ("?phase=failed&sort=-created", "10 of 1,000 sessions.", "user00904@example.com"),
        ("?phase=ready&q=user001", "2 of 1,000 sessions.", "user00101@example.com"),
        ("?reason=image", "10 of 1,000 sessions.", "user00004@example.com"),
        ("?sort=-user", "1,000 sessions.", "user00999@example.com"),
        ("?sort=created&page=2", "1,000 sessions.", "user00050@example.com"),
        ("?sort=state&page=20", "1,000 sessions.", "user00990@example.com"),
        ("?page=999999", "1,000 sessions.", "user00950@example.com"),
        ("?q=nobody", "0 of 1,000 sessions.", None),
    ],
)
async def test_operators_find_sessions(board: Board, world: World, query: str, found: str, first: str | None) -> None:
    fill(world, 1000)
    page = await (await board.visitor(OPERATOR)).read(f"/dashboard{query}")
    assert found in page
    assert next(iter(users(page)), None) == first
    assert len(users(page)) <= PAGE


ODD = (
    "%00", "%ff%fe", "%ed%a0%80", "-1", "0", "9" * 30, "%D9%A3", "a" * 3000, "%22%3E%3Cimg", "-", "--user",
    "__class__", "%0d%0aX:%20y",
)  # fmt: skip


@pytest.mark.parametrize("name", ["q", "phase", "reason", "sort", "page", "unknown"])
async def test_odd_parameters_do_no_harm(board: Board, world: World, name: str) -> None:
    fill(world, 60)
    visitor = await board.visitor(VIEWER)
    for value in ODD:
        answer = await visitor.get(f"/dashboard?{name}={value}&{name}=2")
        assert answer.status == 200, value
        assert "<img" not in await answer.text()
        assert "X" not in answer.headers


async def test_a_page_keeps_the_search_in_its_links(board: Board, world: World) -> None:
    fill(world, 200)
    page = await (await board.visitor(OPERATOR)).read("/dashboard?q=user&sort=-created&phase=asleep&page=2")
    assert 'rel="next" href="?q=user&amp;phase=asleep&amp;sort=-created&amp;page=3"' in page
    assert 'rel="prev" href="?q=user&amp;phase=asleep&amp;sort=-created"' in page
    assert 'href="?q=user&amp;phase=asleep&amp;sort=created"' in page, "the column sorts the other way around"


async def test_reasons_are_grouped_in_words_and_lead_to_their_sessions(board: Board, world: World) -> None:
    fill(world, 1200)
    for uuid in list(world.cluster.workloads)[5:8]:
        world.cluster.workloads[uuid] = replace(world.cluster.workload(uuid), has_scaler=False)
    page = await (await board.visitor(VIEWER)).read("/dashboard")
    assert '<a href="?reason=image">12 sessions cannot pull their image</a>' in page
    assert '<a href="?reason=release">3 sessions lack a part of their release</a>' in page
    page = await (await board.visitor(VIEWER)).read("/dashboard?reason=release")
    assert users(page) == [f"user0000{number}@example.com" for number in (5, 6, 7)]
    assert "the ScaledObject is missing; create the session again to repair it" in page


async def test_a_hostile_user_id_is_only_text(board: Board, world: World) -> None:
    uuid = put(world, 4, HOSTILE)
    world.cluster.workloads[uuid] = replace(world.cluster.workload(uuid), failure=f"Bad: {HOSTILE}")
    visitor = await board.visitor(OPERATOR)
    for path in ("/dashboard", f"/dashboard?q={HOSTILE[:4].replace('<', '%3C')}", f"/dashboard/sessions/{uuid}"):
        page = await visitor.read(path)
        assert HOSTILE not in page
        assert "<img" not in page
        assert "onerror=alert(1)&gt;{{7*7}}" in page, path


async def test_without_redis_the_list_shows_what_the_cluster_knows(
    board: Board, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(world, 10)
    visitor = await board.visitor(OPERATOR)

    async def away(*_: object) -> None:
        raise RedisUnavailable

    monkeypatch.setattr(world.store, "records", away)
    page = await visitor.read("/dashboard")
    assert "Redis does not answer" in page
    assert len(users(page)) == 10


async def test_a_session_of_which_the_cluster_has_nothing_is_found_by_its_whole_name(
    board: Board, world: World
) -> None:
    fill(world, 3)
    uuid = put(world, 50, "gone@example.com")
    del world.cluster.workloads[uuid]
    visitor = await board.visitor(OPERATOR)
    for search in (uuid, "gone@example.com"):
        page = await visitor.read(f"/dashboard?q={search}")
        assert users(page) == ["gone@example.com"]
        assert "Removed" in page
    assert users(await visitor.read("/dashboard?q=gone")) == []


async def test_an_entry_is_made_anew_only_when_its_workload_changes(world: World) -> None:
    fill(world, 10)
    index = SessionIndex(world.cluster)
    before = {each.uuid: each for each in index.sessions()}
    (uuid, *others) = before
    world.cluster.workloads[uuid] = replace(world.cluster.workload(uuid), replicas=1)
    del world.cluster.workloads[others[0]]
    after = {each.uuid: each for each in index.sessions()}
    assert after[uuid].phase == "waking"
    assert others[0] not in after
    assert all(after[each] is before[each] for each in others[1:])
    assert list(index.some([uuid, others[0], others[1]])) == [after[uuid], before[others[1]]]


async def test_a_chart_installed_by_hand_is_no_session(world: World) -> None:
    fill(world, 1)
    (uuid,) = world.cluster.workloads
    world.cluster.workloads[uuid] = replace(world.cluster.workload(uuid), user_id=None)
    page = await SessionList(SessionIndex(world.cluster), world.queries).page(ListQuery())
    assert (page.total, page.rows) == (0, [])


async def test_an_empty_service_says_so(board: Board) -> None:
    assert "There are no sessions yet" in await (await board.visitor(VIEWER)).read("/dashboard")
