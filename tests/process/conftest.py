"""The service as a separate process, with a running Redis and an API server that does not answer."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp.test_utils import unused_port

from stack.stack import ROOT

_KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "c", "cluster": {"server": ""}}],
    "users": [{"name": "u", "user": {"token": "t"}}],
    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    "current-context": "c",
}


@dataclass
class Service:
    """`settings` are variables without their prefix."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    options: Sequence[str] = ()
    """Of the command `serve`."""
    port: int = field(default_factory=unused_port)
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> "Service":
        away = f"https://127.0.0.1:{unused_port()}"
        config = _KUBECONFIG | {"clusters": [{"name": "c", "cluster": {"server": away}}]}
        (self.folder / "kubeconfig").write_text(json.dumps(config))
        settings = {
            "PORT": str(self.port),
            "KUBECONFIG": str(self.folder / "kubeconfig"),
            "REDIS_URL": f"redis://127.0.0.1:{unused_port()}/0",
            **self.settings,
        }
        environment = {name: value for name, value in os.environ.items() if not name.startswith("USER_PODS_")}
        environment |= {f"USER_PODS_{name}": value for name, value in settings.items()} | {"PYTHONPATH": str(ROOT)}
        with (self.folder / f"log-{self.port}").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service", "serve", *self.options], env=environment, stdout=log, stderr=log
            )
        return self

    @property
    def log(self) -> str:
        return (self.folder / f"log-{self.port}").read_text()

    def status(self, path: str) -> int:
        """0: it does not answer."""
        return self.get(path)[0]

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body; 0 and nothing when it does not answer."""
        try:
            with _opener.open(f"http://127.0.0.1:{self.port}{path}", timeout=15) as answer:
                return int(answer.status), answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except OSError:
            return 0, b""

    def until(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self.log
            assert self.process.poll() is None or condition(), self.log
            time.sleep(0.01)

    def lives(self) -> None:
        self.until(lambda: self.status("/livez") == 200)

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def ended(self, seconds: float) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the process did not end:\n{self.log}")


_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    started: list[Service] = []

    def make(*options: str, **settings: str) -> Service:
        started.append(Service(tmp_path, settings, options))
        return started[-1]

    yield make
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which another program listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])
