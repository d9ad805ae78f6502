"""Files that are made from others: rewritten by `make generated`, compared by `make check`."""

import subprocess
from pathlib import Path

from devcluster import toolchain
from devcluster.errors import DevclusterError
from service.__main__ import generated as from_the_code
from stack.stack import ROOT

_CHARTS = ("user-pod", "session-service")


def contents() -> dict[Path, str]:
    """Each generated file of the checkout, with what should be in it."""
    files = {ROOT / name: text for name, text in from_the_code().items()}
    helm_docs = toolchain.ensure({"helm-docs": toolchain.EXTRA["helm-docs"]}).path("helm-docs")
    for chart in _CHARTS:
        files[ROOT / "chart" / chart / "README.md"] = _readme(helm_docs, chart)
    return files


def stale() -> list[Path]:
    """Files that are not what they should be."""
    return [path for path, text in contents().items() if not path.exists() or path.read_text() != text]


def rewrite() -> None:
    for path, text in contents().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _readme(helm_docs: Path, chart: str) -> str:
    root = str(ROOT / "chart" / chart)
    argv = [str(helm_docs), "--chart-search-root", root, "--template-files", "README.md.gotmpl", "--dry-run"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise DevclusterError(f"helm-docs failed for {chart}:\n{done.stderr}")
    return done.stdout.strip() + "\n"
