"""Pages that stay up to date."""

import asyncio
from dataclasses import replace

import pytest
from aiohttp import ClientResponse

from service.domain.journal import Slept
from service.domain.names import SessionId
from service.domain.sleep_cause import SleepReason
from tests.dashboard.conftest import OPERATOR, VIEWER, Board, Visitor
from tests.dashboard.sessions import IMAGE, fill
from tests.domain.conftest import World
from tests.waiting import until


async def event(stream: ClientResponse) -> tuple[str, str]:
    """The next event: its name and its data."""
    name, data = "", []
    async with asyncio.timeout(20):
        async for line in stream.content:
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                data.append(value)
            elif not field and name:
                return name, "\n".join(data)
    raise AssertionError("the stream has ended")


async def state(stream: ClientResponse) -> str:
    """The next state that a session's page is told; what can be done about it comes as an event of its own."""
    while (found := await event(stream))[0] != "state":
        pass
    return found[1]


async def following(visitor: Visitor, path: str) -> ClientResponse:
    stream = await visitor.get(path)
    assert stream.status == 200
    assert stream.content_type == "text/event-stream"
    return stream


async def test_few_users_cannot_use_up_the_streams_of_all(board: Board, world: World) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    visitor, operator = await board.visitor(OPERATOR, "ann"), await board.visitor(OPERATOR)
    path = f"/dashboard/sessions/{uuid}/live"
    streams = [await following(visitor, path) for _ in range(16)]
    assert (await visitor.get(path)).status == 503
    streams += [await following(operator, path) for _ in range(20)]
    for stream in streams:
        stream.close()


@pytest.mark.parametrize(
    "path", ["/dashboard", "/dashboard?q=ann", "/dashboard/live?ids=a0000000", "/dashboard/findings?look"]
)
@pytest.mark.parametrize("site", ["same-site", "cross-site"])
async def test_a_page_of_a_workspace_loads_nothing_from_here_for_its_visitor(
    board: Board, world: World, path: str, site: str
) -> None:
    """A workspace is the same site, so the browser sends the cookie: by how long it takes, its page could learn."""
    fill(world, 1)
    visitor = await board.visitor(OPERATOR)
    for mode, dest in (("no-cors", "image"), ("cors", "empty"), ("navigate", "iframe")):
        fetch = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
        assert (await visitor.get(path, **fetch)).status == 403
    opened = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    answer = await visitor.get("/dashboard", **opened)
    assert answer.status == 200, "a link may lead here"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


async def test_the_details_and_the_history_follow_their_session_as_its_state_does(board: Board, world: World) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    stream = await following(await board.visitor(OPERATOR), f"/dashboard/sessions/{uuid}/live")
    first = dict([await event(stream) for _ in range(4)])
    assert sorted(first) == ["actions", "details", "history", "state"]
    assert ("none" in first["details"], "Nothing has happened yet." in first["history"]) == (True, True)
    await world.history.append(Slept(uuid=uuid, user=None, why=SleepReason.ASKED, by="shop"))
    world.cluster.change(replace(world.cluster.workload(uuid), replicas=1, ready=1, parked=False))
    later = dict([await event(stream) for _ in range(4)])
    assert "Awake" in later["state"]
    assert "1 of 1 ready" in later["details"]
    assert "polls the queue" in later["details"]
    assert "“shop” asked for it" in later["history"]
    world.cluster.change(replace(world.cluster.workload(uuid), replicas=0))
    while (found := await event(stream))[0] != "details":
        pass
    assert "the last one is ending" in found[1]
    assert "until it is parked" in found[1]


async def test_each_row_follows_its_session(board: Board, world: World) -> None:
    fill(world, 5)
    stream = await following(await board.visitor(VIEWER), "/dashboard/live?ids=a0000000,a0000001,zzz")
    assert {(await event(stream))[0] for _ in range(2)} == {"a0000000", "a0000001"}
    other, uuid = SessionId("a0000002"), SessionId("a0000000")
    world.cluster.change(replace(world.cluster.workload(other), replicas=0, ready=0))
    world.cluster.change(replace(world.cluster.workload(uuid), replicas=1, failure=IMAGE))
    name, markup = await event(stream)
    assert name == uuid
    assert "Does not start" in markup
    assert "ImagePullBackOff" in markup
    stream.close()


async def test_the_page_of_a_session_follows_it(board: Board, world: World) -> None:
    fill(world, 1)
    stream = await following(await board.visitor(VIEWER), "/dashboard/sessions/a0000000/live")
    assert "Asleep" in (await state(stream))
    uuid = SessionId("a0000000")
    world.cluster.change(replace(world.cluster.workload(uuid), replicas=1, ready=1))
    assert "Awake" in (await state(stream))
    stream.close()


async def test_a_stream_ends_for_whoever_is_no_longer_signed_in(board: Board, world: World) -> None:
    fill(world, 1)
    visitor = await board.visitor(OPERATOR)
    stream = await following(visitor, "/dashboard/live?ids=a0000000")
    await event(stream)
    await board.set_lines([])
    world.cluster.change(replace(world.cluster.workload(SessionId("a0000000")), replicas=1))
    async with asyncio.timeout(20):
        rest = await stream.read()
    assert b"event:" not in rest
    assert (await visitor.get("/dashboard/live?ids=a0000000")).status == 303


async def test_one_caller_does_not_take_all_streams(
    board: Board, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(world, 1)
    monkeypatch.setattr(board.live, "_per_caller", 2)
    first, second = await board.visitor(VIEWER), await board.visitor(OPERATOR)
    open_ = [await following(first, "/dashboard/live?ids=a0000000") for _ in range(2)]
    assert (await first.get("/dashboard/live?ids=a0000000")).status == 503
    open_.append(await following(second, "/dashboard/live?ids=a0000000"))
    for stream in open_:
        stream.close()


async def test_streams_are_left_without_a_trace(board: Board, world: World) -> None:
    fill(world, 1)
    stream = await following(await board.visitor(VIEWER), "/dashboard/live?ids=a0000000")
    await event(stream)
    stream.close()
    await until(lambda: not world.cluster.listeners, 20)
