"""What both clients make of services that are away, misbehave, or are something else."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from aiohttp import web
from aiohttp.test_utils import unused_port

from service.domain.names import SessionId
from service.domain.progress import ProgressUpdate, Stage
from tests.client.conftest import KEY, Connect, Either, ServeAlone, problem
from tests.domain.conftest import World
from user_pods_client import NoAnswer, ServiceProblem, UnexpectedAnswer, WaitTimeout, following
from user_pods_client.models import ProgressEvent
from user_pods_client.problems import SessionNotFound, TooManyCreates

UUID = "abc123xy"
ALIVE = web.json_response
ACTION = {"uuid": UUID, "action": "wake"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the waits between attempts that nobody asked for."""
    monkeypatch.setattr("random.uniform", lambda *_: 0)
    monkeypatch.setattr(following, "_POLL", 0.01)


class Answers:
    """A handler that answers with one thing after another, and remembers what it was asked."""

    def __init__(self, *answers: web.Response | None) -> None:
        self._answers = [*answers]
        self.requests: list[web.Request] = []

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        answer = self._answers.pop(0)
        if answer is None:  # the connection breaks
            assert request.transport
            request.transport.abort()
            return web.Response()
        return answer


async def test_a_service_that_is_away_is_named_without_the_token(connect: Connect) -> None:
    url = f"http://127.0.0.1:{unused_port()}"
    with pytest.raises(NoAnswer, match=url) as caught:
        await connect(url, KEY).call("status", UUID)
    assert KEY not in repr(caught.value)
    assert caught.value.__context__ is None, "an HTTP library's error may hold the request"


async def test_a_call_that_may_be_repeated_survives_a_broken_connection(
    connect: Connect, serve_alone: ServeAlone
) -> None:
    answers = Answers(None, None, ALIVE(ACTION, status=202))
    assert (await connect(await serve_alone(answers)).call("wake", UUID)).action == "wake"
    assert len(answers.requests) == 3


async def test_a_call_that_must_not_be_repeated_is_sent_once(connect: Connect, serve_alone: ServeAlone) -> None:
    for name in ("open", "revoke", "sleep"):
        answers = Answers(None)
        with pytest.raises(NoAnswer):
            await connect(await serve_alone(answers)).call(name, UUID)
        assert len(answers.requests) == 1


async def test_any_call_is_repeated_when_the_service_asks_for_it(connect: Connect, serve_alone: ServeAlone) -> None:
    now = datetime.now(UTC).isoformat()
    opened = {"uuid": UUID, "url": "https://x", "expires_at": now}
    answers = Answers(problem(503, "redis-unavailable", **{"Retry-After": "0"}), ALIVE(opened, status=201))
    assert (await connect(await serve_alone(answers)).call("open", UUID)).url == "https://x"


async def test_the_wait_that_the_service_asks_for_is_kept_and_told(
    connect: Connect, serve_alone: ServeAlone, caplog: pytest.LogCaptureFixture
) -> None:
    times: list[float] = []

    async def busy_once(_: web.Request) -> web.StreamResponse:
        times.append(asyncio.get_running_loop().time())
        if len(times) == 1:
            return problem(429, "too-many-creates", **{"Retry-After": "1"})
        return ALIVE({"uuid": UUID, "user_id": "ann", "status": "created"}, status=201)

    assert (await connect(await serve_alone(busy_once)).call("create", "ann")).uuid == UUID
    assert times[1] - times[0] >= 0.95
    assert caplog.messages == ["the service answers 429; trying again in 1.0 s"]


async def test_a_long_wait_is_the_callers_decision(connect: Connect, serve_alone: ServeAlone) -> None:
    answers = Answers(problem(429, "too-many-creates", **{"Retry-After": "600"}))
    with pytest.raises(TooManyCreates) as caught:
        await connect(await serve_alone(answers)).call("create", "ann")
    assert caught.value.retry_after == 600


