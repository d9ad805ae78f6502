"""`GET /session/{uuid}/history`: what callers see of a session's past."""

from datetime import UTC, datetime, timedelta

from service.domain.errors import RedisUnavailable
from service.domain.journal import Failed, HistoryEvent, Ready, Slept, Woken
from service.domain.names import SessionId
from service.domain.sleep_cause import SleepReason
from tests.domain.conftest import World
from tests.web.conftest import Client

NOW = datetime(2026, 1, 1, 14, 0, tzinfo=UTC)
NOTHING = dict.fromkeys(
    ("by", "ready_at", "seconds", "cause", "idle_since", "interrupted", "reason", "request_id")
)  # what does not belong to a kind


def events(uuid: SessionId) -> tuple[HistoryEvent, ...]:
    def at(seconds: float) -> datetime:
        return NOW + timedelta(seconds=seconds)

    return (
        Woken(uuid=uuid, user=None, at=at(0), request="request-1", by="api"),
        Failed(uuid=uuid, user=None, at=at(1), request="-", doing="wake", reason="ErrImagePull: no", pod="p1"),
        Ready(uuid=uuid, user=None, at=at(2.5), request="request-1", seconds=2.5, pod="p1"),
        Slept(
            uuid=uuid, user=None, at=at(150), request="-", why=SleepReason.IDLE, idle_since=NOW, seconds=149, pod="p1"
        ),
    )


async def test_wakes_sleeps_and_failures_are_listed_newest_first(client: Client, world: World) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    for event in events(uuid):
        await world.history.append(event)
    answer = await client.get(f"/session/{uuid}/history")
    assert answer.status == 200
    assert await answer.json() == {
        "uuid": uuid,
        "entries": [
            {
                **NOTHING,
                "kind": "sleep",
                "at": "2026-01-01T14:02:30Z",
                "cause": "idle",
                "idle_since": "2026-01-01T14:00:00Z",
                "interrupted": False,
                "seconds": 149,
            },
            {**NOTHING, "kind": "failure", "at": "2026-01-01T14:00:01Z", "reason": "ErrImagePull: no"},
            {
                **NOTHING,
                "kind": "wake",
                "at": "2026-01-01T14:00:00Z",
                "by": "api",
                "ready_at": "2026-01-01T14:00:02.500000Z",
                "seconds": 2.5,
                "request_id": "request-1",
            },
        ],
    }


async def test_a_new_session_has_an_empty_history_and_an_unknown_one_is_not_found(client: Client, world: World) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    assert await (await client.get(f"/session/{uuid}/history")).json() == {"uuid": uuid, "entries": []}
    unknown = await client.get("/session/00000000/history")
    assert (unknown.status, (await unknown.json())["type"]) == (404, "/problems/session-not-found")


async def test_without_redis_it_says_so(client: Client, world: World) -> None:
    async def away(_uuid: SessionId) -> list[HistoryEvent]:
        raise RedisUnavailable

    uuid = (await world.provisioner.create("ann")).uuid
    world.history.events = away  # type: ignore[method-assign, assignment]
    answer = await client.get(f"/session/{uuid}/history")
    assert (answer.status, (await answer.json())["part"]) == (503, "redis")


async def test_a_wake_is_recorded_with_its_request_and_caller(client: Client, world: World) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    world.journal.entries.clear()
    for name in ("request-1", "request-2"):
        await client.post(f"/session/{uuid}/wake", headers={"X-Request-Id": name})
    await client.post(f"/session/{uuid}/sleep", headers={"X-Request-Id": "request-3"})
    (woken,) = world.journal.entries
    assert isinstance(woken, Woken)
    assert (woken.by, woken.request) == ("api", "request-1")
    asked = (await world.store.record(uuid)).sleep_request
    assert asked is not None
    assert (asked.request, asked.by) == ("request-3", "api")
