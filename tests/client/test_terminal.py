"""The command line on a terminal: it asks for the key without showing it, and turns a spinner while a pod wakes."""

import asyncio
import os
import pty
import select
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.domain.names import SessionId
from stack.stack import ROOT
from tests.client.conftest import KEY, become_ready
from tests.domain.conftest import World
from user_pods_client.cli import progress
from user_pods_client.models import ProgressEvent

_START = """
import fcntl, signal, sys, termios
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in a shell's background ignores it
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C interrupts
from user_pods_client.cli.__main__ import main
main(sys.argv[1:])
"""


def on_a_terminal(home: Path, *argv: str, prompt: str = "", reply: str = "") -> tuple[int, str]:
    """Exit code, and what the terminal shows. `reply` is typed when `prompt` has appeared.

    The space after the prompt comes once the terminal has stopped to echo, and has dropped what was typed before.
    """
    env = {**os.environ, "PYTHONPATH": str(ROOT / "client"), "XDG_CONFIG_HOME": str(home), "TERM": "xterm"}
    command = [sys.executable, "-c", _START, *argv]
    ours, theirs = pty.openpty()
    child = subprocess.Popen(command, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    shown = b""
    while piece := _read(ours):
        shown += piece
        if prompt and prompt.encode() in shown:
            os.write(ours, reply.encode() + b"\n")
            prompt = ""
    os.close(ours)  # hangs up: a program that still waits ends
    try:
        return child.wait(30), shown.decode()
    finally:
        child.kill()


def _read(terminal: int) -> bytes:
    """Nothing once the program has ended, or says nothing any more."""
    try:
        return os.read(terminal, 65536) if select.select([terminal], [], [], 30)[0] else b""
    except OSError:
        return b""


async def test_a_table_fits_a_narrow_terminal_and_its_ids_stay_whole(
    url: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [
        (await world.provisioner.create(f"user-{n}@a-rather-long-name-of-a-company.example.com")).uuid for n in "12"
    ]
    for name, value in (("USER_PODS_URL", url), ("USER_PODS_TOKEN", KEY)):
        monkeypatch.setenv(name, value)
    for uuid in made:
        await world.activity.wake(uuid)
        world.cluster.change(replace(world.cluster.workload(uuid), replicas=1, ready=1))
    for command in (["list"], ["top"], ["audit"], ["history", made[0]]):
        monkeypatch.setenv("COLUMNS", "80")
        code, shown = await asyncio.to_thread(on_a_terminal, tmp_path, *command)
        assert (code, max(map(len, shown.splitlines())) <= 80) == (0, True), shown
        assert command[0] not in ("list", "top") or all(uuid in shown for uuid in made), shown
    assert "example.com" not in (await asyncio.to_thread(on_a_terminal, tmp_path, "list"))[1]
    monkeypatch.setenv("COLUMNS", "200")
    assert "example.com" in (await asyncio.to_thread(on_a_terminal, tmp_path, "list"))[1]


async def test_ctrl_c_at_a_question_is_an_interruption(
    url: str, uuid: SessionId, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("USER_PODS_URL", url), ("USER_PODS_TOKEN", KEY)):
        monkeypatch.setenv(name, value)
    code, shown = await asyncio.to_thread(on_a_terminal, tmp_path, "delete", uuid, prompt="[y/N]: ", reply="\x03")
    assert (code, "Traceback" in shown) == (130, False), shown


def test_the_time_of_a_wake_goes_on_between_its_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)  # type: ignore[attr-defined]
    shown = progress.Progress("Waking abc123xy")
    now = 104.25
    shown.show(ProgressEvent(phase="scaled", at=datetime.now(UTC), seconds=2.0, reason=None, final=False))
    assert str(shown.__rich__()) == "Waking abc123xy for 4.2 s: a pod is wanted (2.0 s)"
    now = 165.0
    assert str(shown.__rich__()) == "Waking abc123xy for 1 min 5 s: a pod is wanted (2.0 s)"


def test_what_it_waits_for_is_said_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)  # type: ignore[attr-defined]
    with progress.Progress("Looking for faults") as shown:
        shown.note("the service looks at Redis")
        now = 112.0
        assert str(shown.__rich__()) == "Looking for faults for 12 s: the service looks at Redis"
    assert capsys.readouterr().err == ""


async def test_a_key_is_typed_unseen_and_a_wake_shows_its_progress(
    url: str, world: World, uuid: SessionId, tmp_path: Path
) -> None:
    code, shown = await asyncio.to_thread(
        on_a_terminal, tmp_path, "login", url, "--name", "mine", prompt="Key: ", reply=KEY
    )
    assert (code, "Context mine is in use" in shown, KEY in shown) == (0, True, False), shown
    async with asyncio.TaskGroup() as group:
        group.create_task(become_ready(world, uuid))
        code, shown = await asyncio.to_thread(on_a_terminal, tmp_path, "wake", uuid)
    assert (code, f"Session {uuid} is awake" in shown, f"Waking {uuid}" in shown) == (0, True, True), shown
    code, shown = await asyncio.to_thread(on_a_terminal, tmp_path, "delete", uuid, prompt="Delete session", reply="n")
    assert (code, "keep its files" in shown) == (13, True), shown
