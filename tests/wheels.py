"""Wheels as people install them."""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest


def installed(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment with the project's wheel; what it depends on comes from this one."""
    wheels, environment = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("environment")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)]
    subprocess.run(build, cwd=project, capture_output=True, check=True)
    venv.create(environment)
    programs = environment / "bin"
    (wheel,) = wheels.glob("*.whl")
    install = ["-m", "uv", "pip", "install", "--offline", "--no-deps", "--python", str(programs / "python"), str(wheel)]
    subprocess.run([sys.executable, *install], capture_output=True, check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return programs
