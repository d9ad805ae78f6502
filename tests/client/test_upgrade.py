"""`user-pods upgrade`, against the service and a leader."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiohttp import web

from service.controller.rollout_runner import RolloutRunner
from service.domain.clock import utc_now
from service.domain.errors import UpgradeFailed
from service.domain.names import SessionId
from service.domain.rollout import Pace
from tests.client.conftest import KEY, Done, Run, ServeAlone
from tests.domain.conftest import World
from user_pods_client import Client
from user_pods_client.cli import upgrade
from user_pods_client.cli.exits import ExitCode
from user_pods_client.models import Upgrade


@pytest.fixture
def run_(run: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("USER_PODS_URL", url)
    monkeypatch.setenv("USER_PODS_TOKEN", KEY)
    monkeypatch.setattr(upgrade, "_PAUSE", 0.02)
    return run


@pytest.fixture
async def uuids(world: World) -> list[SessionId]:
    """Four sleepers and one in use, all out of date."""
    uuids = sorted([(await world.provisioner.create(f"u{number}")).uuid for number in range(5)])
    world.cluster.change(replace(world.cluster.workload(uuids[4]), replicas=1, ready=1))
    world.releases.target = "second"
    return uuids


@contextlib.asynccontextmanager
async def leader(world: World) -> AsyncIterator[None]:
    upgrades = world.release_upgrades()  # a process of its own
    runner = RolloutRunner(
        rollouts=world.rollouts,
        control=world.rollout_control,
        upgrades=upgrades,
        cache=world.cluster,
        poll=0.02,
    )
    leads = asyncio.create_task(runner.lead())
    yield
    leads.cancel()
    await asyncio.gather(leads, return_exceptions=True)
    await upgrades.close()


async def until(run_: Run, said: str) -> Done:
    async with asyncio.timeout(20):
        while True:
            done = await run_("upgrade", "--status")
            if said in done.out:
                return done
            await asyncio.sleep(0.02)


async def test_it_asks_with_the_numbers_and_shows_how_it_goes_on(
    run_: Run, world: World, uuids: list[SessionId]
) -> None:
    done = await run_("upgrade", "--all", stdin="n\n")
    assert done.code == ExitCode.DECLINED
    assert "Of 5 sessions, upgrade 4 that are asleep now, and 1 that are in use once they sleep?" in done.err
    assert world.rollouts.stored is None
    async with leader(world):
        done = await run_("upgrade", "--all", "--only-asleep", stdin="y\n")
    assert done.code == ExitCode.DONE, done.err
    assert "and leave 1 that are in use?" in done.err
    assert "4 of 5 upgraded, 1 awake" in done.out
    status = json.loads((await run_("upgrade", "--status", "-o", "json")).out)
    assert (status["counts"]["upgraded"], status["run"]["state"]) == (4, "done")
    world.cluster.change(replace(world.cluster.workload(uuids[4]), replicas=0, ready=0))
    async with leader(world):
        assert (await run_("upgrade", "--all", "--yes")).code == ExitCode.DONE
    done = await run_("upgrade", "--all")
    assert (done.code, "5 of 5 upgraded" in done.out) == (ExitCode.DONE, True)


async def test_a_dry_run_lists_which_in_which_order_from_what_to_what(
    run_: Run, world: World, uuids: list[SessionId]
) -> None:
    done = await run_("upgrade", "--all", "--dry-run", "--canary", "1")
    assert done.code == ExitCode.DONE, done.err
    assert "5 sessions of 5 would be upgraded to second. Nothing was done." in done.out
    lines = [line.split("   ") for line in done.out.splitlines()[3:]]
    assert [line[0] for line in lines] == uuids
    assert [line[-1] for line in lines] == [
        "first, as a canary", *["when the canaries are ready"] * 3, "once it sleeps",
    ]  # fmt: skip
    document = json.loads((await run_("upgrade", "--all", "--only-asleep", "--dry-run", "-o", "json")).out)
    assert (document["target"], document["sessions"][4]["when"]) == ("second", "not: it is in use")
    assert world.cluster.workload(uuids[0]).revision in document["sessions"][0]["from"]
    assert world.rollouts.stored is None
    assert (await run_("upgrade", "--status", "--dry-run")).code == ExitCode.USAGE
    assert "0 of 5 up to date" in (await run_("upgrade", "--status")).out
    done = await run_("upgrade", "--all", "--canary", "2", stdin="n\n")
    assert "2 first as canaries?" in done.err


async def test_a_failure_that_is_mended_is_not_listed_any_more(run_: Run, world: World, uuids: list[SessionId]) -> None:
    world.cluster.change(replace(world.cluster.workload(uuids[4]), replicas=0, ready=0))
    world.releases.failing[uuids[1]] = UpgradeFailed("no quota")
    async with leader(world):
        done = await run_("upgrade", "--all", "--yes")
    assert (done.code, "no quota" in done.out) == (ExitCode.FAILED, True)
    del world.releases.failing[uuids[1]]
    assert (await run_("upgrade", uuids[1])).code == ExitCode.DONE
    done = await until(run_, "5 of 5 upgraded")  # it counts once a second
    assert (done.out, "no quota" in done.out) == ("The upgrade is done. 5 of 5 upgraded.\n", False)


async def test_it_names_what_failed_and_why_and_so_does_the_code(
    run_: Run, world: World, uuids: list[SessionId]
) -> None:
    for uuid in uuids[1:3]:
        world.releases.failing[uuid] = UpgradeFailed("no quota")
    async with leader(world):
        done = await run_("upgrade", "--all", "--yes", "--max-parallel", "1")
    assert done.code == ExitCode.FAILED
    assert "stopped after 2 failures" in done.out
    for uuid in uuids[1:3]:
        assert f"{uuid}   no quota; it is rolled back" in done.out
    assert (await run_("upgrade", "--status", "-o", "name")).out.split() == uuids[1:3]


async def test_it_can_be_left_continued_and_stopped(run_: Run, world: World, uuids: list[SessionId]) -> None:
    done = await run_("upgrade", "--all", "--yes", "--no-wait", "--canary", "1")
    assert (done.code, "The upgrade goes on" in done.err) == (ExitCode.DONE, True)
    async with leader(world):
        done = await until(run_, "waits")
        assert "0 of 1 canaries have become ready" in done.out
        assert f"`user-pods wake {uuids[0]}`, or a visit" in done.out
        assert (await run_("upgrade", "--continue")).code == ExitCode.DONE
        await until(run_, "4 of 5 upgraded")
        done = await run_("upgrade", "--stop")
        assert "was stopped. 4 of 5 upgraded, 1 awake. `user-pods upgrade --all` goes on with what is left." in done.out
    done = await run_("upgrade", "--stop")
    assert (done.code, "`user-pods upgrade --all` starts one" in done.err) == (ExitCode.CONFLICT, True)


@pytest.mark.parametrize("argv", [("--all", "--canary", "3"), ("--status", "-f")])
async def test_a_second_operator_follows_the_upgrade_of_the_first(
    run_: Run, world: World, uuids: list[SessionId], argv: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    follow, loop, follows = upgrade._follow, asyncio.get_running_loop(), asyncio.Event()

    def noted(pods: Client, found: Upgrade) -> Upgrade:
        loop.call_soon_threadsafe(follows.set)
        return follow(pods, found)

    monkeypatch.setattr(upgrade, "_follow", noted)
    assert (await run_("upgrade", "--status", "--follow")).code == ExitCode.DONE, "there is none"
    await run_("upgrade", "--all", "--yes", "--no-wait")
    second = asyncio.ensure_future(run_("upgrade", *argv))
    async with leader(world), asyncio.timeout(20):
        await follows.wait()
        world.cluster.change(replace(world.cluster.workload(uuids[4]), replicas=0, ready=0))
        done = await second
    assert ("An upgrade by api is under way already" in done.err) == ("--all" in argv)
    assert (done.code, done.out) == (ExitCode.DONE, "The upgrade is done. 5 of 5 upgraded.\n")
    assert world.rollouts.stored is not None
    assert world.rollouts.stored.options.canary == 0


async def test_a_service_that_installs_another_revision_by_now_says_how_to_go_on(
    run_: Run, world: World, uuids: list[SessionId]
) -> None:
    assert (await run_("upgrade", "--all", "--yes", "--no-wait")).code == ExitCode.DONE
    world.releases.target = "third"
    done = await run_("upgrade", "--status")
    assert "the service that answers installs another revision" in done.out
    assert "`user-pods upgrade --stop` ends this upgrade, and `user-pods upgrade --all` begins one" in done.out
    stopped = (await run_("upgrade", "--stop")).out
    assert ("was stopped" in stopped, "it waits" in stopped) == (True, False)
    async with leader(world):
        assert (await run_("upgrade", "--all", "--yes", "--only-asleep")).code == ExitCode.DONE
    assert world.cluster.workload(uuids[0]).revision == "third"


async def test_the_time_left_is_an_estimate_without_those_in_use(
    run_: Run, world: World, uuids: list[SessionId]
) -> None:
    assert (await run_("upgrade", "--all", "--yes", "--no-wait")).code == ExitCode.DONE
    assert world.rollouts.stored is not None
    world.rollouts.stored = replace(world.rollouts.stored, pace=Pace(20, 3600.0, utc_now()))
    assert (
        "0 of 5 upgraded, 4 to do, 1 awake; about 12 min left without those awake."
        in (await run_("upgrade", "--status")).out
    )
    assert json.loads((await run_("upgrade", "--status", "-o", "json")).out)["seconds_left"] == 720
    world.cluster.change(replace(world.cluster.workload(uuids[4]), replicas=0, ready=0))
    assert "5 to do; about 15 min left." in (await run_("upgrade", "--status")).out


async def test_one_session(run_: Run, world: World, uuids: list[SessionId]) -> None:
    assert "Out of date" in (await run_("show", uuids[0])).out
    user = world.cluster.workload(uuids[0]).user_id or ""
    assert "is upgraded: revision second" in (await run_("upgrade", user)).out
    assert "was up to date" in (await run_("upgrade", uuids[0])).out
    assert "Out of date" not in (await run_("show", uuids[0])).out
    done = await run_("upgrade", uuids[4])
    assert (done.code, "--restart" in done.err) == (ExitCode.CONFLICT, True)
    assert (await run_("upgrade", uuids[4], "--restart")).code == ExitCode.DONE


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["ann", "--all"],
        ["--stop", "--continue"],
        ["--all", "--follow"],
        ["--all", "--restart"],
        ["--all", "--max-parallel", "0"],
    ],
)
async def test_what_makes_no_sense_is_wrong_usage(run_: Run, argv: list[str]) -> None:
    assert (await run_("upgrade", *argv)).code == ExitCode.USAGE


async def test_ctrl_c_leaves_it_running_and_says_so(
    run_: Run, world: World, uuids: list[SessionId], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("user_pods_client.cli.upgrade.time.sleep", interrupt)
    done = await run_("upgrade", "--all", "--yes")
    assert (done.code, "The upgrade goes on" in done.err) == (ExitCode.INTERRUPTED, True)
    assert world.rollouts.stored is not None
    assert world.rollouts.stored.active
    assert len(uuids) == 5


async def test_a_service_that_restarts_meanwhile_ends_nothing(
    run_: Run, serve_alone: ServeAlone, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = {
        "id": "1", "target": "t", "state": "running", "only_asleep": False, "max_parallel": 2, "canary": 0,
        "max_failures": 2, "started_by": "ci", "started_at": "2026-03-02T09:30:00Z", "ended_at": None,
        "canaries": [], "ready_canaries": [], "failures": [],
    }  # fmt: skip
    counts = {"total": 1, "upgraded": 0, "asleep": 1, "awake": 0, "failed": 0, "broken": 0}
    answers = iter([200, 202, 503, 503, 503, 503, 503, 503, 200])

    async def answer(_: web.Request) -> web.StreamResponse:
        code = next(answers)
        if code == 503:
            return web.json_response(
                {"type": "/problems/redis-unavailable", "title": "T", "status": 503, "detail": "d", "instance": "i"},
                status=503, content_type="application/problem+json", headers={"Retry-After": "0"},
            )  # fmt: skip
        ended = {"state": "done"} if len(seen) == 2 else {}
        seen.append(code)
        return web.json_response({"target": "t", "counts": counts, "run": {**run, **ended}}, status=code)

    seen: list[int] = []
    monkeypatch.setenv("USER_PODS_URL", await serve_alone(answer))
    done = await run_("upgrade", "--all", "--yes")
    assert (done.code, seen) == (ExitCode.DONE, [200, 202, 200])
