"""The wheel in a fresh environment outside the checkout contains everything that the service needs."""

import os
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp.test_utils import unused_port

from service import __version__
from stack.stack import ROOT
from tests.wheels import installed

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(ROOT, tmp_path_factory)


def run(argv: list[str | Path], folder: Path) -> str:
    done = subprocess.run(argv, cwd=folder, env=_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _environment(**settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("USER_PODS_", "PYTHON"))}
    return kept | {f"USER_PODS_{name}": value for name, value in settings.items()}


def test_the_installed_package_has_its_commands(programs: Path, tmp_path: Path) -> None:
    assert "serve" in run([programs / "python", "-m", "service", "--help"], tmp_path)
    assert "serve" in run([programs / "user-pods-service", "--help"], tmp_path)
    assert run([programs / "user-pods-service", "--version"], tmp_path).strip() == __version__


def test_the_installed_package_contains_the_user_chart(programs: Path, tmp_path: Path) -> None:
    code = "from service import settings; print(settings.Settings().chart)"
    chart = Path(run([programs / "python", "-c", code], tmp_path).strip())
    assert chart.is_relative_to(programs.parent)
    ours = ROOT / "chart" / "user-pod"
    tracked = subprocess.run(["git", "ls-files"], cwd=ours, capture_output=True, text=True, check=True)
    for name in tracked.stdout.splitlines():
        assert (chart / name).read_bytes() == (ours / name).read_bytes(), name


@pytest.fixture
def address(programs: Path, tmp_path: Path) -> Iterator[str]:
    """The installed service, without a Redis and a cluster."""
    port = unused_port()
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        "{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}],"
        f" clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:{unused_port()}'}}}}],"
        " users: [{name: u, user: {token: t}}]}"
    )
    env = _environment(PORT=str(port), KUBECONFIG=str(kubeconfig), REDIS_URL=f"redis://127.0.0.1:{unused_port()}/0")
    with (tmp_path / "log").open("wb") as log:
        service = subprocess.Popen([programs / "user-pods-service", "serve"], cwd=tmp_path, env=env, stderr=log)
    try:
        _wait_until_it_listens(service, tmp_path / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        service.kill()
        service.wait()


def _wait_until_it_listens(service: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 60
    while "listens" not in log.read_text():
        assert service.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


def test_the_installed_service_serves_its_documentation(address: str) -> None:
    assert "/session/create" in _get(f"{address}/openapi.json")
    page = _get(f"{address}/docs")
    for asset in re.findall(r'"(docs/[0-9a-f]+/[^"]+)"', page):
        assert _get(f"{address}/{asset}"), asset


def _get(url: str) -> str:
    with _direct.open(url, timeout=10) as answer:
        return str(answer.read().decode())
