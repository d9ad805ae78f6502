"""The command line as a program of its own, on the real service and the real cluster."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stack.stack import ROOT, Stack
from tests.stack.conftest import releases

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(stack: Stack, tmp_path: Path) -> Run:
    """Runs `user-pods` against the stack, as a script does."""
    stack.start()  # a test before may have ended it
    env = {name: value for name, value in os.environ.items() if not name.startswith("USER_PODS_")}
    env |= {"PYTHONPATH": str(ROOT / "client"), "XDG_CONFIG_HOME": str(tmp_path), "USER_PODS_URL": stack.url}

    def run(*argv: str, code: int | None = 0) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "user_pods_client.cli", *argv]
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert code in (done.returncode, None), done.stderr
        return done

    return run


def test_a_session_is_created_woken_explained_and_deleted_from_a_shell(run: Run, stack: Stack, user: str) -> None:
    uuid = run("create", user, "-o", "name").stdout.strip()
    woken = run("wake", user, "--timeout", "40s")
    assert f"Session {uuid} is awake" in woken.stdout
    assert "the wake is accepted" in woken.stderr
    told = run("why", uuid).stdout
    assert "Woken by a call of the API; ready after" in told
    assert "Without further activity it sleeps at" in told
    run("sleep", uuid)
    run("wait", uuid, "--for=asleep", "--timeout", "30s")
    assert "Sent to sleep by a call of the API." in run("why", uuid).stdout
    run("delete", uuid, "--yes", "--delete-data")
    assert f"user-{uuid}" not in releases(stack)
    assert run("show", user, code=3).stdout == ""
