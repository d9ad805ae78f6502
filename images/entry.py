"""An entry of the cache: a folder that appears by a rename when it is complete; two processes build it once.

A process that has asked for an entry keeps it for as long as it runs, by a lock. Of the others of the same name, which
were made of other sources, a build leaves the latest.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from devcluster import toolchain
from devcluster.toolchain import Report

LATEST = 2
"""Entries of one name that are kept, in the order of their last use."""
_JUST_USED = 3600.0
"""Seconds for which an entry is kept after its last use, for whoever works on several versions at a time."""
_NAME = re.compile(r"(.+)-[0-9a-f]{16}")
_DOOMED = ".part.old"
_in_use: dict[Path, int] = {}
"""The entries that this process uses, as open and locked folders; the system gives them back when it ends."""

Make = Callable[[Path, Path], None]
"""Fills the second folder, the entry's; the first is for temporary files."""


def ensure(entry: Path, what: str, *, minutes: float, report: Report, make: Make) -> Path:
    """The entry, made unless it exists. `minutes`: on two cores, for the progress display."""
    while not _use(entry):
        if _make(entry, what, minutes=minutes, report=report, make=make):
            remove_others(entry, report)
    return entry


def remove_others(entry: Path, report: Report) -> None:
    """Remove what differs from this entry only in its key, but for LATEST and what is or has just been in use."""
    for left in entry.parent.glob(f"{_family(entry)}-*{_DOOMED}"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    others = [each for each in entry.parent.iterdir() if _family(each) == _family(entry) != "" and each != entry]
    for other in sorted(filter(Path.is_dir, others), key=_last_use, reverse=True)[LATEST - 1 :]:
        if time.time() - _last_use(other) > _JUST_USED and _remove(other):
            report(f"  removed {other.name}, which nothing has used lately")


def _family(entry: Path) -> str:
    """The name without its key; empty if it has none."""
    found = _NAME.fullmatch(entry.name)
    return found[1] if found else ""


def _remove(entry: Path) -> bool:
    """Returns False if a process uses it."""
    with contextlib.suppress(FileNotFoundError, BlockingIOError), _opened(entry) as folder:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        doomed = entry.with_name(f"{entry.name}{_DOOMED}")  # whoever looks for it finds it whole, or not at all
        shutil.rmtree(doomed, ignore_errors=True)
        entry.rename(doomed)
        shutil.rmtree(doomed)
        return True
    return False


def _use(entry: Path) -> bool:
    """Keep the entry for as long as this process runs; False if it does not exist."""
    if entry not in _in_use:
        try:
            folder = os.open(entry, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return False
        fcntl.flock(folder, fcntl.LOCK_SH)
        _in_use[entry] = folder
    if not entry.exists() or not os.path.samestat(os.fstat(_in_use[entry]), entry.stat()):  # removed meanwhile
        os.close(_in_use.pop(entry))
        return False
    os.utime(entry)
    return True


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _last_use(entry: Path) -> float:
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:  # removed by another process
        return 0


def _make(entry: Path, what: str, *, minutes: float, report: Report, make: Make) -> bool:
    """Returns False if another process has made it meanwhile."""
    with toolchain.locked(entry):
        if entry.exists():
            return False
        for left in entry.parent.glob(f"{entry.name}.part.*"):  # of a build that was killed
            shutil.rmtree(left)
        report(f"building {what}, once; about {minutes * 60:.0f} s on two cores")
        started = time.monotonic()
        partial = Path(tempfile.mkdtemp(prefix=f"{entry.name}.part.", dir=entry.parent))
        try:
            made = partial / "entry"
            made.mkdir()
            make(partial, made)
            size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file() and not path.is_symlink())
            made.rename(entry)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        report(f"  {what}: done in {time.monotonic() - started:.0f} s, {size / 1e6:.0f} MB")
    return True


def key(pins: str, root: Path, paths: Iterable[Path]) -> str:
    """A digest of the machine's architecture, of `pins`, and of the files at and below `paths` inside `root`."""
    digest = hashlib.sha256(f"{os.uname().machine} {pins}".encode())
    for path in sorted(file for start in paths for file in (start.rglob("*") if start.is_dir() else [start])):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(root)} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()
