"""An entry of the cache: a folder that appears by a rename when it is complete; two processes build it once."""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from devcluster import toolchain
from devcluster.toolchain import Report

Make = Callable[[Path, Path], None]
"""Fills the second folder, the entry's; the first is for temporary files."""


def ensure(entry: Path, what: str, *, minutes: float, report: Report, make: Make) -> Path:
    """The entry, made unless it exists. `minutes`: on two cores, for the progress display."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    with toolchain.locked(entry):
        if entry.exists():
            return entry
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
    return entry


def key(pins: str, root: Path, paths: Iterable[Path]) -> str:
    """A digest of the machine's architecture, of `pins`, and of the files at and below `paths` inside `root`."""
    digest = hashlib.sha256(f"{os.uname().machine} {pins}".encode())
    for path in sorted(file for start in paths for file in (start.rglob("*") if start.is_dir() else [start])):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(root)} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()
