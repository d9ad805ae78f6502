"""The command line starts quickly: it imports what a command needs, and nothing else."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web

from stack.stack import ROOT
from tests.client.conftest import ServeAlone
from user_pods_client.cli import commands

_HEAVY = {"aiohttp", "asyncio", "pydantic", "requests", "rich", "urllib3", "yaml"}
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
    imported = imported_by(argv, tmp_path)
    assert {each for each in modules if _OWN + each in imported} == {module}


def test_completion_knows_every_command_and_imports_no_http_library(tmp_path: Path) -> None:
    words = {"_USER_PODS_COMPLETE": "complete_bash", "COMP_WORDS": "user-pods ", "COMP_CWORD": "1"}
    assert imported_by([], tmp_path, **words) & _HEAVY == set()
    env = {**os.environ, "PYTHONPATH": str(ROOT / "client"), "XDG_CONFIG_HOME": str(tmp_path), **words}
    command = [sys.executable, "-c", "from user_pods_client.cli.__main__ import main; main([])"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert set(done.stdout.split()) == set(commands._PLACES), done.stderr


@pytest.mark.parametrize(("argv", "needed"), [
    (["--version"], set()),
    (["context", "list"], set()),
    (["--help"], {"rich"}),
    (["list"], {"urllib3"}),
    (["list", "-o", "yaml"], {"urllib3", "yaml"}),
])  # fmt: skip
async def test_a_command_imports_the_libraries_that_it_needs(
    argv: list[str], needed: set[str], serve_alone: ServeAlone, tmp_path: Path
) -> None:
    async def no_sessions(_request: web.Request) -> web.Response:
        return web.json_response({"sessions": [], "cursor": None})

    url = await serve_alone(no_sessions)
    assert await asyncio.to_thread(imported_by, argv, tmp_path, USER_PODS_URL=url) & _HEAVY == needed
