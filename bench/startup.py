"""How long the command line takes to start: ``python -m bench.startup``.

CPU time of each command beside that of Python doing nothing, in rounds of random order. Load of others on the machine
lengthens both, so trust the ratio and the best round.
"""

import json
import os
import random
import resource
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from stack import tables
from stack.stack import ROOT

_BARE = "python -c pass"
_BEGIN, _END = "<!-- startup: begin -->", "<!-- startup: end -->"
DOCUMENT = ROOT / "docs" / "how-to" / "command-line.md"


class _NoSessions(BaseHTTPRequestHandler):
    """A service without sessions."""

    def do_GET(self) -> None:
        body = json.dumps({"sessions": [], "cursor": None}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the overridden method's
        pass


def main(
    rounds: Annotated[int, typer.Option(help="Starts of each command.")] = 20,
    write: Annotated[bool, typer.Option("--write", help="Write the table into docs/how-to/command-line.md.")] = False,
) -> None:
    """Measure, and print the table."""
    command = ["-m", "user_pods_client.cli"]
    kinds = {
        _BARE: ["-c", "pass"],
        "user-pods --version": [*command, "--version"],
        "user-pods --help": [*command, "--help"],
        "user-pods context list": [*command, "context", "list"],
        "user-pods list": [*command, "list"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    with _service() as url, TemporaryDirectory() as home:
        env = {**os.environ, "PYTHONPATH": str(ROOT / "client"), "XDG_CONFIG_HOME": home, "USER_PODS_URL": url}
        # What is installed is compiled: the first round compiles everything, whatever the environment says.
        env |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": home}
        for _ in range(rounds + 1):
            for name in random.sample(list(kinds), len(kinds)):
                seconds[name].append(_cpu(kinds[name], env, Path(home)))
    best = {name: min(each[1:]) for name, each in seconds.items()}  # the first round fills caches
    rows = [
        (
            f"`{name}`",
            f"{statistics.median(each[1:]):.3f}",
            f"{best[name]:.3f}",
            f"{best[name] / max(best[_BARE], 1e-3):.0f}",
        )
        for name, each in seconds.items()
    ]
    table = tables.markdown(("command", "CPU s, median", "CPU s, best", "times bare Python"), rows, numbers_from=1)
    print(table)
    if write:
        tables.replace(DOCUMENT, _BEGIN, _END, table)


@contextmanager
def _service() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _NoSessions)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _cpu(argv: list[str], env: dict[str, str], folder: Path) -> float:
    """Seconds of CPU of one start."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *argv], env=env, cwd=folder, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


if __name__ == "__main__":
    typer.run(main)
