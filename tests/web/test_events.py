"""The stream of a wake's events, over a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import aiohttp
import pytest

from service.domain.api_keys import ApiKeys, new_api_key
from service.domain.errors import RedisUnavailable
from service.domain.identity import SignInFailure, SignInRefused, UserRule
from service.domain.names import SessionId
from service.domain.people import People, PersonRule
from service.domain.permissions import CallerRole
from service.domain.progress import ProgressUpdate, Stage
from service.edge.drain import Drain
from service.web import stream
from service.web.keys import PROBES
from tests.domain.conftest import World
from tests.fakes import MemoryApiKeyFile, MemoryBearerTokens
from tests.waiting import until
from tests.web.conftest import Client, Serve


@dataclass(frozen=True)
class Told:
    id: str
    name: str
    data: dict[str, Any]


async def read(answer: aiohttp.ClientResponse) -> AsyncIterator[Told | str]:
    """Events, and comments as text, as they come."""
    async for block in _blocks(answer):
        if block.startswith(":"):
            yield block
            continue
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        yield Told(fields.get("id", ""), fields["event"], json.loads(fields["data"]))


async def _blocks(answer: aiohttp.ClientResponse) -> AsyncIterator[str]:
    rest = ""
    async for chunk in answer.content.iter_any():
        *blocks, rest = (rest + chunk.decode()).split("\n\n")
        for block in blocks:
            yield block


async def everything(client: Client, uuid: str, **headers: str) -> list[Told]:
    async with client.get(f"/session/{uuid}/events", headers=headers) as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        return [told async for told in read(answer) if isinstance(told, Told)]


@pytest.fixture
async def uuid(world: World) -> SessionId:
    return (await world.provisioner.create("ann")).uuid


async def test_a_wake_is_streamed_from_its_start_and_live(client: Client, world: World, uuid: SessionId) -> None:
    await client.post(f"/session/{uuid}/wake")
    async with client.get(f"/session/{uuid}/events") as answer:
        events = read(answer)
        first = await anext(events)
        assert isinstance(first, Told)
        assert (first.name, first.data["phase"], first.data["seconds"]) == ("accepted", "accepted", 0)
        await world.progress.write(uuid, ProgressUpdate(Stage.WARNING, "FailedMount: the volume\nis away"))
        second = await anext(events)
        assert isinstance(second, Told)
        assert (second.name, second.data["reason"]) == ("warning", "FailedMount: the volume\nis away")
        await world.progress.write(uuid, ProgressUpdate(Stage.READY))
        assert [told.name async for told in events if isinstance(told, Told)] == ["ready"]


async def test_a_heartbeat_of_an_awake_session_adds_nothing(client: Client, world: World, uuid: SessionId) -> None:
    world.cluster.change(replace(world.cluster.workload(uuid), replicas=1, ready=1))
    await client.post(f"/session/{uuid}/wake")
    assert not world.progress.wakes


async def test_a_finished_wake_is_streamed_in_full_and_ends(client: Client, world: World, uuid: SessionId) -> None:
    await world.progress.write(
        uuid, ProgressUpdate(Stage.ACCEPTED), ProgressUpdate(Stage.FAILED, "InvalidImageName: X", final=True)
    )
    told = await everything(client, uuid)
    assert [(each.name, each.data["final"]) for each in told] == [("accepted", False), ("failed", True)]


async def test_a_retried_failure_is_streamed_at_once_and_the_stream_continues(
    client: Client, world: World, uuid: SessionId
) -> None:
    await world.progress.write(uuid, ProgressUpdate(Stage.ACCEPTED))
    async with client.get(f"/session/{uuid}/events") as answer:
        events = (each async for each in read(answer) if isinstance(each, Told))
        assert (await anext(events)).name == "accepted"
        await world.progress.write(uuid, ProgressUpdate(Stage.FAILED, "ErrImagePull: the registry is away"))
        failed = await anext(events)
        assert (failed.name, failed.data["final"]) == ("failed", False)
        await world.progress.write(uuid, ProgressUpdate(Stage.READY))
        assert [each.name async for each in events] == ["ready"]


async def test_a_stream_can_be_resumed_after_any_event_and_is_over_after_the_last(
    client: Client, world: World, uuid: SessionId
) -> None:
    await world.progress.write(
        uuid, ProgressUpdate(Stage.ACCEPTED), ProgressUpdate(Stage.SCALED), ProgressUpdate(Stage.READY)
    )
    whole = await everything(client, uuid)
    for place, told in enumerate(whole[:-1]):
        assert await everything(client, uuid, **{"Last-Event-ID": told.id}) == whole[place + 1 :]
    assert (await client.get(f"/session/{uuid}/events", headers={"Last-Event-ID": whole[-1].id})).status == 204
    for nonsense in ("x", "1-", "-1", "9" * 50 + "-1", "٣-٣"):
        assert await everything(client, uuid, **{"Last-Event-ID": nonsense}) == whole


async def test_resuming_an_older_wake_gives_the_new_one(client: Client, world: World, uuid: SessionId) -> None:
    await world.progress.write(uuid, ProgressUpdate(Stage.ACCEPTED), ProgressUpdate(Stage.READY))
    old = await everything(client, uuid)
    await world.progress.write(uuid, ProgressUpdate(Stage.ACCEPTED), ProgressUpdate(Stage.READY))
    new = await everything(client, uuid, **{"Last-Event-ID": old[-1].id})
    assert [told.name for told in new] == ["accepted", "ready"]


async def test_a_session_without_a_wake_streams_its_phase_and_ends(client: Client, uuid: SessionId) -> None:
    (told,) = await everything(client, uuid)
    assert (told.id, told.name, told.data["phase"], told.data["seconds"]) == ("", "asleep", "asleep", None)


async def test_a_head_request_does_not_wait_for_events(client: Client, uuid: SessionId) -> None:
    await client.post(f"/session/{uuid}/wake")
    answer = await asyncio.wait_for(client.head(f"/session/{uuid}/events"), 10)
    assert (answer.status, answer.content_type) == (405, "application/problem+json")


async def test_an_unknown_session_is_a_problem_before_anything_is_streamed(client: Client) -> None:
    answer = await client.get("/session/zzzzzzzz/events")
    assert (answer.status, answer.content_type) == (404, "application/problem+json")


async def test_a_sleep_or_a_delete_ends_the_stream(client: Client, world: World, uuid: SessionId) -> None:
    for method, path, last in (("POST", "/sleep", "asleep"), ("DELETE", "", "accepted")):
        await client.post(f"/session/{uuid}/wake")
        stream_ = asyncio.create_task(everything(client, uuid))
        await until(lambda: len(world.progress.flags) == 1)
        assert (await client.request(method, f"/session/{uuid}{path}")).ok
        assert (await asyncio.wait_for(stream_, 10))[-1].name == last


async def test_comments_keep_a_silent_stream_alive(
    client: Client, uuid: SessionId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT", 1)
    await client.post(f"/session/{uuid}/wake")
    async with client.get(f"/session/{uuid}/events") as answer:
        events = read(answer)
        assert isinstance(await anext(events), Told)
        for _ in range(2):
            assert str(await anext(events)).startswith(":")


async def test_a_disconnected_client_leaves_no_follower(client: Client, world: World, uuid: SessionId) -> None:
    await client.post(f"/session/{uuid}/wake")
    answer = await client.get(f"/session/{uuid}/events")
    await answer.content.readany()
    assert len(world.progress.flags) == 1
    answer.close()

    await until(lambda: not world.progress.flags, 10)


async def test_a_server_that_shuts_down_closes_its_streams_properly(
    client: Client, world: World, uuid: SessionId
) -> None:
    await client.post(f"/session/{uuid}/wake")
    stream_ = asyncio.create_task(everything(client, uuid))
    await until(lambda: len(world.progress.flags) == 1)
    assert client.app is not None
    await client.app.shutdown()
    assert [told.name for told in await asyncio.wait_for(stream_, 10)] == ["accepted"]
    assert not client.app[PROBES].readiness.is_ready()


async def test_a_draining_server_continues_streams_and_serves_new_ones(
    client: Client, world: World, uuid: SessionId, drain: Drain
) -> None:
    await client.post(f"/session/{uuid}/wake")
    before = asyncio.create_task(everything(client, uuid))
    await until(lambda: len(world.progress.flags) == 1)
    drain.begun.set()
    assert (await client.get("/readyz")).status == 503
    during = asyncio.create_task(everything(client, uuid))
    await until(lambda: len(world.progress.flags) == 2)
    assert not before.done()
    assert not during.done()
    await world.progress.write(uuid, ProgressUpdate(Stage.READY))
    for stream_ in (before, during):
        assert [told.name for told in await asyncio.wait_for(stream_, 10)] == ["accepted", "ready"]


async def test_an_outage_of_redis_is_a_problem_before_a_stream_and_ends_a_running_one(
    client: Client, world: World, uuid: SessionId, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> Any:
        raise RedisUnavailable

    await client.post(f"/session/{uuid}/wake")
    stream_ = asyncio.create_task(everything(client, uuid))
    await until(lambda: len(world.progress.flags) == 1)
    monkeypatch.setattr(world.progress, "events", away)
    world.progress.flags[0][1].set()
    assert [told.name for told in await asyncio.wait_for(stream_, 10)] == ["accepted"]
    assert (await client.get(f"/session/{uuid}/events")).status == 503


async def test_a_wake_is_accepted_even_if_its_progress_cannot_be_written(
    client: Client, world: World, uuid: SessionId, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> Any:
        raise RedisUnavailable

    monkeypatch.setattr(world.progress, "write", away)
    assert (await client.post(f"/session/{uuid}/wake")).status == 202


async def test_a_stream_ends_within_seconds_when_its_key_is_revoked(
    serve: Serve, world: World, uuid: SessionId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_TICK", 0.02)
    (lost, lost_line), (kept, kept_line) = [new_api_key(name, CallerRole.FRONTEND) for name in ("lost", "kept")]
    file = MemoryApiKeyFile(f"{lost_line.line}\n{kept_line.line}")
    keys = ApiKeys(file)
    client = await serve(api_keys=keys)
    await world.activity.wake(uuid)
    async with (
        client.get(f"/session/{uuid}/events", headers={"Authorization": f"Bearer {lost}"}) as ending,
        client.get(f"/session/{uuid}/events", headers={"Authorization": f"Bearer {kept}"}) as going_on,
    ):
        ended, others = read(ending), read(going_on)
        assert [await anext(ended), await anext(others)]
        file.text = kept_line.line
        await keys.load()
        assert [told async for told in ended] == []
        await world.progress.write(uuid, ProgressUpdate(Stage.READY))
        assert [told.name async for told in others if isinstance(told, Told)] == ["ready"]
    again = await client.get(f"/session/{uuid}/events", headers={"Authorization": f"Bearer {lost}"})
    assert again.status == 401


async def test_a_revocation_ends_the_streams_of_earlier_tokens(
    serve: Serve, world: World, uuid: SessionId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_TICK", 0.02)
    claims = {"email": "ann", "email_verified": True, "iat": 0, "exp": 2**33}
    client = await serve(people=People(MemoryBearerTokens({"a.b.c": claims}), PersonRule(user=UserRule())))
    await world.activity.wake(uuid)
    async with client.get(f"/session/{uuid}/events", headers={"Authorization": "Bearer a.b.c"}) as answer:
        events = read(answer)
        assert await anext(events)
        await world.revocation.revoke(uuid, by="root")
        assert [told async for told in events] == []


async def test_a_provider_that_is_away_ends_no_stream(
    serve: Serve, world: World, uuid: SessionId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_TICK", 0.02)
    claims = {"email": "ann", "email_verified": True, "iat": 0, "exp": 2**33}
    tokens, asked = MemoryBearerTokens({"a.b.c": claims}), asyncio.Event()
    clock = [0.0]
    people = People(tokens, PersonRule(user=UserRule()), now=lambda: clock[0])
    client = await serve(people=people)
    await world.activity.wake(uuid)

    async def away(_: str) -> NoReturn:
        asked.set()
        raise SignInRefused(SignInFailure.PROVIDER_AWAY, "nobody answers")

    async with client.get(f"/session/{uuid}/events", headers={"Authorization": "Bearer a.b.c"}) as answer:
        events = read(answer)
        assert await anext(events)
        monkeypatch.setattr(tokens, "claims", away)
        clock[0] = 1000.0
        await asked.wait()
        await world.progress.write(uuid, ProgressUpdate(Stage.READY))
        assert [told.name async for told in events if isinstance(told, Told)] == ["ready"]
