"""`user-pods doctor`: what it shows, what its exit code says, and how it mends."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from devcluster.certificates import Authority
from service.domain.api_keys import new_api_key
from service.domain.diagnosis.ports import RedisConfiguration
from service.domain.names import SessionId
from service.domain.permissions import CallerRole
from tests.client.conftest import KEY, Run, ServeAlone, problem
from tests.client.test_terminal import on_a_terminal
from tests.conftest import free_port
from tests.domain.conftest import World
from tests.web.conftest import Serve
from user_pods_client import __version__
from user_pods_client.cli import surroundings
from user_pods_client.cli.exits import ExitCode
from user_pods_client.models import Diagnosis, Finding

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


@pytest.fixture
async def doctor(run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("USER_PODS_URL", str((await serve(keys=[KEY], gateway=False)).make_url("/")))
    monkeypatch.setenv("USER_PODS_TOKEN", KEY)
    return run


def break_scaler(world: World, uuid: SessionId) -> None:
    world.cluster.change(replace(world.cluster.workload(uuid), has_scaler=False))


async def test_a_healthy_system_is_one_line_per_check(doctor: Run, uuid: SessionId) -> None:
    done = await doctor("doctor")
    assert (done.code, done.err) == (ExitCode.DONE, "")
    lines = done.out.splitlines()
    assert lines[-1] == "All that was checked is in order. Not checked: 4."
    unseen = ["autoscalers:", "keda:", "network-policies:", "storage-classes:"]
    assert sorted(line.split()[:2] for line in lines[:4]) == [["?", name] for name in unseen], done.out
    assert all(line.startswith("ok ") for line in lines[4:-2])
    checks = {line.split()[1].rstrip(":") for line in lines[:-2]}
    assert {"redis-rights", "clock", "version", "dns"} <= checks
    assert (await doctor("doctor", "-o", "name")).out == ""


async def test_what_cannot_be_seen_is_not_shown_as_fine(doctor: Run, world: World, uuid: SessionId) -> None:
    world.redis.settings = RedisConfiguration()
    done = await doctor("doctor")
    assert done.code == ExitCode.DONE
    assert "?        redis-settings: Redis does not let the service read its settings." in done.out
    assert done.out.endswith("All that was checked is in order. Not checked: 5.\n")
    break_scaler(world, uuid)
    assert "Errors: 1. Warnings: 0. Not checked: 5. `user-pods doctor --fix`" in (await doctor("doctor")).out
    listed = json.loads((await doctor("doctor", "-o", "json")).out)
    assert {each["severity"] for each in listed} == {"error", "ok"}, "scripts see what the service says"


async def test_warnings_and_errors_have_exit_codes_and_say_what_to_do(
    doctor: Run, world: World, uuid: SessionId
) -> None:
    world.redis.settings = replace(world.redis.settings, policy="volatile-lru")
    done = await doctor("doctor")
    assert done.code == ExitCode.WARNINGS
    assert "WARNING  redis-settings maxmemory-policy\n         Redis evicts keys" in done.out
    assert "         Next: `redis-cli config set maxmemory-policy noeviction`" in done.out
    break_scaler(world, uuid)
    done = await doctor("doctor")
    assert done.code == ExitCode.UNAVAILABLE
    assert done.out.startswith(f"ERROR    installation {uuid} (can be mended by --fix)\n")
    assert "Errors: 1. Warnings: 1. Not checked: 4. `user-pods doctor --fix` mends 1 of them." in done.out
    listed = json.loads((await doctor("doctor", "-o", "json")).out)
    assert [each["severity"] for each in listed[:3]] == ["error", "warning", "ok"]
    assert (await doctor("doctor", "-o", "name")).out.splitlines() == [
        f"installation/{uuid}", "redis-settings/maxmemory-policy",
    ]  # fmt: skip


async def test_it_shows_what_it_will_mend_asks_mends_and_looks_again(
    doctor: Run, world: World, uuid: SessionId
) -> None:
    break_scaler(world, uuid)
    done = await doctor("doctor", "--fix", stdin="n\n")
    assert (done.code, "This will be mended" in done.err) == (13, True)
    assert not world.cluster.workload(uuid).has_scaler
    done = await doctor("doctor", "--fix", stdin="y\n")
    assert done.code == ExitCode.DONE, done
    assert f"installation {uuid}: fixed, the release is complete again" in done.err
    assert world.cluster.workload(uuid).has_scaler
    assert "All that was checked is in order." in done.out
    done = await doctor("doctor", "--fix", "--yes")
    assert (done.code, done.err) == (ExitCode.DONE, "Nothing needs mending.\n")
    world.redis.settings = replace(world.redis.settings, policy="volatile-lru")
    assert "Nothing of this can be mended from here without a loss" in (await doctor("doctor", "--fix")).err
    assert [entry.operation for _, entry in world.trail.entries] == ["fix"]


async def test_what_resists_keeps_nothing_else_from_being_mended(doctor: Run, world: World, uuid: SessionId) -> None:
    break_scaler(world, uuid)
    world.store.held.add(uuid)
    world.redis.settings = replace(world.redis.settings, notifications="")
    done = await doctor("doctor", "--fix", "--yes", "-o", "json")
    assert done.code == ExitCode.UNAVAILABLE
    assert f"installation {uuid}: not mended. user-pods: another operation on this session is in progress" in done.err
    assert world.redis.settings.notifications == "El"
    assert [each["check"] for each in json.loads(done.out) if each["severity"] != "ok"] == ["installation"]


async def test_a_viewer_looks_and_changes_nothing_and_a_frontend_may_not_look(
    run: Run, serve: Serve, world: World, uuid: SessionId, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {role: new_api_key(role.value, role) for role in (CallerRole.VIEWER, CallerRole.FRONTEND)}
    client = await serve(named=[stored for _, stored in keys.values()], gateway=False)
    monkeypatch.setenv("USER_PODS_URL", str(client.make_url("/")))
    break_scaler(world, uuid)
    monkeypatch.setenv("USER_PODS_TOKEN", keys[CallerRole.VIEWER][0])
    assert (await run("doctor")).code == ExitCode.UNAVAILABLE
    assert (await run("doctor", "--fix", "--yes")).code == ExitCode.NOT_ALLOWED
    assert not world.cluster.workload(uuid).has_scaler
    monkeypatch.setenv("USER_PODS_TOKEN", keys[CallerRole.FRONTEND][0])
    assert (await run("doctor")).code == ExitCode.NOT_ALLOWED


async def test_a_service_without_a_diagnosis_is_too_old(
    run: Run, serve_alone: ServeAlone, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_: web.Request) -> web.StreamResponse:
        return problem(404, "not-found")

    monkeypatch.setenv("USER_PODS_URL", await serve_alone(refuse))
    done = await run("doctor")
    assert (done.code, "older than this command" in done.err) == (ExitCode.UNEXPECTED, True)


async def test_on_a_terminal_it_says_what_it_waits_for(
    serve: Serve, world: World, uuid: SessionId, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER_PODS_URL", str((await serve(keys=[KEY], gateway=False)).make_url("/")))
    monkeypatch.setenv("USER_PODS_TOKEN", KEY)
    code, shown = await asyncio.to_thread(on_a_terminal, tmp_path, "doctor")
    assert (code, "All that was checked is in order." in shown) == (0, True), shown
    assert "Looking for faults for " in shown, shown


async def test_texts_of_others_cannot_take_over_the_terminal(doctor: Run, world: World, uuid: SessionId) -> None:
    world.cluster.change(replace(world.cluster.workload(uuid), replicas=1, failure="\x1b]0;evil\x07"))
    done = await doctor("doctor")
    assert (done.code, "\x1b" in done.out) == (ExitCode.UNAVAILABLE, False)


# --- what is seen from outside ----------------------------------------------------------------------------------------


def look(
    url: str | None = None, *, version: str = __version__, behind: float = 0, now: datetime = NOW, **more: Any
) -> dict[str, Finding]:
    diagnosis = Diagnosis(at=now - timedelta(seconds=behind), version=version, workspace_url=url, findings=[])
    found = surroundings.findings(diagnosis, now=now, **more)
    assert all(each.meaning and each.next_step for each in found if each.severity != "ok")
    return {each.check: each for each in found}


def test_versions_and_clocks() -> None:
    assert {each.severity for each in look(behind=5).values()} == {"ok"}
    found = look(version="99.0.0", behind=-3600)
    assert (found["version"].severity, found["clock"].severity) == ("warning", "warning")
    assert "3600 s" in found["clock"].what


def test_names_that_resolve_to_one_place_to_several_and_to_none() -> None:
    asked: list[str] = []

    def resolve(host: str, _port: int) -> set[str]:
        asked.append(host)
        return {"192.0.2.1"}

    url = "http://vs-code-00000000.example.com"
    assert look(url, resolve=resolve)["dns"].severity == "ok"
    assert len(set(asked)) == 2
    assert all(host.startswith("vs-code-") and host.endswith(".example.com") and len(host) == 28 for host in asked)
    answers = iter([{"192.0.2.1"}, {"192.0.2.2"}])
    assert look(url, resolve=lambda *_: next(answers))["dns"].severity == "warning"

    def fail(host: str, _port: int) -> set[str]:
        raise socket.gaierror(-2, "Name or service not known")

    found = look(url, resolve=fail)
    assert (found["dns"].severity, "*.example.com" in found["dns"].next_step) == ("error", True)
    assert look("https://vs-code-00000000.localhost:8443")["dns"].severity == "ok"


@pytest.fixture
async def secured(tmp_path: Path) -> AsyncIterator[tuple[int, ssl.SSLContext]]:
    """A server with a certificate for 127.0.0.1, and who trusts it."""
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server", user="server", hosts=["127.0.0.1", "localhost"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1], ssl.create_default_context(cafile=str(authority.certificate))
    server.close()
    await server.wait_closed()


async def test_certificates(secured: tuple[int, ssl.SSLContext]) -> None:
    port, trust = secured

    async def tried(port: int, **more: Any) -> Finding:
        url = f"https://127.0.0.1:{port}"
        found = await asyncio.to_thread(look, url, resolve=lambda *_: {"127.0.0.1"}, **more)
        return found["certificate"]

    assert (await tried(port, trust=trust)).severity == "ok"
    at_its_end = datetime.now(UTC) + timedelta(days=3645)
    assert (await tried(port, trust=trust, now=at_its_end)).severity == "warning"
    stranger = await tried(port)
    assert (stranger.severity, "not valid" in stranger.what) == ("error", True)
    assert "Nothing speaks TLS" in (await tried(free_port(), trust=trust)).what
