"""The command line against the service: sign in, create, open, find out why it slept, delete."""

import asyncio
import json
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest
import yaml
from aiohttp import web

from service.domain import activity
from service.domain.api_keys import new_api_key
from service.domain.cluster_facts import Node
from service.domain.names import SessionId
from service.domain.permissions import CallerRole
from service.domain.profiles import Profile
from service.domain.progress import ProgressUpdate, Stage
from service.domain.wake_times import MeasuredWake
from service.domain.workload import Pod, Requests
from tests.client.conftest import KEY, Run, ServeAlone, problem
from tests.domain.conftest import World
from tests.web.conftest import Serve
from user_pods_client.cli import browser, contexts, output
from user_pods_client.cli.contexts import Context
from user_pods_client.errors import NoAnswer, ServiceProblem


@pytest.fixture
async def signed_in(run: Run, url: str) -> Run:
    done = await run("login", url, "--name", "test", stdin=KEY + "\n")
    assert done.code == 0, done.err
    return run


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def change(path: Path, *, mode: int, text: str | None = None) -> None:
    path.chmod(mode)
    if text is not None:
        path.write_text(text)


def content(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def wake_up(world: World, uuid: str) -> None:
    world.cluster.change(replace(world.cluster.workload(SessionId(uuid)), replicas=1, ready=1))


async def test_a_key_is_stored_for_its_owner_alone_and_never_shown(signed_in: Run, config: Path, url: str) -> None:
    assert (mode(config), mode(config.parent)) == (0o600, 0o700)
    assert json.loads(content(config) or "")["contexts"]["test"] == {"url": url.rstrip("/"), "token": KEY}
    for command in (["whoami"], ["context", "list"], ["context", "show"], ["context", "list", "-o", "json"]):
        done = await signed_in(*command)
        assert done.code == 0
        assert url.rstrip("/") in done.out
        assert KEY not in done.out + done.err
    done = await signed_in("whoami", "-o", "json")
    assert json.loads(done.out)["role"] == "operator"


async def test_a_wrong_key_signs_nobody_in(run: Run, url: str, config: Path) -> None:
    done = await run("login", url, stdin="wrong\n")
    assert (done.code, "wrong" in done.out) == (4, False)
    assert "does not accept the key" in done.err
    assert "Authorization" not in done.err
    assert "Nothing was stored" in done.err
    assert content(config) is None


async def test_signing_out_forgets_the_key(signed_in: Run, config: Path) -> None:
    assert (await signed_in("logout")).code == 0
    assert KEY not in (content(config) or KEY)
    for command in ("list", "whoami"):
        done = await signed_in(command)
        assert (done.code, "signed out of the context test" in done.err) == (4, True)
        assert "user-pods login" in done.err
    assert "signed out" in (await signed_in("logout")).out
    assert (await signed_in("context", "delete", "test")).code == 0
    assert (await signed_in("context", "use", "test")).code == 2
    assert "not signed in" in (await signed_in("logout")).out


async def test_a_key_can_come_from_a_file(run: Run, url: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY + "\n")
    assert (await run("login", url, "--key-file", str(tmp_path / "key"))).code == 0
    assert (await run("login", url, "--key-file", str(tmp_path / "none"))).code == 2
    assert (await run("login", url, stdin="")).code == 2
    assert (await run("login", "not an address", stdin=KEY)).code == 2


async def test_scripts_use_variables_and_a_stored_key_goes_nowhere_else(
    signed_in: Run, url: str, serve_alone: ServeAlone, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []

    async def other(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers.get("Authorization"))
        return problem(401, "unauthorized")

    monkeypatch.setenv("USER_PODS_URL", await serve_alone(other))
    assert (await signed_in("list")).code == 4
    assert seen == [None]
    assert (await signed_in("--context", "test", "list")).code == 0
    monkeypatch.setenv("USER_PODS_URL", url)
    monkeypatch.setenv("USER_PODS_TOKEN", KEY)
    assert (await signed_in("list")).code == 0
    monkeypatch.delenv("USER_PODS_URL")
    done = await signed_in("list")
    assert (done.code, "USER_PODS_URL" in done.err) == (4, True)


async def test_a_file_that_others_can_read_is_not_used(signed_in: Run, config: Path) -> None:
    change(config, mode=0o644)
    done = await signed_in("list")
    assert (done.code, "chmod 600" in done.err) == (2, True)
    change(config, mode=0o600, text="[]")
    assert (await signed_in("list")).code == 2


@pytest.mark.parametrize(
    "listed",
    [
        '{"test": {"url": "https://x.example.com", "token": 5}}',
        '{"test": {"url": 5, "token": null}}',
        '{"test\\udce9": {"url": "https://x.example.com"}}',
        "[" * 100_000,
    ],
    ids=["token", "address", "name", "nested"],
)
async def test_a_damaged_file_is_named_with_what_to_do(signed_in: Run, config: Path, listed: str) -> None:
    change(config, mode=0o600, text=f'{{"current": "test", "contexts": {listed}}}')
    for command in (["list"], ["context", "list"], ["logout"]):
        done = await signed_in(*command)
        assert (done.code, done.out) == (2, "")
        assert f"{config} cannot be read; remove it" in done.err


async def test_a_key_that_is_not_text_is_wrong_usage(run: Run, url: str) -> None:
    done = await run("login", url, stdin=b"\xff\xfe\n")
    assert (done.code, "the key on standard input is not text" in done.err) == (2, True)


async def test_an_answer_that_is_not_text_is_wrong_usage_and_changes_nothing(signed_in: Run, world: World) -> None:
    uuid = (await world.provisioner.create("ann@example.com")).uuid
    for command in ("delete", "revoke"):
        done = await signed_in(command, uuid, stdin=b"\xff\n")
        assert (done.code, "not text; --yes" in done.err) == (2, True), done.err
        assert "Traceback" not in done.err
    assert uuid in world.store.sessions


async def test_without_a_home_directory_it_is_said_what_replaces_it(
    run: Run, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def home() -> NoReturn:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.delenv("XDG_CACHE_HOME")
    for argv in (["login", url], ["list"], ["logout"]):
        done = await run(*argv, stdin=KEY)
        assert (done.code, "set XDG_CONFIG_HOME" in done.err) == (2, True)
    monkeypatch.setenv("DISPLAY", ":9")
    assert not browser.show("https://x.example.com/")
    monkeypatch.setenv("USER_PODS_URL", url)
    monkeypatch.setenv("USER_PODS_TOKEN", KEY)
    assert (await run("list")).code == 0


async def test_a_write_that_fails_leaves_no_copy_of_the_keys(
    signed_in: Run, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    before = content(config)
    monkeypatch.setattr(Path, "replace", full)
    done = await signed_in("logout")
    assert (done.code, "cannot be written: No space left on device" in done.err) == (2, True)
    assert content(config) == before
    assert {path.name for path in config.parent.iterdir()} == {"contexts.json", "contexts.lock"}
    monkeypatch.setenv("DISPLAY", ":9")
    assert not browser.show("https://x.example.com/?ticket=s3cret")
    assert list((tmp_path / "cache" / "user-pods").iterdir()) == []


@pytest.mark.usefixtures("config")
def test_two_sign_ins_at_once_are_both_kept() -> None:
    def sign_in(name: str) -> None:
        with contexts.changing() as known:
            known.put(Context(name, "https://x.example.com"))

    other = threading.Thread(target=sign_in, args=("other",))
    with contexts.changing() as known:
        other.start()
        other.join(0.2)  # it has to wait for this one
        known.put(Context("one", "https://x.example.com"))
    other.join()
    assert set(contexts.read().by_name) == {"one", "other"}


async def test_a_day_with_a_session(signed_in: Run, world: World) -> None:
    done = await signed_in("create", "ann@example.com", "--cooldown", "60", "-o", "name")
    uuid = done.out.strip()
    assert len(uuid) == 8
    wake_up(world, uuid)
    for who in (uuid, "ann@example.com"):
        done = await signed_in("show", who, "-o", "json")
        assert json.loads(done.out)["uuid"] == uuid
    await world.progress.write(SessionId(uuid), ProgressUpdate(Stage.ACCEPTED), ProgressUpdate(Stage.READY))
    done = await signed_in("wake", "ann@example.com")
    assert (done.code, "is awake already" in done.out) == (0, True)
    done = await signed_in("events", uuid, "-o", "name")
    assert done.out.split() == ["accepted", "ready"]
    done = await signed_in("extend", uuid, "1h30m", "-o", "json")
    kept = datetime.fromisoformat(json.loads(done.out)["kept_until"])
    assert timedelta(minutes=89) < kept - datetime.now(UTC) < timedelta(minutes=91)
    done = await signed_in("keep", uuid, "2d", "-o", "json")
    spared = datetime.fromisoformat(json.loads(done.out)["spared_until"])
    assert timedelta(hours=47) < spared - datetime.now(UTC) < timedelta(hours=49)
    done = await signed_in("open", uuid, "--no-browser", "--to", "/?folder=/home")
    assert done.out.startswith(f"https://vs-code-{uuid}.example.com/")
    assert (await signed_in("revoke", uuid, "--yes")).code == 0
    assert (await signed_in("wait", uuid, "--for=ready")).code == 0
    assert (await signed_in("history", uuid)).code == 0
    assert (await signed_in("sleep", uuid)).code == 0
    done = await signed_in("why", uuid)
    assert f"Session {uuid} of ann@example.com is" in done.out
    done = await signed_in("delete", uuid, stdin="n\n")
    assert (done.code, "nothing was done" in done.err) == (13, True)
    assert (await signed_in("show", uuid)).code == 0
    done = await signed_in("delete", uuid, "--delete-data", stdin="y\n")
    assert (done.code, "ALL FILES" in done.err, "with all its files" in done.out) == (0, True, True)
    assert (await signed_in("show", uuid)).code == 3


async def test_a_profile_is_chosen_by_name_and_an_existing_session_keeps_its_own(
    signed_in: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "This service has no profiles." in (await signed_in("profiles")).out
    monkeypatch.setattr(world.profiles, "_by_name", {n: Profile(name=n, description="Big") for n in ("large", "gpu")})
    assert (await signed_in("profiles", "-o", "name")).out.split() == ["large", "gpu"]
    assert (await signed_in("profiles")).out.splitlines()[1].split() == ["large", "-", "Big"]
    done = await signed_in("create", "ann", "--profile", "large")
    assert (done.code, done.err) == (0, "")
    done = await signed_in("create", "ann", "--profile", "gpu")
    assert "keeps what it has: the profile large, not gpu." in done.err
    assert ["Profile", "large"] in [line.split() for line in (await signed_in("show", "ann")).out.splitlines()]
    done = await signed_in("create", "bob", "--profile", "huge")
    assert (done.code, "`user-pods profiles` lists" in done.err, "gpu, large" in done.err) == (10, True, True)


async def test_a_sleep_that_does_not_wait_for_pages_stops_the_pod_at_once(
    signed_in: Run, world: World, uuid: SessionId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "SAVE_TIME", timedelta(seconds=20))
    await world.activity.wake(uuid)
    wake_up(world, uuid)
    await world.companions.seen(uuid, "browser")
    async with asyncio.timeout(10):
        assert (await signed_in("sleep", uuid, "--now")).code == 0
    assert world.cluster.workload(uuid).replicas == 0


async def test_whoever_cannot_answer_is_told_how_to_go_on(signed_in: Run, uuid: SessionId) -> None:
    done = await signed_in("delete", uuid)
    assert (done.code, "--yes answers without a question" in done.err) == (2, True)
    assert (await signed_in("show", uuid)).code == 0


async def test_where_there_is_nothing_a_sentence_says_so(signed_in: Run, uuid: SessionId) -> None:
    assert (await signed_in("history", uuid)).out == "Nothing has happened yet.\n"
    assert (await signed_in("list", "--phase", "failed")).out == "There are no such sessions.\n"
    assert (await signed_in("audit", "--by", "nobody")).out == "There are no such entries.\n"
    assert (await signed_in("list", "--phase", "failed", "-o", "json")).out == "[]\n"


@pytest.mark.parametrize(("widths", "room", "narrowed"), [
    ([50, 8], 40, [32, 8]),
    ([8, 50], 40, [8, 32]),
    ([50, 50], 4, [6, 6]),
])  # fmt: skip
def test_a_narrow_table_loses_from_its_widest_column(widths: list[int], room: int, narrowed: list[int]) -> None:
    assert output._narrowed(("NAME", "URL"), widths, room) == narrowed
    assert output._narrowed(("NAME", "ID"), [9, 8], room=10) == [6, 8], "an id stays whole"


async def test_values_that_do_not_fit_are_told_in_words(signed_in: Run, uuid: SessionId) -> None:
    done = await signed_in("create", "ann example")
    assert (done.code, "see `errors`" in done.err) == (10, False)
    assert "printable ASCII characters without spaces" in done.err
    for argv, said in (
        (("keep", uuid, "100000d"), "DURATION: 365 d at most"),
        (("create", "joe@example.com", "--cooldown", "366d"), "--cooldown: 365 d at most"),
    ):
        done = await signed_in(*argv)
        assert (done.code, "body" in done.err) == (10, False)
        assert said in done.err
    for given in (["joe@example.com", "--cooldown", "-5"], [""]):
        assert (await signed_in("create", *given)).code == 2
    done = await signed_in("open", uuid, "--to", "https://example.com")
    assert (done.code, "begins with /" in done.err) == (2, True)


async def test_help_is_as_wide_as_the_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    lines = [line.strip() for line in (await run("login", "--help")).out.splitlines()]
    begin = next(number for number, line in enumerate(lines) if line.startswith("The key is asked for"))
    assert all(len(line) > 60 for line in lines[begin : lines.index("", begin) - 1]), lines


async def test_lists_are_for_people_and_for_scripts(signed_in: Run, world: World) -> None:
    made = sorted([(await world.provisioner.create(f"user-{number}")).uuid for number in range(3)])
    wake_up(world, made[1])
    lines = (await signed_in("list")).out.splitlines()
    assert lines[0].split()[:3] == ["ID", "USER", "PHASE"]
    assert [line.split()[0] for line in lines[1:]] == made
    assert (await signed_in("list", "-o", "name", "--phase", "ready")).out.split() == [made[1]]
    assert len(json.loads((await signed_in("list", "-o", "json", "--limit", "2")).out)) == 2
    assert [each["uuid"] for each in yaml.safe_load((await signed_in("list", "-o", "yaml")).out)] == made
    assert (await signed_in("list", "--phase", "nonsense")).code == 2


async def test_top_shows_what_is_awake_and_why(signed_in: Run, world: World) -> None:
    made = [(await world.provisioner.create(f"user-{number}")).uuid for number in range(4)]
    now = datetime.now(UTC)
    for uuid, minutes in zip(made[:3], (5, 180, 30), strict=True):
        await world.activity.wake(uuid)
        pod = Pod(f"pod-{minutes}", ready=True, created_at=now - timedelta(minutes=minutes))
        world.cluster.change(replace(world.cluster.workload(uuid), replicas=1, ready=1, pod=pod))
    for number in range(5):
        await world.measured.append(MeasuredWake(at=now, pod=str(number), stages={Stage.READY: 1.0}))
    done = await signed_in("top")
    lines = done.out.splitlines()
    assert lines[:2] == [
        "4 sessions: 1 asleep, 3 ready",
        "3 awake; 5 wakes within the last hour",
    ], done.err
    table = [line.split() for line in lines if line[:8] in made]
    assert [row[0] for row in table] == [made[1], made[2], made[0]], "the longest awake first"
    assert "3 h" in lines[lines.index(next(line for line in lines if line.startswith(made[1])))]
    assert all("wake" in row for row in table)
    found = json.loads((await signed_in("top", "-o", "json", "--limit", "1", "--sort", "user")).out)
    assert ([each["uuid"] for each in found["sessions"]], found["summary"]["awake"]) == (made[:1], 3)
    assert "and 2 more" in (await signed_in("top", "--limit", "1")).out


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        (None, []),
        (
            [Node(name="a", cpu=2.25, memory=16, pods=110)],
            ["room on 1 node for at most 3 more of the usual size (0.5 CPUs, 1 GiB); CPU runs out first"],
        ),
        (
            [Node(name="a", cpu=9, memory=1.5, pods=110), Node(name="b", cpu=1, memory=0, pods=9)],
            ["no room on 2 nodes for another one of the usual size (0.5 CPUs, 1 GiB): memory is used up"],
        ),
        ([], ["no room on 0 nodes for another one of the usual size (0.5 CPUs, 1 GiB): none of them takes its pod"]),
    ],
)
async def test_top_says_for_how_many_more_the_nodes_have_room(
    signed_in: Run, world: World, nodes: list[Node] | None, told: list[str]
) -> None:
    """None: the service may not see them."""
    uuid = (await world.provisioner.create("user")).uuid
    pod, requests = Pod("pod", node="a", ready=True), Requests(cpu=0.5, memory=1)
    world.cluster.change(replace(world.cluster.workload(uuid), replicas=1, ready=1, pod=pod, requests=requests))
    world.facts.allowed, world.facts.machines = nodes is not None, nodes or []
    assert [line for line in (await signed_in("top")).out.splitlines() if "room" in line] == told
    found = json.loads((await signed_in("top", "-o", "json")).out)["summary"]["capacity"]
    assert (found is None) == (nodes is None)


async def test_top_is_for_operators_and_viewers(run: Run, serve: Serve) -> None:
    keys = [new_api_key(role.value, role) for role in (CallerRole.VIEWER, CallerRole.FRONTEND)]
    url = str((await serve(named=[stored for _, stored in keys])).make_url("/"))
    assert [(await run("login", url, stdin=key)).code for key, _ in keys[:1]] == [0]
    assert "Nothing is awake." in (await run("top")).out
    await run("login", url, stdin=keys[1][0])
    done = await run("top")
    assert (done.code, "user-pods whoami" in done.err) == (4, True)


async def test_logs_are_read_by_kubectl(run: Run, serve: Serve, world: World) -> None:
    keys = [new_api_key(f"{role}-key", role) for role in (CallerRole.OPERATOR, CallerRole.FRONTEND)]
    url = str((await serve(named=[stored for _, stored in keys])).make_url("/"))
    uuid = (await world.provisioner.create("ann@example.com")).uuid
    await run("login", url, stdin=keys[0][0])
    done = await run("logs", "ann@example.com", "-f", "--tail", "5", "--previous")
    assert done.out == f"kubectl -n users logs -l uuid={uuid} -c workspace --tail=5 -f --previous\n"
    assert "is asleep and has no pod" in done.err
    wake_up(world, uuid)
    assert (await run("logs", uuid)).err == ""
    await run("login", url, stdin=keys[1][0])
    done = await run("logs", uuid)
    assert (done.code, done.out.startswith("kubectl -n NAMESPACE logs")) == (0, True)
    assert "ask an operator" in done.err
    assert (await run("logs", "nobody@example.com")).code == 3


async def test_an_id_that_looks_like_a_number_is_a_string_in_yaml(signed_in: Run, world: World) -> None:
    for uuid in ("1e234567", "12345678"):
        world.new_id = partial(SessionId, uuid)
        await world.provisioner.create(f"user-of-{uuid}")
        assert f'uuid: "{uuid}"' in (await signed_in("show", uuid, "-o", "yaml")).out


async def test_a_key_for_one_user_needs_no_name(run: Run, serve: Serve, world: World) -> None:
    key, stored = new_api_key("ann", CallerRole.FRONTEND, "ann@example.com")
    url = str((await serve(named=[stored])).make_url("/"))
    mine = (await world.provisioner.create("ann@example.com")).uuid
    other = (await world.provisioner.create("bob@example.com")).uuid
    done = await run("login", url, stdin=key)
    assert "as ann (frontend, for ann@example.com)" in done.out
    assert (await run("show", "-o", "name")).out.split() == [mine]
    assert (await run("list", "-o", "name")).out.split() == [mine]
    for who in (other, "zzzzzzzz", "bob@example.com", "nobody@example.com"):
        done = await run("show", who)
        assert (done.code, done.out) == (3, "")
        assert done.err.startswith(f"user-pods: there is no session with the id or user {who}\n")
    assert (await run("why")).code == 0


async def test_a_create_says_what_is_new_and_takes_durations(signed_in: Run, world: World) -> None:
    done = await signed_in("create", "ann@example.com", "--cooldown", "10m", "--background", "1800")
    assert "ann@example.com has the new session" in done.out
    uuid = SessionId(done.out.split("has the new session ")[1][:8])
    idle_times = world.cluster.workload(uuid).idle_times
    assert idle_times is not None
    assert (idle_times.cooldown, idle_times.background) == (timedelta(minutes=10), timedelta(minutes=30))
    done = await signed_in("create", "ann@example.com")
    assert f"ann@example.com has the session {uuid} already." in done.out
    done = await signed_in("delete", uuid, "--yes")
    assert "its files are kept" in done.out


async def test_a_key_for_one_user_creates_without_a_name(run: Run, serve: Serve) -> None:
    key, stored = new_api_key("ann", CallerRole.FRONTEND, "ann@example.com")
    await run("login", str((await serve(named=[stored])).make_url("/")), stdin=key)
    done = await run("show")
    assert (done.code, "`user-pods create` makes one" in done.err) == (3, True)
    assert "ann@example.com has the new session" in (await run("create")).out


async def test_a_key_for_everybody_needs_a_name(signed_in: Run) -> None:
    done = await signed_in("show")
    assert (done.code, "name a session" in done.err) == (2, True)


async def test_a_watch_shows_each_change_once(signed_in: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    uuid = (await world.provisioner.create("ann@example.com")).uuid
    looks: Iterator[Callable[[], object]] = iter([dict, lambda: wake_up(world, uuid), dict])

    def sleep(_: float) -> None:
        look = next(looks, None)
        if look is None:
            raise KeyboardInterrupt
        look()

    monkeypatch.setattr(output.time, "sleep", sleep)  # type: ignore[attr-defined]
    done = await signed_in("show", uuid, "--watch")
    assert done.code == 130
    assert [line.split()[1] for line in done.out.splitlines() if line.startswith("Phase")] == ["asleep", "ready"]


def test_a_watch_outlasts_a_part_of_the_service_that_is_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    away = ServiceProblem("redis is away", type_="/problems/redis-unavailable", status=503)
    looks: Iterator[str | Exception] = iter(
        ["one", away, NoAnswer("nobody answers"), "two", ServiceProblem("no", type_="", status=403)]
    )
    pauses: list[float] = []

    def read() -> output.Drawing:
        look = next(looks)
        if isinstance(look, Exception):
            raise look
        return lambda _now: look

    monkeypatch.setattr(output.time, "sleep", pauses.append)  # type: ignore[attr-defined]
    with pytest.raises(ServiceProblem, match="no"):
        output.watch(read, again=True, pause=7)
    shown = capsys.readouterr()
    assert (shown.out.split(), shown.err.count("trying again")) == (["one", "two"], 2)
    assert min(pauses) >= 7


def test_a_watch_of_a_pipe_does_not_take_passing_time_for_a_change(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    states = iter(["asleep", "asleep", "asleep", "ready"])

    def read() -> output.Drawing:
        state = next(states, None)
        if state is None:
            raise KeyboardInterrupt
        return lambda now: f"{state} at={now.isoformat()}"

    monkeypatch.setattr(output.time, "sleep", lambda _: None)  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt):
        output.watch(read, again=True)
    assert capsys.readouterr().out.split()[::2] == ["asleep", "ready"]


async def test_events_are_a_yaml_document_each(signed_in: Run, world: World) -> None:
    uuid = (await world.provisioner.create("ann@example.com")).uuid
    wake_up(world, uuid)
    await world.progress.write(uuid, ProgressUpdate(Stage.ACCEPTED), ProgressUpdate(Stage.READY))
    done = await signed_in("events", uuid, "-o", "yaml")
    assert "{" not in done.out
    assert [each["phase"] for each in yaml.safe_load_all(done.out)] == ["accepted", "ready"]


async def test_texts_of_others_cannot_take_over_the_terminal(signed_in: Run, world: World) -> None:
    uuid = (await world.provisioner.create("ann@example.com")).uuid
    await world.progress.write(
        uuid, ProgressUpdate(Stage.ACCEPTED), ProgressUpdate(Stage.FAILED, "\x1b[2Jboo\x07\u202e", final=True)
    )
    done = await signed_in("events", uuid)
    assert "boo" in done.out
    assert not {"\x1b", "\x07", "\u202e"} & set(done.out)


def test_a_browser_gets_the_link_in_a_file_that_only_its_owner_can_read(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def start(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setenv("DISPLAY", ":9")
    monkeypatch.setattr("webbrowser.open", start)
    assert browser.show('https://x.example.com/?ticket=s3cret&"')
    (address,) = opened
    assert "s3cret" not in address
    page = tmp_path / "cache" / "user-pods" / "open.html"
    assert address == page.as_uri()
    assert mode(page) == 0o600
    assert "url=https://x.example.com/?ticket=s3cret&amp;&quot;" in page.read_text()
