"""The client's wheel in an environment of its own: complete, typed, and without the service."""

import subprocess
from pathlib import Path

import pytest

from stack.stack import ROOT
from tests.wheels import installed
from user_pods_client import __version__


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(ROOT / "client", tmp_path_factory)


def test_the_wheel_brings_a_typed_client_that_imports_only_its_own_http_library(programs: Path, tmp_path: Path) -> None:
    code = (
        "import sys, user_pods_client as u; u.Client('https://pods.example.com'); from pathlib import Path;"
        "print((Path(u.__file__).parent / 'py.typed').exists(), sorted({'aiohttp', 'typer', 'service', 'pydantic'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run([programs / "python", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "True []\n"), done.stderr


def test_the_wheel_brings_the_command_line(programs: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [programs / "user-pods", "--version"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"{__version__}\n"), done.stderr