async def test_a_delete_whose_answer_was_lost_has_succeeded_if_the_session_is_gone(
    connect: Connect, serve_alone: ServeAlone
) -> None:
    answers = Answers(None, problem(404, "session-not-found"), problem(404, "session-not-found"))
    client = connect(await serve_alone(answers))
    assert await client.call("delete", UUID) is None
    with pytest.raises(SessionNotFound):
        await client.call("delete", UUID)


async def test_a_redirect_takes_the_token_nowhere(connect: Connect, serve_alone: ServeAlone) -> None:
    thief = Answers()
    elsewhere = await serve_alone(thief)
    for status in (301, 302, 303, 307, 308):
        redirect = Answers(web.Response(status=status, headers={"Location": elsewhere}))
        with pytest.raises(UnexpectedAnswer, match="redirect"):
            await connect(await serve_alone(redirect), KEY).call("status", UUID)
        redirect = Answers(web.Response(status=status, headers={"Location": elsewhere}))
        with pytest.raises(UnexpectedAnswer, match="redirect"):
            await connect(await serve_alone(redirect), KEY).all_of("events", UUID)
    assert thief.requests == []


def entry(**members: object) -> web.Response:
    """A history with one entry, which has these members."""
    return ALIVE({"uuid": UUID, "entries": [{"kind": "wake", "at": "2026-03-02T09:30:00Z", **members}]})


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (lambda: web.Response(text="<html>", content_type="text/html"), "no JSON"),
        (lambda: web.Response(text='{"uuid": ', content_type="application/json"), "no JSON"),
        (lambda: web.Response(text="[" * 100_000, content_type="application/json"), "no JSON"),
        (lambda: ALIVE([1]), "is not an object"),
        (lambda: ALIVE({"uuid": 5, "entries": []}), "uuid is not of the expected type"),
        (lambda: ALIVE({"entries": []}), "has no `uuid`"),
        (lambda: ALIVE({"uuid": UUID, "entries": [{"kind": "wake", "at": "noon"}]}), "is not a time"),
        (lambda: entry(at="2026-03-02T09:30:00"), "at is not a time with its zone"),
        (lambda: entry(at="0001-01-01T00:00:00+14:00"), "at is not a time with its zone"),
        (lambda: entry(seconds=10**400), "seconds is not a finite number"),
        (lambda: entry(seconds=float("inf")), "seconds is not a finite number"),
        (lambda: entry(seconds=float("nan")), "seconds is not a finite number"),
        (lambda: web.Response(status=502, text="Bad Gateway"), "status 502 without a problem"),
        (lambda: web.Response(status=404, text="{", content_type="application/problem+json"), "no JSON"),
    ],
)
async def test_what_is_not_the_services_answer_is_said(
    connect: Connect, serve_alone: ServeAlone, answer: Callable[[], web.Response], match: str
) -> None:
    with pytest.raises(UnexpectedAnswer, match=match):
        await connect(await serve_alone(Answers(answer()))).call("history", UUID)


async def test_newer_and_older_services_are_understood(connect: Connect, serve_alone: ServeAlone) -> None:
    entry = {"kind": "renamed", "at": "2026-03-02T09:30:00Z", "mood": "new"}
    answers = Answers(ALIVE({"uuid": UUID, "entries": [entry], "more": 1}), problem(418, "teapot"))
    client = connect(await serve_alone(answers))
    (read,) = (await client.call("history", UUID)).entries
    assert (read.kind, read.seconds) == ("renamed", None)
    with pytest.raises(ServiceProblem, match="what happened") as caught:
        await client.call("history", UUID)
    assert (type(caught.value), caught.value.status) == (ServiceProblem, 418)


async def test_a_service_that_says_nothing_is_given_up(connect: Connect, serve_alone: ServeAlone) -> None:
    silent = asyncio.Event()

    async def say_nothing(_: web.Request) -> web.StreamResponse:
        await silent.wait()
        return web.Response()

    url = await serve_alone(say_nothing)
    with pytest.raises(NoAnswer, match="in time"):
        await connect(url, timeout=0.2, retries=0).call("status", UUID)
    silent.set()


