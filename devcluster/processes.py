"""Starts programs that outlive their starter, remembers exactly which, and stops exactly those.

A process is known by its pid *and* its start time, so a pid that the system gave to somebody else is never touched.
"""

import atexit
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from devcluster.errors import NotReady, ProcessDied

_STOP_SECONDS = 15


@dataclass(frozen=True)
class Program:
    """What to run, and how to tell that it is ready (`ready` may raise OSError for "not yet")."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    ready: Callable[[], bool]
    seconds: float = 60
    """How long getting ready may take."""
    port: int | None = None
    """Port where it answers `ready`. Another program that listens there could answer in its place."""


@dataclass(frozen=True)
class _Recorded:
    pid: int
    created: float
    argv: list[str]


class Processes:
    """The processes of one state folder: records in `run/`, logs in `log/`."""

    def __init__(self, state: Path) -> None:
        self._run = state / "run"
        self._log = state / "log"

    def start(self, program: Program) -> bool:
        """Start the program unless it runs. Returns whether it had to be started. Does not wait."""
        if self.alive(program.name):
            return False
        for folder in (self._run, self._log):
            folder.mkdir(parents=True, exist_ok=True)
        with self.log(program.name).open("ab") as log, _interrupts_deferred():
            child = subprocess.Popen(
                list(program.argv),
                env=dict(program.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            created = psutil.Process(child.pid).create_time()
            record = self._run / f"{program.name}.json"
            partial = record.with_suffix(".part")
            partial.write_text(json.dumps(asdict(_Recorded(child.pid, created, list(program.argv)))))
            partial.rename(record)
            _reap_later(child)
        return True

    def wait(self, program: Program) -> None:
        """Wait until it is ready. Raises ProcessDied or NotReady, with the last lines of its log."""
        deadline = time.monotonic() + program.seconds
        while True:
            try:
                if program.ready() and self._is_its_own(program):
                    return
            except OSError:
                pass
            if not self.alive(program.name):
                raise ProcessDied(f"{program.name} ended by itself; {self.tail(program.name)}")
            if time.monotonic() > deadline:
                raise NotReady(f"{program.name} is not ready after {program.seconds:.0f} s; {self.tail(program.name)}")
            time.sleep(0.05)

    def _is_its_own(self, program: Program) -> bool:
        """Whether the program itself, not another one, listens on the port."""
        process = self.process(program.name)
        if program.port is None:
            return True
        if process is None:
            return False
        try:
            found = [
                each for one in (process, *process.children(recursive=True)) for each in one.net_connections("tcp")
            ]
        except psutil.AccessDenied:
            return True  # another user's process: unknown
        except psutil.NoSuchProcess:
            return False
        return any(each.status == psutil.CONN_LISTEN and each.laddr.port == program.port for each in found)

    def stop(self, name: str, *, how: signal.Signals = signal.SIGTERM) -> bool:
        """Stop it, by force after 15 s. Returns whether it was running."""
        process = self.process(name)
        (self._run / f"{name}.json").unlink(missing_ok=True)
        if process is None:
            return False
        try:
            process.resume()
            process.send_signal(how)
            if not _ends(process):
                process.kill()
                _ends(process)
        except psutil.NoSuchProcess:
            pass
        _reap()
        return True

    def process(self, name: str) -> psutil.Process | None:
        """The recorded process, if it still is the same one."""
        try:
            record = _Recorded(**json.loads((self._run / f"{name}.json").read_text()))
            process = psutil.Process(record.pid)
            same = process.create_time() == record.created and process.status() != psutil.STATUS_ZOMBIE
        except (FileNotFoundError, psutil.NoSuchProcess):
            return None
        return process if same else None

    def alive(self, name: str) -> bool:
        return self.process(name) is not None

    def recorded(self) -> list[str]:
        """Names of all programs that were started and not stopped, including dead ones, oldest first."""
        return [path.stem for path in sorted(self._run.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)]

    def log(self, name: str) -> Path:
        return self._log / f"{name}.log"

    def tail(self, name: str, lines: int = 15) -> str:
        """The last lines of its log, with a heading."""
        log = self.log(name)
        text = log.read_text(errors="replace").splitlines()[-lines:] if log.exists() else []
        return "\n".join([f"last lines of {log}:", *(f"    {line}" for line in text)])


@contextmanager
def _interrupts_deferred() -> Iterator[None]:
    """Defer SIGINT and SIGTERM, so that no process is left without its record."""
    if threading.current_thread() is not threading.main_thread():  # signals go to the main thread only
        yield
        return
    received: list[int] = []
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in previous:
        signal.signal(number, lambda number, _frame: received.append(number))
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for repeated in received[:1]:
            signal.raise_signal(repeated)


def _ends(process: psutil.Process) -> bool:
    """Wait until it has ended. A zombie counts as ended: its parent may be another process that does not collect it."""
    deadline = time.monotonic() + _STOP_SECONDS
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


_children: list[subprocess.Popen[bytes]] = []


def _reap_later(child: subprocess.Popen[bytes]) -> None:
    """Keep the handle, so that a dead child is a zombie that we collect, and causes no warning."""
    _reap()
    _children.append(child)


def _reap() -> None:
    for child in [*_children]:
        if child.poll() is not None:
            _children.remove(child)


atexit.register(_reap)  # those that ended since the last call


def environment(**extra: str) -> dict[str, str]:
    """The environment for a component: none of the caller's Kubernetes or proxy settings."""
    keep = ("PATH", "HOME", "LANG", "TMPDIR", "USER")
    return {name: os.environ[name] for name in keep if name in os.environ} | extra
