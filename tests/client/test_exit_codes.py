"""Each exit code, with a sentence about what happened and what to do next."""

import pytest
from aiohttp import web
from aiohttp.test_utils import unused_port

from service.domain.names import SessionId
from stack.stack import ROOT
from tests.client.conftest import KEY, Run, ServeAlone, problem
from tests.domain.conftest import World
from user_pods_client.cli.exits import MEANINGS, ExitCode

UUID = "abc123xy"


def test_every_code_has_a_meaning_and_none_has_changed() -> None:
    assert set(MEANINGS) == set(ExitCode)
    assert {code.name: code.value for code in ExitCode} == {
        "DONE": 0, "USAGE": 2, "NOT_FOUND": 3, "NOT_ALLOWED": 4, "CONFLICT": 5, "TOO_MANY": 6, "UNAVAILABLE": 7,
        "TIMEOUT": 8, "FAILED": 9, "REFUSED": 10, "UNEXPECTED": 11, "WARNINGS": 12, "DECLINED": 13,
        "INTERRUPTED": 130,
    }  # fmt: skip


def test_the_how_to_lists_the_codes() -> None:
    page = (ROOT / "docs" / "how-to" / "command-line.md").read_text()
    assert "".join(f"| {code.value} | {meaning} |\n" for code, meaning in MEANINGS.items()) in page


@pytest.mark.parametrize(
    "argv",
    [
        ["show", "caf\udce9"],
        ["create", "caf\udce9@example.com"],
        ["list", "--user", "caf\udce9"],
        ["open", UUID, "--to", "/caf\udce9"],
        ["--context", "caf\udce9", "list"],
    ],
)
async def test_bytes_that_are_no_text_are_wrong_usage(with_key: Run, argv: list[str]) -> None:
    done = await with_key(*argv)
    assert (done.code, done.out) == (ExitCode.USAGE, "")
    assert "bytes that are not UTF-8" in done.err


@pytest.fixture
def with_key(run: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("USER_PODS_URL", url)
    monkeypatch.setenv("USER_PODS_TOKEN", KEY)
    return run


async def test_what_the_service_refuses(with_key: Run, world: World) -> None:
    uuid = (await world.provisioner.create("ann@example.com")).uuid
    for argv, code, said in (
        (["show", "zzzzzzzz"], ExitCode.NOT_FOUND, "user-pods list"),
        (["show", "nobody@example.com"], ExitCode.NOT_FOUND, "nobody@example.com"),
        (["extend", uuid, "10m"], ExitCode.CONFLICT, "user-pods wake"),
        (["create", "two words"], ExitCode.REFUSED, "printable ASCII"),
        (["extend", uuid, "9" * 9], ExitCode.REFUSED, "DURATION: 365 d at most"),
        (["extend", uuid, "soon"], ExitCode.USAGE, "1h30m"),
        (["nonsense"], ExitCode.USAGE, "nonsense"),
        (["wait", uuid, "--for=ready", "--timeout=1s"], ExitCode.TIMEOUT, "user-pods why"),
    ):
        done = await with_key(*argv)
        assert (done.code, done.out) == (code, ""), (argv, done)
        assert said in done.err
    done = await with_key("wake", uuid, "--timeout=1s")
    assert (done.code, "the wake is accepted" in done.err) == (ExitCode.TIMEOUT, True), done
    await world.releases.uninstall(uuid)
    for argv, code, said in (
        (["wake", uuid], ExitCode.CONFLICT, "user-pods create"),
        (["wait", uuid], ExitCode.FAILED, "released"),
    ):
        done = await with_key(*argv)
        assert (done.code, said in done.err) == (code, True), done


async def test_a_wake_that_fails_says_why(
    with_key: Run, world: World, uuid: SessionId, serve_alone: ServeAlone
) -> None:
    status = await with_key("show", uuid, "-o", "json")
    failed = status.out.replace('"asleep"', '"failed"').replace('"reason": null', '"reason": "InvalidImageName: X"')

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/wake"):
            return web.json_response({"uuid": uuid, "action": "wake"}, status=202)
        if request.path.endswith("/events"):
            data = (
                '{"phase":"failed","at":"2026-03-02T09:30:00Z","seconds":1,"reason":"InvalidImageName: X","final":true}'
            )
            return web.Response(text=f"id: 1-1\ndata: {data}\n\n", content_type="text/event-stream")
        return web.Response(text=failed.replace('"final": false', '"final": true'), content_type="application/json")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("USER_PODS_URL", await serve_alone(answer))
        done = await with_key("wake", uuid)
    assert done.code == ExitCode.FAILED
    assert "InvalidImageName: X" in done.err


@pytest.mark.parametrize(
    ("status", "slug", "headers", "code", "said"),
    [
        (401, "unauthorized", {}, ExitCode.NOT_ALLOWED, "user-pods login"),
        (403, "forbidden", {}, ExitCode.NOT_ALLOWED, "user-pods whoami"),
        (409, "session-paused", {}, ExitCode.CONFLICT, "operator"),
        (429, "too-many-creates", {"Retry-After": "45"}, ExitCode.TOO_MANY, "Try again in 45 s"),
        (503, "redis-unavailable", {"Retry-After": "45"}, ExitCode.UNAVAILABLE, "urn:request:1"),
        (501, "gateway-off", {}, ExitCode.UNAVAILABLE, "does not open workspaces"),
        (418, "of-the-future", {}, ExitCode.REFUSED, "what happened"),
    ],
)
async def test_problems_become_sentences(
    *,
    run: Run,
    serve_alone: ServeAlone,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    slug: str,
    headers: dict[str, str],
    code: ExitCode,
    said: str,
) -> None:
    async def refuse(_: web.Request) -> web.StreamResponse:
        return problem(status, slug, **headers)

    monkeypatch.setenv("USER_PODS_URL", await serve_alone(refuse))
    done = await run("show", UUID)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("user-pods: what happened\n")
    assert said in done.err


async def test_a_service_that_is_away_and_something_else_at_its_address(
    run: Run, serve_alone: ServeAlone, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def page(_: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>Welcome to nginx", content_type="text/html")

    monkeypatch.setenv("USER_PODS_URL", await serve_alone(page))
    done = await run("show", UUID)
    assert (done.code, "not the service" in done.err) == (ExitCode.UNEXPECTED, True)
    monkeypatch.setenv("USER_PODS_URL", f"http://127.0.0.1:{unused_port()}")
    monkeypatch.setattr("random.uniform", lambda *_: 0)
    done = await run("show", UUID)
    assert (done.code, "user-pods whoami" in done.err) == (ExitCode.UNAVAILABLE, True)
    assert "Traceback" not in done.err
    monkeypatch.setenv("USER_PODS_URL", "nonsense")
    assert (await run("show", UUID)).code == ExitCode.NOT_ALLOWED