def event(number: int, phase: str, *, final: bool = False) -> str:
    flag = "true" if final else "false"
    data = f'{{"phase":"{phase}","at":"2026-03-02T09:30:00Z","seconds":1.0,"reason":null,"final":{flag}}}'
    return f"id: 1-{number}\nevent: {phase}\ndata: {data}\n\n"


class Stream(Answers):
    """Streams of events, one per connection; `!` at its end breaks that connection."""

    def __init__(self, *streams: str) -> None:
        super().__init__()
        self._streams = [*streams]
        self.resumed: list[str | None] = []

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.resumed.append(request.headers.get("Last-Event-ID"))
        text = self._streams.pop(0)
        if text.isdigit():
            return problem(int(text), "too-many-streams") if text != "204" else web.Response(status=204)
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(b": heartbeat\n\n" + text.removesuffix("!").encode())
        if text.endswith("!"):
            assert request.transport
            request.transport.abort()
        return answer


async def test_events_continue_after_breaks_refusals_and_restarts(connect: Connect, serve_alone: ServeAlone) -> None:
    stream = Stream(event(0, "accepted") + "!", "503", event(1, "scaled"), event(2, "pulled") + "id: 1-9\nda!",
                    event(3, "ready") + event(4, "never"))  # fmt: skip
    read = await connect(await serve_alone(stream)).all_of("events", UUID)
    assert [each.phase for each in read] == ["accepted", "scaled", "pulled", "ready"]
    assert stream.resumed == [None, "1-0", "1-0", "1-1", "1-2"]


async def test_events_end_with_a_final_failure_and_when_there_are_no_more(
    connect: Connect, serve_alone: ServeAlone
) -> None:
    for ending in ((event(0, "failed") + event(1, "failed", final=True),), (event(0, "accepted"), "204")):
        stream = Stream(*ending)
        read = await connect(await serve_alone(stream)).all_of("events", UUID)
        assert read
        assert len(stream.resumed) == len(ending)


async def test_events_give_up_when_no_connection_brings_anything(connect: Connect, serve_alone: ServeAlone) -> None:
    stream = Stream(*["503"] * 11)
    with pytest.raises(ServiceProblem):
        await connect(await serve_alone(stream)).all_of("events", UUID)
    assert len(stream.resumed) == 11


async def test_events_are_given_up_after_the_timeout_also_when_the_stream_is_silent(
    connect: Connect, serve_alone: ServeAlone
) -> None:
    over = asyncio.Event()

    async def say_little(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(event(0, "accepted").encode())
        await over.wait()
        return answer

    read: list[ProgressEvent] = []
    client = connect(await serve_alone(say_little))
    with pytest.raises(WaitTimeout, match=r"not over after 0\.3 s"):
        await client.read_into(read, "events", UUID, timeout=0.3)
    assert [each.phase for each in read] == ["accepted"]
    over.set()


async def test_followed_events_go_on_with_the_next_wake(connect: Connect, serve_alone: ServeAlone) -> None:
    phase = event(0, "asleep").partition("\n")[2]  # without an id: no wake is known
    stream = Stream(phase, phase, event(5, "accepted") + event(6, "ready"), "204", event(7, "accepted"), "404")
    read: list[ProgressEvent] = []
    with pytest.raises(ServiceProblem):
        await connect(await serve_alone(stream)).read_into(read, "events", UUID, follow=True)
    assert [each.phase for each in read] == ["asleep", "accepted", "ready", "accepted"]
    assert stream.resumed == [None, None, None, "1-6", "1-6", "1-7"]


async def test_events_of_a_real_wake_arrive(pods: Either, world: World, uuid: SessionId) -> None:
    await world.progress.write(uuid, ProgressUpdate(Stage.ACCEPTED), ProgressUpdate(Stage.READY))
    assert [each.phase for each in await pods.all_of("events", uuid)] == ["accepted", "ready"]
    with pytest.raises(SessionNotFound):
        await pods.all_of("events", "zzzzzzzz")
