"""What a release needs besides the image: its notes, from the changelog, and the charts, which name its image."""

import re
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path

import yaml

from devcluster.errors import DevclusterError
from stack.stack import ROOT

CHARTS = ("session-service", "user-pod")
_IMAGE = "repository: user-pods/session-service"


class NotReleasable(DevclusterError):
    """The checkout is not what the tag says."""


def versions(root: Path = ROOT) -> dict[str, str]:
    """Each place that has the project's version -> what it says."""
    found = {
        name: str(tomllib.loads((root / name).read_text())["project"]["version"])
        for name in ("pyproject.toml", "client/pyproject.toml")
    }
    of_python = r'__version__ = "(.+)"'
    for name, pattern in (
        ("service/__init__.py", of_python),
        ("client/user_pods_client/__init__.py", of_python),
        ("Dockerfile", r"ARG VERSION=(.+)"),
    ):
        match = re.search(pattern, (root / name).read_text(), re.MULTILINE)
        found[name] = match.group(1) if match else ""
    for chart in CHARTS:
        found[f"chart/{chart}/Chart.yaml"] = yaml.safe_load((root / "chart" / chart / "Chart.yaml").read_text())[
            "version"
        ]
    service = yaml.safe_load((root / "chart/session-service/Chart.yaml").read_text())
    found["chart/session-service/Chart.yaml (appVersion)"] = service["appVersion"]
    return found


def notes(tag: str, root: Path = ROOT) -> str:
    """The changelog's section of a version, for example of ``v0.2.0``.

    Raises NotReleasable if the changelog has no such section, or a file of the checkout has another version.
    """
    if not re.fullmatch(r"v\d+\.\d+\.\d+", tag):
        raise NotReleasable(f"{tag!r} is no tag of a release: write for example v0.2.0")
    version = tag.removeprefix("v")
    if other := {place: found for place, found in versions(root).items() if found != version}:
        lines = "\n".join(f"  {place}: {found}" for place, found in other.items())
        raise NotReleasable(f"the tag says {version}, but:\n{lines}")
    heading = rf"^## {re.escape(version)}(?: [^\n]*)?\n(.*?)(?=^## |\Z)"
    section = re.search(heading, (root / "CHANGELOG.md").read_text(), re.MULTILINE | re.DOTALL)
    text = section.group(1).strip() if section else ""
    if not text:
        raise NotReleasable(f"CHANGELOG.md says nothing under `## {version}`: move there what is under `## Unreleased`")
    return f"{text}\n"


def package_charts(helm: Path, images: str, target: Path, root: Path = ROOT) -> list[Path]:
    """Package the charts into `target`. The service's names its image in `images`, for example ``ghcr.io/you/pods``."""
    with tempfile.TemporaryDirectory() as place:
        for chart in CHARTS:
            shutil.copytree(root / "chart" / chart, Path(place) / chart)
        values = Path(place) / "session-service" / "values.yaml"
        text = values.read_text()
        if text.count(_IMAGE) != 1:
            raise NotReleasable(f"chart/session-service/values.yaml has no line `{_IMAGE}` to replace")
        values.write_text(text.replace(_IMAGE, f"repository: {images}/session-service"))
        argv = [str(helm), "package", "--destination", str(target), *(str(Path(place) / chart) for chart in CHARTS)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DevclusterError(f"helm package failed:\n{done.stderr}")
    return sorted(target.glob("*.tgz"))
