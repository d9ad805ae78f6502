"""The command line starts quickly: it imports what a command needs, and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stack.stack import ROOT
from user_pods_client.cli import commands

_HEAVY = {"aiohttp", "requests", "rich", "urllib3", "yaml"}
"""Not pydantic: typer reads arguments by it."""


_OWN = "user_pods_client.cli."


def imported_by(argv: list[str], home: Path, **more: str) -> set[str]:
    code = (
        "import sys; from user_pods_client.cli.__main__ import main\n"
        f"try: main({argv!r})\n"
        "except SystemExit: pass\n"
        "print('IMPORTED', *sys.modules)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT / "client"), "XDG_CONFIG_HOME": str(home), **more}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("IMPORTED")[2].split())


@pytest.mark.parametrize(("argv", "module"), [
    (["context", "list"], "sign_in"),
    (["-c", "list", "context", "show"], "sign_in"),
    (["--context=list", "create", "--help"], "sessions"),
])  # fmt: skip
def test_only_the_module_of_the_command_is_imported(argv: list[str], module: str, tmp_path: Path) -> None:
    modules = {place.partition(".")[0] for _, place in commands._PLACES.values()}
    assert {each for each in modules if _OWN + each in imported_by(argv, tmp_path)} == {module}


def test_completion_knows_every_command_and_imports_no_http_library(tmp_path: Path) -> None:
    words = {"_USER_PODS_COMPLETE": "complete_bash", "COMP_WORDS": "user-pods ", "COMP_CWORD": "1"}
    assert imported_by([], tmp_path, **words) & _HEAVY == set()
    env = {**os.environ, "PYTHONPATH": str(ROOT / "client"), "XDG_CONFIG_HOME": str(tmp_path), **words}
    command = [sys.executable, "-c", "from user_pods_client.cli.__main__ import main; main([])"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert set(done.stdout.split()) == set(commands._PLACES), done.stderr


@pytest.mark.parametrize("argv", [["--version"], ["context", "list"]])
def test_a_command_that_calls_nobody_imports_no_http_library(argv: list[str], tmp_path: Path) -> None:
    assert imported_by(argv, tmp_path) & _HEAVY == set()


def test_help_imports_no_http_library(tmp_path: Path) -> None:
    assert imported_by(["--help"], tmp_path) & (_HEAVY - {"rich"}) == set()


def test_a_call_imports_one_http_library_and_only_that(tmp_path: Path) -> None:
    code = "import sys; from user_pods_client.sync import Client; print(*sys.modules)"
    env = {**os.environ, "PYTHONPATH": str(ROOT / "client")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert {"aiohttp", "asyncio", "pydantic", "requests", "rich", "yaml"} & set(done.stdout.split()) == set()
