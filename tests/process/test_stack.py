"""`make up` believes in no other service than its own, and notices when its own has other settings."""

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from devcluster.errors import ProcessDied
from devcluster.processes import Processes, Program
from stack.stack import Stack
from tests.devcluster.test_cluster import wait


class Ready(BaseHTTPRequestHandler):
    """Somebody else's service."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def stranger() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Ready) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_an_answer_by_another_program_does_not_make_the_stack_run(
    tmp_path: Path, stranger: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = Processes(tmp_path)

    def run(name: str, argv: Any, *, env: Any, ready: Any, seconds: float, port: int | None) -> bool:
        program = Program(name, argv, env, ready, seconds, port)
        started = processes.start(program)
        processes.wait(program)
        return started

    stack = Stack(SimpleNamespace(run=run), port=stranger)  # type: ignore[arg-type]
    assert stack._ready(), "the stranger answers"
    environment = {"USER_PODS_PORT": str(stranger), "PYTHONPATH": str(Path.cwd()), "PATH": "/usr/bin:/bin"}
    monkeypatch.setattr(stack, "environment", lambda: environment)
    with pytest.raises(ProcessDied, match=f"USER_PODS_PORT: port {stranger} of 127.0.0.1 is taken"):
        stack.start()


def test_a_service_with_other_settings_or_chart_values_is_outdated(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    cluster = SimpleNamespace(
        state=tmp_path,
        redis_url="redis://127.0.0.1:1/0",
        tools=SimpleNamespace(path=Path),
        service_account=lambda namespace, name: tmp_path / f"{namespace}-{name}.kubeconfig",
        status=lambda: {name: processes.alive(name) for name in processes.recorded()},
        pid=lambda name: processes.process(name).pid,  # type: ignore[union-attr]
    )
    stack, other = (Stack(cluster, settings={"LEASE": lease}) for lease in ("15", "20"))  # type: ignore[arg-type]
    stack.values.parent.mkdir()
    stack.values.write_text("image: {tag: one}")
    assert not stack.is_outdated(), "it does not run"
    argv = [sys.executable, "-c", "import time; time.sleep(300)"]
    processes.start(Program(stack.name, argv, stack.environment(), lambda: True))
    try:
        # The kernel shows no environment until a new program is loaded.
        wait(lambda: bool(psutil.Process(cluster.pid(stack.name)).environ()), "its environment is empty", 30)
        assert (stack.is_outdated(), other.is_outdated()) == (False, True)
        stack.values.write_text("image: {tag: two}")
        assert stack.is_outdated()
    finally:
        processes.stop(stack.name)
