"""A real container registry on loopback."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CONFIG = """
version: 0.1
log: {accesslog: {disabled: false}}
storage: {filesystem: {rootdirectory: %s}}
http: {addr: "127.0.0.1:0", secret: tests}
"""


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Server:
    """A running registry."""

    def __init__(self, program: Path, folder: Path, settings: str = "") -> None:
        config, self._log = folder / "config.yml", folder / "log"
        config.write_text(CONFIG % (folder / "data") + settings)
        with self._log.open("w") as output:
            self.process = subprocess.Popen([program, "serve", config], stdout=output, stderr=subprocess.STDOUT)
        wait(lambda: "listening on 127.0.0.1:" in self._log.read_text())
        port = self._log.read_text().partition("listening on 127.0.0.1:")[2].partition('"')[0]
        self.host = f"127.0.0.1:{port}"

    def answered(self, method: str, path: str, status: int) -> int:
        """How often, by its own access log."""
        lines = self._log.read_text().splitlines()
        return len([line for line in lines if f'"{method} {path}' in line and f'" {status} ' in line])


@contextmanager
def serving(program: Path, folder: Path, settings: str = "") -> Iterator[Server]:
    """`folder` is where its data is, and has to exist."""
    server = Server(program, folder, settings)
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.wait()
