"""Redis servers that a test may freeze, fill or demote, and a TCP proxy to them."""

import asyncio
import contextlib
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
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
    """A Sentinel alone, which fails over when the primary has been away for half a second."""
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


@dataclass
class TcpProxy:
    """A TCP proxy. `target` is the port that new connections go to; `half_open` makes the current ones half-open."""

    target: int
    port: int = 0
    made: int = 0
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)
    _old: set[int] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def half_open(self) -> None:
        """Forward nothing over the open connections, in either direction, and close none."""
        self._old = set(range(self.made))

    def cut(self) -> None:
        """Reset the open connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self.made = self.made, self.made + 1
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers += [writer, far_writer]
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._pass(source, sink, number))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, number: int) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if number not in self._old:
                    sink.write(data)
                    await sink.drain()
        if number not in self._old:
            sink.close()

    async def close(self) -> None:
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def tcp_proxy(target: int) -> AsyncIterator[TcpProxy]:
    proxy = TcpProxy(target)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
