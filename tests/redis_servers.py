"""Redis servers that a test may freeze, fill or demote."""

import contextlib
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devcluster import components
from tests.conftest import free_port


@dataclass
class Server:
    """One redis-server process of the test's own."""

    port: int
    process: subprocess.Popen[bytes]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It takes connections and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def redis_server(*arguments: str, port: int | None = None, which: str | None = None) -> Iterator[Server]:
    """A server that answers; `arguments` are added to its command line (a path first: its configuration file)."""
    port = port or free_port()
    with tempfile.TemporaryDirectory() as folder:
        own = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        path = [argument for argument in arguments if Path(argument).is_absolute()]
        argv = [str(components.redis_server(which)), *path, *own, *(a for a in arguments if a not in path)]
        server = Server(port, subprocess.Popen(argv, stdout=subprocess.DEVNULL))
        try:
            _wait(port)
            yield server
        finally:
            server.end()


MASTER = "mymaster"


@contextmanager
def sentinel(folder: Path, primary: Server) -> Iterator[Server]:
    """A single Sentinel, which fails over when the primary has been down for half a second."""
    config = folder / "sentinel.conf"
    config.write_text(
        f"sentinel monitor {MASTER} 127.0.0.1 {primary.port} 1\n"
        f"sentinel down-after-milliseconds {MASTER} 500\n"
        f"sentinel failover-timeout {MASTER} 2000\n"
    )
    with redis_server(str(config), "--sentinel") as server:
        yield server


def _wait(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise TimeoutError(f"no Redis at port {port}")
