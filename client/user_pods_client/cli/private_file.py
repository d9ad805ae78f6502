"""Files that only their owner can read, replaced at once."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from user_pods_client.cli.exits import BadContexts

if sys.platform != "win32":
    import fcntl

_FOLDER = "user-pods"


def folder(variable: str, otherwise: str) -> Path:
    """Where the variable says, or below the home directory. Raises BadContexts if there is neither."""
    base = os.environ.get(variable) or ""
    try:
        return (Path(base) if Path(base).is_absolute() else Path.home() / otherwise) / _FOLDER
    except RuntimeError:
        raise BadContexts(
            f"your home directory is not known here; set {variable} to the full path of a folder, and try again"
        ) from None


def replace(file: Path, text: str) -> Path:
    """Write the file, with its folder. Raises OSError; then the file is as it was, and no part of the text is left."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.stem}-")  # made with the mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as opened:
            opened.write(text)
        return Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Only one process at a time is here. Raises OSError."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(file.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        if sys.platform != "win32":
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
