"""Files that are made from others: rewritten by `make generated`, compared by `make check`."""

import json
import os
import subprocess
import sys
from pathlib import Path

from devcluster import toolchain
from devcluster.errors import DevclusterError
from service.commands.generate import contents as from_the_code
from service.web import openapi, problems
from stack import client_code, diagrams, reference
from stack.stack import ROOT

_CHARTS = ("user-pod", "session-service")


def contents() -> dict[Path, str]:
    """Each generated file of the checkout, with what should be in it."""
    files = from_the_code() | diagrams.files()
    files |= {
        "docs/reference/rest.md": reference.rest(json.loads(files["service/web/static/openapi.json"])),
        "docs/reference/problems.md": reference.problems(problems.kinds()),
        "docs/reference/command-line.md": reference.command_line(_help()),
    }
    files |= client()
    helm_docs = toolchain.ensure({"helm-docs": toolchain.EXTRA["helm-docs"]}).path("helm-docs")
    for chart in _CHARTS:
        files[f"chart/{chart}/README.md"] = readme = _readme(helm_docs, chart)
        files[f"docs/reference/chart-{chart}.md"] = reference.chart(chart, readme)
    for name in ("alerts.yaml", "dashboard.json"):  # a chart can contain only files of its own folder
        files[f"chart/session-service/files/{name}"] = (ROOT / "docs" / "monitoring" / name).read_text()
    return {ROOT / name: text for name, text in files.items()}


def client() -> dict[str, str]:
    """The generated modules of the Python client."""
    return client_code.files(openapi.document(), problems.kinds())


def stale() -> list[Path]:
    """Files that are not what they should be."""
    return [path for path, text in contents().items() if not path.exists() or path.read_text() != text]


def rewrite() -> None:
    # The command line, whose help is one of the files, may import models that the client does not have yet.
    _write({ROOT / name: text for name, text in client().items()})
    _write(contents())


def _write(files: dict[Path, str]) -> None:
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _help() -> str:
    """What the client's command line says of itself."""
    argv = [sys.executable, "-m", "typer", "user_pods_client.cli.app", "utils", "docs", "--name", "user-pods"]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "client"), "TERM": "dumb", "NO_COLOR": "1"}
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def _readme(helm_docs: Path, chart: str) -> str:
    root = str(ROOT / "chart" / chart)
    argv = [str(helm_docs), "--chart-search-root", root, "--template-files", "README.md.gotmpl", "--dry-run"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise DevclusterError(f"helm-docs failed for {chart}:\n{done.stderr}")
    return done.stdout.strip() + "\n"
