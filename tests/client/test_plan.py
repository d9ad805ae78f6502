"""`user-pods plan`: what it computes and assumes, and that docs/explanation/scale.md says the same."""

import json
import shlex

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.api_keys import new_api_key
from service.domain.permissions import CallerRole
from stack.stack import ROOT
from tests.client.conftest import KEY, Run, ServeAlone, problem
from tests.domain.conftest import World
from tests.web.conftest import Serve
from user_pods_client.cli import measured
from user_pods_client.cli.exits import ExitCode
from user_pods_client.cli.measured import Measured
from user_pods_client.cli.needs import Load, needs

_DOC = ROOT / "docs" / "explanation" / "scale.md"
_CONSTANTS = [value for value in vars(measured).values() if isinstance(value, Measured)]

loads = st.builds(
    Load,
    sessions=st.integers(1, 100_000),
    awake=st.integers(0, 10_000),
    wakes_per_minute=st.floats(0, 10_000),
    calls_per_minute=st.floats(0, 600),
)


async def test_the_example_in_the_docs_is_what_the_command_prints(run: Run) -> None:
    command = "user-pods plan --sessions 10000 --awake 500 --wakes-per-minute 300 --explain"
    done = await run(*shlex.split(command)[1:])
    assert max(map(len, done.out.splitlines())) <= 80
    assert f"$ {command}\n{done.out}```" in _DOC.read_text()


@pytest.mark.parametrize("constant", _CONSTANTS, ids=lambda constant: constant.line)
def test_every_constant_is_documented_with_its_line(constant: Measured) -> None:
    assert f"| {constant.line} | {constant.value:g} {constant.unit} |" in _DOC.read_text()


async def test_a_plan_without_a_service_assumes_and_says_so(run: Run) -> None:
    done = await run("plan")
    assert (done.code, done.err) == (ExitCode.DONE, "")
    assert done.out.splitlines()[:5] == [
        "For 1000 sessions, 50 of them awake, and 30 wakes per minute:",
        "  --sessions 1000: assumed",
        "  --awake 50: assumed, 5% of the sessions",
        "  --wakes-per-minute 30: assumed, a busy morning with that many awake",
        "",
    ]
    assert max(map(len, done.out.splitlines())) <= 80
    all_given = await run("plan", "--sessions", "1000", "--awake", "50", "--wakes-per-minute", "30")
    assert all_given.out.splitlines()[1:] == done.out.splitlines()[4:]


async def test_json_has_each_need_with_its_formula_and_constants(run: Run) -> None:
    document = json.loads((await run("plan", "--sessions", "10000", "-o", "json")).out)
    assert document["load"]["sessions"] == 10_000
    assert [(each["option"], each["value"]) for each in document["assumptions"]] == [
        ("awake", 500),
        ("wakes_per_minute", 300),
    ]
    assert all(need["amount"] > 0 and need["formula"] for need in document["needs"])
    assert {"value", "unit", "line"} == set(document["needs"][0]["constants"][0])


@pytest.mark.parametrize("options", [
    "--sessions 0", "--sessions 1" + 30 * "0", "--sessions 10 --awake 11", "--wakes-per-minute nan",
    "--wakes-per-minute inf", "--awake -1",
])  # fmt: skip
async def test_numbers_that_cannot_be_are_refused(run: Run, options: str) -> None:
    done = await run("plan", *options.split())
    assert (done.code, done.out) == (ExitCode.USAGE, "")


@pytest.mark.parametrize(("options", "limit", "now", "awake", "why"), [
    ("", 700, 40, 700, "as many as may be (AWAKE_LIMIT)"),
    ("", None, 200, 200, "as many as the service has now"),
    ("", None, 3, 100, "assumed, 5% of the sessions"),
    ("--sessions 50", 700, 40, 50, "as many as may be (AWAKE_LIMIT)"),
    ("--sessions 50", None, 200, 2, "assumed, 5% of the sessions"),
])  # fmt: skip
async def test_a_running_service_is_asked(
    run: Run, serve_alone: ServeAlone, monkeypatch: pytest.MonkeyPatch, *,
    options: str, limit: int | None, now: int, awake: int, why: str,
) -> None:  # fmt: skip
    async def answer(request: web.Request) -> web.Response:
        assert (request.path, request.headers["Authorization"]) == ("/summary", f"Bearer {KEY}")
        counts = {"sessions": 2000, "awake": now, "awake_limit": limit, "at": "2026-03-02T09:30:00Z"}
        counts |= dict.fromkeys(
            ("woken_last_hour", "wakes_last_hour", "wakes_pending", "oldest_pending_seconds", "parked"), 0
        )
        return web.json_response(
            counts | {"phases": {}, "groups": [], "users_namespace": "users", "behind_seconds": None}
        )

    monkeypatch.setenv("USER_PODS_URL", await serve_alone(answer))
    monkeypatch.setenv("USER_PODS_TOKEN", KEY)
    lines = (await run("plan", *options.split())).out.splitlines()
    assert f"  --awake {awake}: {why}" in lines
    assert ("  --sessions 2000: as many as the service has now" in lines) is (options == "")


async def test_the_service_tells_what_it_has(run: Run, serve: Serve, world: World) -> None:
    for number in range(3):
        await world.provisioner.create(f"user-{number}")
    keys = [new_api_key(role.value, role) for role in (CallerRole.VIEWER, CallerRole.FRONTEND)]
    url = str((await serve(named=[stored for _, stored in keys])).make_url("/"))
    await run("login", url, stdin=keys[0][0])
    assert "  --sessions 3: as many as the service has now" in (await run("plan")).out
    await run("login", url, stdin=keys[1][0])
    refused = await run("plan")
    assert refused.code == ExitCode.DONE
    assert (
        refused.err == "The service tells its numbers to operators and viewers: what you did not give is assumed.\n\n"
    )
    assert "  --sessions 1000: assumed" in refused.out


async def test_an_older_service_and_another_server_are_told_and_the_plan_is_assumed(
    run: Run, serve_alone: ServeAlone, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def older(_request: web.Request) -> web.Response:
        return problem(404, "not-found")

    async def other(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    for handler in (older, other):
        monkeypatch.setenv("USER_PODS_URL", await serve_alone(handler))
        done = await run("plan")
        assert (done.code, "is assumed" in done.err, "1000: assumed" in done.out) == (ExitCode.DONE, True, True)


async def test_a_context_that_there_is_not_is_a_mistake(run: Run) -> None:
    assert (await run("-c", "nowhere", "plan")).code == ExitCode.USAGE


@given(loads)
@settings(deadline=None)
def test_more_sessions_never_need_fewer_resources(load: Load) -> None:
    more = Load(
        sessions=2 * load.sessions,
        awake=2 * load.awake,
        wakes_per_minute=2 * load.wakes_per_minute,
        calls_per_minute=load.calls_per_minute,
    )
    for before, after in zip(needs(load), needs(more), strict=True):
        assert after.amount >= before.amount


@given(loads)
@settings(deadline=None)
def test_every_need_is_a_positive_number(load: Load) -> None:
    assert all(need.amount > 0 for need in needs(load))
