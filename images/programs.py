"""The programs and files that building an image needs."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from devcluster.errors import BuildFailed, DevclusterError

PACKAGES: Mapping[str, str] = {
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
}
"""Program or file -> the Debian package that contains it."""
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


class CannotBuild(DevclusterError):
    """This machine cannot build the image; says what is missing."""


def missing(parts: Sequence[str]) -> list[str]:
    """The programs, files and packages that this machine lacks for a build; empty if it can build."""
    lacks = [] if os.geteuid() == 0 else ["root"]
    return lacks + [f"the Debian package {PACKAGES[part]}" for part in parts if not _there(part)]


def _there(part: str) -> bool:
    return Path(part).exists() if part.startswith("/") else shutil.which(part, path=_PATH) is not None


def demand(what: str, parts: Sequence[str]) -> None:
    """Raises CannotBuild if any of them is missing."""
    if lacks := missing(parts):
        raise CannotBuild(f"{what} cannot be built here; missing: {', '.join(lacks)}")


def run(argv: Sequence[str], *, cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
    """Run the program and return its output. Raises BuildFailed with the last lines of both output streams."""
    env = {**os.environ, "PATH": _PATH, **(environment or {})}
    done = subprocess.run(
        argv,
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-25:])
        raise BuildFailed(f"`{' '.join(argv[:2])}` failed:\n{tail}")
    return done.stdout
