"""Visits are noted: once for each person who opens a workspace, and not for every request of its pages."""

import asyncio

from service.domain.journal import Visited, Woken, hashed
from service.domain.names import SessionId
from service.gateway.activity.visits import VisitRecorder
from tests.domain.conftest import Notes
from tests.fakes import MemoryCluster
from tests.gateway.conftest import House, answer
from tests.waiting import until

UUID, OTHER = SessionId("abc123xy"), SessionId("12345678")


def noted(house: House, kind: type[Visited | Woken]) -> list[Visited | Woken]:
    return [each for each in house.world.journal.entries if isinstance(each, kind)]


async def test_a_person_who_opens_an_awake_workspace_is_one_visit_with_its_request(house: House) -> None:
    uuid = await house.awake()
    person = await house.person(uuid)
    await answer(house, "/", {**person, "X-Request-Id": "request-1"})
    for path in ("/", "/page"):
        await answer(house, path, person)
    for _ in range(3):
        await answer(house, "/api", await house.headers(uuid))
    (visit,) = noted(house, Visited)
    assert isinstance(visit, Visited)
    assert (visit.uuid, visit.user, visit.request, visit.asleep) == (uuid, hashed("ann"), "request-1", False)
    assert noted(house, Woken) == []


async def test_a_person_who_finds_a_sleeper_is_one_visit_and_one_wake_however_often_the_page_polls(
    house: House,
) -> None:
    house.delay = 0.3
    uuid = await house.session()
    person = await house.person(uuid)
    for _ in range(3):
        await answer(house, "/", person)
    await until(lambda: uuid in house.workspaces)
    await asyncio.sleep(0.05)
    await answer(house, "/", person)
    (visit,), (woken,) = noted(house, Visited), noted(house, Woken)
    assert isinstance(visit, Visited)
    assert isinstance(woken, Woken)
    assert (visit.asleep, woken.by, woken.user) == (True, "visit", hashed("ann"))
    assert visit.request == woken.request != "-"


async def test_a_program_that_wakes_a_workspace_is_a_wake_and_not_a_visit(house: House) -> None:
    uuid = await house.session()
    headers = await house.headers(uuid)
    await asyncio.gather(*(answer(house, f"/api/{number}", headers) for number in range(5)))
    assert [each.by for each in noted(house, Woken) if isinstance(each, Woken)] == ["visit"]
    assert noted(house, Visited) == []


async def test_a_refused_person_is_not_a_visit(house: House) -> None:
    uuid = await house.awake()
    await answer(house, "/", {"Host": house.host(uuid), "Accept": "text/html"})
    assert noted(house, Visited) == []


async def test_requests_on_one_connection_have_separate_ids(house: House) -> None:
    first, second = await house.awake("ann"), await house.awake("bob")
    for uuid in (first, second):
        await answer(house, "/", await house.person(uuid))
    assert len({each.request for each in noted(house, Visited)}) == 2


def test_after_a_while_a_page_is_a_new_visit_and_sooner_when_it_finds_a_sleeper() -> None:
    now, notes = 0.0, Notes()
    arrivals = VisitRecorder(notes, MemoryCluster(), lambda: now)
    for now, uuid, asleep in (  # noqa: B007 - the clock reads it
        (0, UUID, True),
        (2, UUID, True),
        (4, UUID, False),
        (300, UUID, False),
        (300, OTHER, False),
        (800, UUID, False),
        (1500, UUID, False),
        (1600, UUID, True),
    ):
        arrivals.page_opened(uuid, asleep=asleep, seconds=0.1)
    assert [(each.uuid, each.asleep) for each in notes.entries if isinstance(each, Visited)] == [
        (UUID, True),
        (OTHER, False),
        (UUID, False),
        (UUID, True),
    ]


def test_the_memory_of_visits_is_bounded() -> None:
    arrivals = VisitRecorder(Notes(), MemoryCluster())
    for number in range(10_100):
        arrivals.page_opened(SessionId(f"{number:08}"), asleep=False, seconds=0)
    assert len(arrivals._last) == 10_000
