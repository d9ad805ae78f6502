"""Exactly the started processes are stopped, and an unexpected exit is reported with the last output."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import pytest

from devcluster.errors import NotReady, ProcessDied
from devcluster.processes import Processes, Program, environment


def program(name: str, code: str, ready: bool = True, seconds: float = 20) -> Program:
    return Program(name, [sys.executable, "-c", code], environment(), lambda: ready, seconds)


FOREVER = "import time; time.sleep(300)"


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    processes = Processes(tmp_path)
    yield processes
    for name in processes.recorded():
        processes.stop(name, how=signal.SIGKILL)


def test_a_second_start_changes_nothing(processes: Processes) -> None:
    assert processes.start(program("a", FOREVER))
    first = processes.process("a")
    assert not processes.start(program("a", FOREVER))
    assert processes.process("a") == first


def test_another_process_of_the_same_user_can_stop_it(processes: Processes, tmp_path: Path) -> None:
    processes.start(program("a", FOREVER))
    other = Processes(tmp_path)
    assert other.alive("a")
    assert other.stop("a")
    assert not processes.alive("a")
    assert other.recorded() == []


def test_a_reused_pid_is_left_alone(processes: Processes, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", FOREVER]) as stranger:
        (tmp_path / "run").mkdir()
        record = {"pid": stranger.pid, "created": psutil.Process(stranger.pid).create_time() - 5, "argv": ["x"]}
        (tmp_path / "run" / "a.json").write_text(json.dumps(record))
        assert not processes.alive("a")
        assert not processes.stop("a")
        assert stranger.poll() is None
        stranger.kill()


def test_a_program_that_exits_is_reported_with_its_last_output(processes: Processes) -> None:
    dying = program("a", "print('no such option: --nonsense')", ready=False)
    processes.start(dying)
    with pytest.raises(ProcessDied, match="no such option: --nonsense"):
        processes.wait(dying)


def test_a_program_that_does_not_become_ready_is_reported(processes: Processes) -> None:
    slow = program("a", f"print('still busy', flush=True); {FOREVER}", ready=False, seconds=1)
    processes.start(slow)
    with pytest.raises(NotReady, match="still busy"):
        processes.wait(slow)


def test_a_program_that_ignores_sigterm_is_killed(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devcluster.processes._STOP_SECONDS", 1)
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('set', flush=True); " + FOREVER
    processes.start(program("a", stubborn))
    while "set" not in processes.tail("a"):
        pass
    assert processes.stop("a")
    assert not processes.alive("a")


def test_a_frozen_program_can_be_stopped(processes: Processes) -> None:
    processes.start(program("a", FOREVER))
    process = processes.process("a")
    assert process is not None
    process.suspend()
    assert processes.stop("a")


def test_a_program_can_be_stopped_by_another_process_than_its_starter(processes: Processes, tmp_path: Path) -> None:
    """It stays a zombie until its starter looks, which the other cannot make it do."""
    processes.start(program("a", FOREVER))
    code = "import sys, pathlib, devcluster.processes as p; p.Processes(pathlib.Path(sys.argv[1])).stop('a')"
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=10)
    assert time.monotonic() - began < 8
    assert not processes.alive("a")


def test_programs_outlive_their_starter_and_its_terminal(processes: Processes) -> None:
    processes.start(program("a", FOREVER))
    process = processes.process("a")
    assert process is not None
    assert os.getsid(process.pid) == process.pid


def listener(port: int) -> str:
    return f"import socket; listening = socket.create_server(('127.0.0.1', {port})); {FOREVER}"


def test_an_answer_by_another_program_on_the_port_does_not_count_as_ready(processes: Processes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        deaf = replace(program("a", FOREVER, seconds=0.5), port=port)
        processes.start(deaf)
        with pytest.raises(NotReady):
            processes.wait(deaf)
        dying = replace(program("b", listener(port)), port=port)
        processes.start(dying)
        with pytest.raises(ProcessDied, match="in use"):
            processes.wait(dying)


def test_a_program_is_ready_when_it_or_its_child_listens_on_the_port(processes: Processes) -> None:
    for name, code in (("a", "{}"), ("b", "import subprocess, sys; subprocess.run([sys.executable, '-c', {!r}])")):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        own = replace(program(name, code.format(listener(port))), port=port)
        processes.start(own)
        processes.wait(own)


class Interrupted(BaseException):
    """What a program's own handler raises."""


def test_a_program_has_its_record_even_if_its_starter_is_interrupted(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    popen = subprocess.Popen

    def interrupted(*arguments: Any, **options: Any) -> "subprocess.Popen[bytes]":
        child: subprocess.Popen[bytes] = popen(*arguments, **options)
        signal.raise_signal(signal.SIGTERM)
        return child

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise Interrupted

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        monkeypatch.setattr(subprocess, "Popen", interrupted)
        with pytest.raises(Interrupted):
            processes.start(program("a", FOREVER))
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert processes.alive("a")
