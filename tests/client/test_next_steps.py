"""Each sentence of the command line fits what is the case, and names a next step that helps."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.test_utils import unused_port

from service.domain.api_keys import new_api_key
from service.domain.errors import SessionNotFound
from service.domain.names import SessionId
from service.domain.permissions import CallerRole
from service.domain.progress import ProgressUpdate, Stage
from service.gateway.errors import of_session_error
from tests.client.conftest import KEY, Run, ServeAlone, become_ready, make_ready, problem
from tests.domain.conftest import World
from tests.web.conftest import Serve
from user_pods_client import Client, WaitTimeout
from user_pods_client.cli.exits import ExitCode
from user_pods_client.models import ProgressEvent


@pytest.fixture
def with_key(run: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("USER_PODS_URL", url)
    monkeypatch.setenv("USER_PODS_TOKEN", KEY)
    return run


@pytest.mark.parametrize("command", ["delete", "revoke"])
async def test_no_answer_at_all_is_not_a_matter_of_utf_8(with_key: Run, uuid: SessionId, command: str) -> None:
    done = await with_key(command, uuid)
    assert done.code == ExitCode.USAGE
    assert "no answer came on standard input, so nothing was done\n--yes answers without a question." in done.err
    assert "UTF-8" not in done.err
    assert "UTF-8" in (await with_key(command, uuid, stdin=b"\xff\n")).err


async def test_a_wait_says_at_once_what_for_and_that_a_sleeper_does_not_wake(
    with_key: Run, uuid: SessionId, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(*_arguments: object, timeout: float) -> None:
        raise WaitTimeout(f"not after {timeout:g} s")

    monkeypatch.setattr(Client, "wait", wait)
    done = await with_key("wait", uuid)
    assert (done.code, done.out) == (ExitCode.TIMEOUT, "")
    assert done.err.startswith(
        f"Waiting 5 min at most until session {uuid} is ready. It is asleep and does not wake by"
    )
    assert f"`user-pods wake {uuid}`" in done.err
    assert f"`user-pods delete {uuid}`" in (await with_key("wait", uuid, "--for=deleted")).err
    make_ready(world, uuid)
    assert f"`user-pods sleep {uuid}`" in (await with_key("wait", uuid, "--for=asleep", "--timeout=9s")).err
    monkeypatch.undo()


async def test_a_wait_for_what_is_the_case_says_only_that(with_key: Run, uuid: SessionId) -> None:
    done = await with_key("wait", uuid, "--for=asleep")
    assert (done.code, done.out, done.err) == (0, f"Session {uuid} is asleep.\n", "")


async def test_the_address_of_the_workspaces_is_not_the_api(
    run: Run, serve_alone: ServeAlone, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gateway(_: web.Request) -> web.StreamResponse:
        return of_session_error(SessionNotFound()).response("request-1")

    url = await serve_alone(gateway)
    monkeypatch.setenv("USER_PODS_URL", url)
    for argv in (["show", "abc123xy"], ["list"], ["whoami"], ["events", "ann"], ["login", url, "--no-key"]):
        done = await run(*argv)
        assert (done.code, done.out) == (ExitCode.UNEXPECTED, ""), argv
        assert "this is an address where workspaces are opened, not the API's" in done.err
        assert "Ask your operator for the address of the API" in done.err


async def test_a_failed_login_names_the_address_that_was_tried(
    run: Run, url: str, serve_alone: ServeAlone, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def page(_: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>Welcome to nginx", content_type="text/html")

    assert (await run("login", url, stdin=KEY)).code == 0
    monkeypatch.setattr("random.uniform", lambda *_: 0)
    other = (await serve_alone(page)).rstrip("/")
    nobody = f"http://127.0.0.1:{unused_port()}"
    for address, code in ((other, ExitCode.UNEXPECTED), (nobody, ExitCode.UNAVAILABLE)):
        done = await run("login", address, stdin=KEY)
        assert (done.code, done.out) == (code, "")
        assert f"The address that was tried is {address}." in done.err
        assert "whoami" not in done.err
    assert url.rstrip("/") in (await run("whoami")).out, "the sign-in from before is kept"


async def test_a_service_without_keys_does_not_make_a_login_look_checked(run: Run, serve: Serve) -> None:
    url = str((await serve()).make_url("/")).rstrip("/")
    done = await run("login", url, "--name", "local", stdin="any-key\n")
    assert done.err == ""
    assert (done.code, done.out) == (
        0,
        f"The service at {url} asks for no key. Yours was not checked and is not stored. Context local is in use.\n",
    )
    assert "none" in (await run("context", "show")).out
    again = await run("login", url, "--name", "local", "--no-key")
    assert again.out == f"The service at {url} asks for no key. Context local is in use.\n"


async def test_nothing_promises_that_whoami_lists_what_a_key_may_do(
    run: Run, serve_alone: ServeAlone, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_: web.Request) -> web.StreamResponse:
        return problem(403, "forbidden")

    monkeypatch.setenv("USER_PODS_URL", await serve_alone(refuse))
    done = await run("show", "abc123xy")
    assert "`user-pods whoami` shows your role there." in done.err
    assert "may do" not in (await run("whoami", "--help")).out


async def test_a_sleeper_that_is_sent_to_sleep_is_asleep_already(with_key: Run, uuid: SessionId, world: World) -> None:
    assert (await with_key("sleep", uuid)).out == f"Session {uuid} is asleep already.\n"
    make_ready(world, uuid)
    assert "goes to sleep" in (await with_key("sleep", uuid)).out


async def test_waking_an_awake_session_replays_no_old_wake(with_key: Run, uuid: SessionId, world: World) -> None:
    await world.activity.wake(uuid)
    make_ready(world, uuid)
    await world.progress.write(uuid, ProgressUpdate(Stage.SCALED), ProgressUpdate(Stage.READY))
    for argv in (["wake", uuid], ["wake", uuid, "--no-wait"]):
        done = await with_key(*argv)
        assert (done.code, done.err) == (0, "")
        assert done.out == f"Session {uuid} is awake already. `user-pods open {uuid}` opens it.\n"


async def test_a_sleeper_shows_its_wake_until_it_is_awake(with_key: Run, uuid: SessionId, world: World) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(become_ready(world, uuid))
        done = await with_key("wake", uuid)
    assert (done.code, done.out) == (0, f"Session {uuid} is awake. `user-pods open {uuid}` opens it.\n")
    assert f"Waking {uuid}: the wake is accepted" in done.err


async def test_an_interrupted_wake_goes_on_and_says_so(
    with_key: Run, uuid: SessionId, monkeypatch: pytest.MonkeyPatch
) -> None:
    def events(*_arguments: object, **_more: object) -> Iterator[ProgressEvent]:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "events", events)
    done = await with_key("wake", uuid)
    assert (done.code, done.out) == (ExitCode.INTERRUPTED, "")
    assert f"The wake goes on. `user-pods wait {uuid}` waits for it" in done.err


async def test_hints_name_the_session_where_a_command_needs_it(
    run: Run, serve_alone: ServeAlone, monkeypatch: pytest.MonkeyPatch
) -> None:
    slugs = iter(["session-awake", "session-asleep", "session-deleting"])

    async def refuse(_: web.Request) -> web.StreamResponse:
        return problem(409, next(slugs))

    monkeypatch.setenv("USER_PODS_URL", await serve_alone(refuse))
    for hint in ("`user-pods wait {} --for=asleep`", "`user-pods wake {}`", "`user-pods wait {} --for=deleted`"):
        assert hint.format("abc123xy") in (await run("show", "abc123xy")).err


async def test_hints_name_no_session_where_none_is_needed(
    with_key: Run, serve: Serve, uuid: SessionId, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, stored = new_api_key("ann", CallerRole.FRONTEND, "ann@example.com")
    monkeypatch.setenv("USER_PODS_URL", str((await serve(named=[stored])).make_url("/")))
    monkeypatch.setenv("USER_PODS_TOKEN", key)
    for argv, hint in ((["10m"], "`user-pods wake`"), (["ann@example.com", "10m"], "`user-pods wake ann@example.com`")):
        done = await with_key("extend", *argv)
        assert (done.code, hint in done.err) == (ExitCode.CONFLICT, True), done.err


async def test_who_may_not_upgrade_is_not_told_to(
    with_key: Run, serve: Serve, uuid: SessionId, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.releases.target = "second"
    assert f"yes: `user-pods upgrade {uuid}` brings it" in (await with_key("show", uuid)).out
    key, stored = new_api_key("ann", CallerRole.FRONTEND, "ann@example.com")
    monkeypatch.setenv("USER_PODS_URL", str((await serve(named=[stored])).make_url("/")))
    monkeypatch.setenv("USER_PODS_TOKEN", key)
    done = await with_key("show")
    assert ("yes: an operator can bring it" in done.out, "user-pods upgrade" in done.out) == (True, False), done


async def test_a_key_for_one_user_extends_by_a_time_alone(
    with_key: Run, serve: Serve, uuid: SessionId, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.activity.wake(uuid)
    make_ready(world, uuid)
    done = await with_key("extend", "1h")
    assert (done.code, "name a session or its user" in done.err) == (ExitCode.USAGE, True)
    for argv in ([], [uuid]):
        done = await with_key("extend", *argv)
        assert (done.code, done.out) == (ExitCode.USAGE, "")
        assert "user-pods extend john@example.com 2h" in " ".join(done.err.split()).replace(" │ │ ", " "), done.err
    key, stored = new_api_key("ann", CallerRole.FRONTEND, "ann@example.com")
    monkeypatch.setenv("USER_PODS_URL", str((await serve(named=[stored])).make_url("/")))
    monkeypatch.setenv("USER_PODS_TOKEN", key)
    assert f"Session {uuid} stays awake until" in (await with_key("extend", "1h")).out
    done = await with_key("extend", "9h")
    assert (done.code, "8 h at most" in done.err) == (ExitCode.REFUSED, True), done.err


async def test_a_shorter_time_shortens_nothing_which_is_said_and_can_be_taken_back(
    with_key: Run, uuid: SessionId, world: World
) -> None:
    await world.activity.wake(uuid)
    make_ready(world, uuid)
    for command, long, short in (("extend", "2h", "5"), ("keep", "14d", "2d")):
        assert "earlier call" not in (await with_key(command, uuid, long)).out
        said = (await with_key(command, uuid, short)).out
        assert f"an earlier call reaches further than {'5 s' if short == '5' else '2 d'}" in said
        assert f"`user-pods {command} {uuid} --end` takes it back" in said
    shown = (await with_key("show", uuid)).out
    assert "Kept until" in shown
    assert "Not deleted before" in shown
    for command in ("extend", "keep"):
        assert (await with_key(command, uuid, "--end")).code == ExitCode.DONE
        for argv in (["--end", "2h"], ["0s"]):
            assert (await with_key(command, uuid, *argv)).code == ExitCode.USAGE
    record = await world.store.record(uuid)
    assert (record.kept_until, record.spared_until) == (None, None)
    shown = (await with_key("show", uuid)).out
    assert ("Kept until" in shown, "Not deleted before" in shown) == (False, False)


async def test_a_create_says_what_an_existing_session_did_not_take(with_key: Run, world: World) -> None:
    asked = ["create", "ann", "--cooldown", "60", "--background", "0", "--group", "students"]
    done = await with_key(*asked)
    assert (done.code, done.err) == (0, "")
    for more in ([], ["-o", "name"]):
        done = await with_key("create", "ann", "--cooldown", "90", "--background", "5", "--group", "staff", *more)
        assert "keeps its idle times, not --cooldown 90 and --background 5." in done.err
        assert "still counts for the group students, not staff." in done.err
    await world.releases.uninstall(SessionId(done.out.strip()))
    done = await with_key("create", "ann", "--cooldown", "90")
    assert (done.code, done.err) == (0, ""), "it was installed anew, with what was asked for"


async def test_a_create_warns_of_a_group_without_a_limit(
    run: Run, serve: Serve, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.awake_limits = {"students": 40}
    monkeypatch.setenv("USER_PODS_URL", str((await serve(keys=[KEY])).make_url("/")))
    monkeypatch.setenv("USER_PODS_TOKEN", KEY)
    done = await run("create", "ann", "--group", "studnets", "-o", "name")
    assert done.code == 0
    assert done.err == "Warning: the group studnets has no limit of its own; those with one are students.\n"


async def test_an_empty_list_says_how_to_begin(with_key: Run) -> None:
    assert (await with_key("list")).out == "There are no sessions yet. `user-pods create USER` makes one.\n"
    assert (await with_key("list", "--user", "ann")).out == "There are no such sessions.\n"


async def test_one_is_not_counted_as_several(with_key: Run, uuid: SessionId) -> None:
    assert (await with_key("wake", uuid, "--no-wait")).code == 0
    lines = (await with_key("top")).out.splitlines()
    assert lines[0].startswith("1 session: ")
    assert any(line.startswith("1 wake in progress") for line in lines), lines


async def test_no_answer_is_told_without_names_of_exceptions(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda *_: 0)
    for url, said in (
        (f"http://127.0.0.1:{unused_port()}", "nothing listens there, or no network leads to it"),
        ("http://nobody.invalid", "no address is known for its name"),
    ):
        monkeypatch.setenv("USER_PODS_URL", url)
        done = await run("list")
        assert (done.code, "Error" in done.err) == (ExitCode.UNAVAILABLE, False), done.err
        assert f"user-pods: {url} cannot be reached: {said}\n" in done.err


async def test_a_session_that_has_failed_is_for_the_operator(with_key: Run, uuid: SessionId, world: World) -> None:
    failed = replace(world.cluster.workload(uuid), replicas=1, failure="ErrImageNeverPull: no such image", final=True)
    world.cluster.change(failed)
    done = await with_key("wait", uuid)
    assert done.code == ExitCode.FAILED
    assert f"Users: tell your operator the id {uuid}. Operators: compare the image's name" in done.err
    assert f"`user-pods why {uuid}`" in done.err
    assert done.err.count("no such image") == 1
