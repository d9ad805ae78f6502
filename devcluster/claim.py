"""One real node per machine: who has it, and which kernel settings to give back."""

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from devcluster.errors import DevclusterError
from devcluster.invocation import command

FOLDER = Path("/run/devcluster")
"""Below /run, because a restart of the machine ends the node and the claim."""

_SETTINGS = (
    # What kubelet writes at every start,
    "vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
    # and what network plugins may.
    "net/ipv4/ip_forward",
)  # fmt: skip


class Held(DevclusterError):
    """Another cluster has this machine's real node."""


class Claim:
    """The claim of the cluster in `state`; `clean` removes what a dead cluster, given its state, has left."""

    def __init__(self, state: Path, *, folder: Path = FOLDER) -> None:
        self._state = state
        self._folder = folder

    def owner(self) -> Path | None:
        """State folder of the cluster that has the node."""
        found = self._read()
        return Path(found["state"]) if found else None

    def take(self, *, alive: Callable[[Path], bool], clean: Callable[[Path], None]) -> None:
        """Take the node. A holder without any live process loses it, after `clean`. Raises Held."""
        with self._locked():
            found = self._read()
            if found and Path(found["state"]) == self._state:
                return
            if found:
                state = Path(found["state"])
                if alive(state) or _lives(found):
                    raise Held(
                        f"the cluster in {state} has this machine's real node; "
                        f"`{command('devcluster', 'down', '--state', str(state))}` frees it"
                    )
                clean(state)
                self._restore(found)
            me = psutil.Process()
            settings = {name: path.read_text().strip() for name in _SETTINGS if (path := _setting(name)).exists()}
            claim = {"state": str(self._state), "pid": me.pid, "created": me.create_time(), "settings": settings}
            partial = self._file.with_suffix(".part")
            partial.write_text(json.dumps(claim, indent=2))
            partial.rename(self._file)

    def release(self, *, clean: Callable[[Path], None]) -> None:
        """Release the node after `clean` and restore the kernel settings. Does nothing if another cluster has it."""
        with self._locked():
            found = self._read()
            if found and Path(found["state"]) != self._state:
                return
            clean(self._state)
            if found:
                self._restore(found)
                self._file.unlink()

    @property
    def _file(self) -> Path:
        return self._folder / "node.json"

    def _read(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(self._file.read_text())
        except FileNotFoundError:
            return None
        return found

    def _restore(self, found: dict[str, Any]) -> None:
        for name, value in found["settings"].items():
            if _setting(name).read_text().strip() != value:
                _setting(name).write_text(value)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _setting(name: str) -> Path:
    return Path("/proc/sys") / name


def _lives(found: dict[str, Any]) -> bool:
    """Whether the process that took the claim is alive, even if it has started nothing yet."""
    try:
        process = psutil.Process(found["pid"])
        return bool(process.create_time() == found["created"] and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
