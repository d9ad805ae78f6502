"""A program in a pod keeps its own pod awake, and nobody else's."""

import asyncio
import os
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.domain.names import SessionId
from service.gateway.keep_awake import KEEP_AWAKE
from stack.stack import ROOT
from tests.gateway.conftest import House, answer

SCRIPT = ROOT / "images" / "workspace" / "user-pods-keep-awake"
HOST = {"Host": "user-pods.service.svc:8081"}


async def asked(house: House, uuid: str, duration: str, **more: str) -> tuple[int, str]:
    status, body = await answer(house, KEEP_AWAKE, HOST | more, "POST", data={"uuid": uuid, "for": duration})
    return status, body.decode().strip()


def record(house: House, uuid: SessionId) -> Any:
    return house.world.store.sessions[uuid]


async def ran(house: House, uuid: str, *arguments: str, url: str = "") -> subprocess.CompletedProcess[str]:
    """The command of the workspace's terminal."""
    env = {"PATH": os.environ["PATH"], "USER_PODS_GATEWAY_URL": url or house.url(""), "USER_PODS_UUID": uuid,
           "http_proxy": "http://127.0.0.1:9", "TZ": "UTC", "LC_ALL": "C"}  # fmt: skip
    return await asyncio.to_thread(
        subprocess.run, ["sh", str(SCRIPT), *arguments], env=env, capture_output=True, text=True, check=False
    )


async def test_a_pod_keeps_itself_awake_and_may_end_that(house: House) -> None:
    uuid = await house.awake()
    began = datetime.now(UTC)
    status, text = await asked(house, uuid, "2h")
    assert status == 200
    until = record(house, uuid).kept_until
    assert abs(until - began - timedelta(hours=2)) < timedelta(seconds=10)
    assert text == until.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert await asked(house, uuid, "off") == (200, "off")
    assert record(house, uuid).kept_until is None


async def test_only_the_address_of_exactly_one_sessions_pod_is_known(house: House) -> None:
    uuid, other = await house.awake("ann"), await house.awake("bob")
    for claimed in (uuid, other):
        status, text = await asked(
            house, claimed, "2h", **{"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1"}
        )
        assert (status, "does not come from the address" in text) == (403, True)
    workload = house.world.cluster.workload(other)
    assert workload.pod is not None
    house.world.cluster.change(replace(workload, pod=replace(workload.pod, address="10.1.2.3")))
    status, text = await asked(house, other, "2h", **{"X-Forwarded-For": "10.1.2.3"})
    assert (status, "belongs to another workspace" in text) == (403, True)
    assert record(house, other).kept_until is None
    assert (await asked(house, uuid, "2h"))[0] == 200
    assert record(house, other).kept_until is None


async def test_what_a_program_does_is_in_the_audit(house: House) -> None:
    uuid, other = await house.awake(), "abc12345"
    for claimed, duration in ((uuid, "2h"), (uuid, "1h"), (uuid, "9h"), (uuid, "off"), (uuid, "soon"), (other, "2h")):
        await asked(house, claimed, duration)
    assert house.audited.short() == [
        ("program", "extend", uuid, "done"),
        ("program", "extend", uuid, "idle-times-refused"),
        ("program", "end_extension", uuid, "done"),
    ], "an equal one within a minute is counted, and what asks for nothing is not entered"
    assert {(each.role, each.key, each.person) for each in house.audited.entries} == {("user", None, None)}


@pytest.mark.parametrize("duration", ["", "2", "0h", "-1h", "2 h", "2d", "9999999h", "é", "1h30m"])
async def test_what_is_no_duration_is_refused(house: House, duration: str) -> None:
    uuid = await house.awake()
    status, text = await asked(house, uuid, duration)
    assert (status, "30m or 2h" in text) == (422, True)
    assert record(house, uuid).kept_until is None


async def test_the_limit_of_extensions_holds(house: House) -> None:
    uuid = await house.awake()
    status, text = await asked(house, uuid, "9h")
    assert (status, "8 h at most" in text) == (422, True)


async def test_nothing_but_a_short_form_by_post_is_read(house: House) -> None:
    await house.awake()
    assert (await answer(house, KEEP_AWAKE, HOST))[0] == 405
    assert (await answer(house, KEEP_AWAKE, HOST, "POST", data=b"x" * 500))[0] == 413
    assert (await answer(house, KEEP_AWAKE, HOST, "POST", data=b"&" * 100))[0] in (400, 403)


async def test_a_workspaces_own_host_has_no_such_address(house: House) -> None:
    uuid = await house.awake()
    status, _ = await answer(house, KEEP_AWAKE, await house.headers(uuid), "POST", data={"uuid": uuid, "for": "2h"})
    assert status == 404
    assert record(house, uuid).kept_until is None


async def test_the_command_says_until_when_and_what_is_wrong(house: House) -> None:
    uuid = await house.awake()
    done = await ran(house, uuid, "2h")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Awake until {record(house, uuid).kept_until.strftime('%H:%M on %d %B')}.\n"
    await asyncio.sleep(1)
    assert (await ran(house, uuid, "off")).stdout == "This workspace sleeps again when nobody uses it.\n"
    await asyncio.sleep(1)
    wrong = await ran(house, uuid, "soon")
    assert (wrong.returncode, "Give a time such as 30m or 2h" in wrong.stderr) == (1, True)
    assert "Usage" in (await ran(house, uuid, "--help")).stdout
    assert (await ran(house, uuid)).returncode == 2
    assert "GATEWAY_INTERNAL_URL" in (await ran(house, "", "2h")).stderr
    assert "could not be reached" in (await ran(house, uuid, "2h", url="http://127.0.0.1:9")).stderr
