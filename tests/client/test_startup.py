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
from user_pods_client.cli import commands, contexts
from user_pods_client.cli.contexts import Context

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


def completing(line: str) -> dict[str, str]:
    """What bash sets for a line that ends at the cursor."""
    return {"_USER_PODS_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}


def completed(line: str, home: Path) -> set[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "client"), "XDG_CONFIG_HOME": str(home), **completing(line)}
    command = [sys.executable, "-c", "from user_pods_client.cli.__main__ import main; main([])"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return set(done.stdout.split())


def test_completion_knows_every_command_and_imports_no_http_library(tmp_path: Path) -> None:
    assert imported_by([], tmp_path, **completing("user-pods ")) & _HEAVY == set()
    assert completed("user-pods ", tmp_path) == set(commands._PLACES)


def test_completion_knows_values_of_options_and_names_of_contexts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases = {"asleep", "waking", "ready", "failed", "deleting", "released"}
    assert completed("user-pods list --phase ", tmp_path) == phases
    assert completed("user-pods list --phase re", tmp_path) == {"ready", "released"}
    assert completed("user-pods wait ann --for ", tmp_path) == {"ready", "asleep", "deleted"}
    assert completed("user-pods list -o ", tmp_path) == {"table", "json", "yaml", "name"}
    assert completed("user-pods -c ", tmp_path) == set()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with contexts.changing() as known:
        for name in ("school", "shop", "work"):
            known.put(Context(name, "https://x.example.com"))
    assert completed("user-pods -c s", tmp_path) == {"school", "shop"}
    assert completed("user-pods context use ", tmp_path) == {"school", "shop", "work"}
    contexts.path().chmod(0o644)
    assert completed("user-pods -c s", tmp_path) == set(), "a file that is not used says nothing into the line"


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
