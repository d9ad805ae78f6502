"""The images as a node gets them: what the chart's defaults rely on."""

import json
import os
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from images import base, recipes
from images.recipes import Image, Name
from service import __version__
from stack.stack import ROOT

CHART: dict[str, Any] = yaml.safe_load((ROOT / "chart" / "user-pod" / "values.yaml").read_text())


@dataclass(frozen=True)
class Content:
    """What an archive holds."""

    tags: list[str]
    config: dict[str, Any]
    files: dict[str, tarfile.TarInfo]
    texts: dict[str, str]

    @property
    def environment(self) -> dict[str, str]:
        return dict(variable.split("=", 1) for variable in self.config["Env"])


def content(archive: Path, *texts: str) -> Content:
    """The configuration and the files of all layers, of some their text."""
    with tarfile.open(archive) as outer:
        manifest = json.loads(_read(outer, "manifest.json"))[0]
        found = Content(manifest["RepoTags"], json.loads(_read(outer, manifest["Config"]))["config"], {}, {})
        for name in manifest["Layers"]:
            with tarfile.open(fileobj=outer.extractfile(name), mode="r:") as layer:
                for member in layer:
                    path = member.name.removeprefix("./").rstrip("/")
                    found.files[path] = member
                    if path in texts:
                        found.texts[path] = _read(layer, member).decode()
    return found


def _read(tar: tarfile.TarFile, member: str | tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    with file:
        return file.read()


def built(name: Name, *, minutes: bool = False) -> Image:
    """The image; where it cannot be built (or takes minutes and is not in the cache), skips, but fails in CI."""
    image = recipes.located(name)
    demanded = os.environ.get("CI") == "true"
    if not image.archive.exists() and not demanded:
        if lacks := recipes.missing(name):
            pytest.skip(f"the image {name} cannot be built here; missing: {', '.join(lacks)}")
        if minutes:
            pytest.skip(f"not in the cache; `python -m images build {name}` builds it, in minutes")
    return recipes.build(name)


@pytest.fixture(scope="module")
def tiny() -> Content:
    image = built(Name.TINY)
    found = content(image.archive)
    assert found.tags == [image.reference]
    return found


@pytest.fixture(scope="module")
def workspace() -> Content:
    image = built(Name.WORKSPACE, minutes=True)
    found = content(image.archive, "etc/code-server/config.yaml", "etc/passwd", "etc/ssl/certs/ca-certificates.crt")
    assert found.tags == [image.reference]
    return found


@pytest.fixture(scope="module")
def jupyter() -> Content:
    image = built(Name.JUPYTER, minutes=True)
    found = content(image.archive, "etc/jupyter/jupyter_server_config.json")
    assert found.tags == [image.reference]
    return found


def test_the_tiny_image_is_one_program_as_the_charts_user_on_the_charts_port(tiny: Content) -> None:
    assert list(tiny.files) == ["tiny"]
    assert tiny.files["tiny"].mode & 0o111 == 0o111
    assert tiny.config["Entrypoint"] == ["/tiny"]
    fits_the_chart(tiny)


# Time enough to build it.
@pytest.mark.timeout(1800)
def test_the_workspace_image_is_a_vs_code_that_fits_the_chart(workspace: Content) -> None:
    fits_the_chart(workspace)
    assert workspace.config["Entrypoint"] == ["tini", "--", "code-server"]
    assert workspace.config["Cmd"] == workspace.config["WorkingDir"].split() == [CHART["homePath"]]
    config = yaml.safe_load(workspace.texts[workspace.environment["CODE_SERVER_CONFIG"].lstrip("/")])
    assert (config["bind-addr"], config["auth"]) == (f"0.0.0.0:{CHART['port']}", "none")
    assert f"coder:x:1000:1000::{CHART['homePath']}:/bin/bash" in workspace.texts["etc/passwd"].splitlines()


@pytest.mark.timeout(1800)
def test_the_workspace_image_has_user_tools_and_no_build_tools(workspace: Content) -> None:
    code = "opt/code-server/node_modules/code-server/lib/vscode/node_modules"
    machine = {"x86_64": "x64", "aarch64": "arm64"}[os.uname().machine]
    for needed in (
        *("usr/bin/git", "bin/bash", "usr/bin/tini", "usr/local/bin/node", "usr/local/bin/code-server"),
        *("usr/bin/python", "usr/bin/pip", "usr/lib/python3.11/venv/__init__.py"),
        *("opt/code-server/start.cjs", "opt/code-server/compressed/out/vs/code/browser/workbench/workbench.js.br"),
        f"{code}/@vscode/ripgrep-universal/bin/linux-{machine}/rg",
        f"{code}/node-pty/prebuilds/linux-{machine}/pty.node",
        f"{code}/@vscode/spdlog/build/Release/spdlog.node",
    ):
        assert needed in workspace.files or f"usr/{needed}" in workspace.files, needed
    extensions = "opt/code-server/node_modules/code-server/lib/vscode/extensions"
    useless = (f"{extensions}/copilot", f"{extensions}/ms-vscode.js-debug-companion")
    for unwanted in ("usr/bin/gcc", "usr/bin/npm", "run/secrets/ca", "build", *useless):
        assert unwanted not in workspace.files, unwanted
    assert workspace.files[f"{extensions}/ms-vscode.js-debug/package.json"].size < 100_000, "debuggers of browsers"
    (compiled,) = [path for path in workspace.files if re.fullmatch(r"opt/code-server/compiled/[^/]+", path)]
    assert compiled.endswith("-1000"), "Node's cache is for the user that it was made by"
    assert not [path for path in workspace.files if path.endswith((".exe", ".js.map", ".deb"))]
    foreign = [path for path, member in workspace.files.items() if member.uid == 1000 and not path.startswith("home/")]
    assert foreign == [], "a user could change the program"
    # The authority that the build trusted, if it was one of this machine's own, is no Debian one and must not be left.
    own = Path("/usr/local/share/ca-certificates")
    for certificate in own.rglob("*.crt") if own.is_dir() else ():
        body = certificate.read_text().split("-----")[2].strip()
        assert body not in workspace.texts["etc/ssl/certs/ca-certificates.crt"]


@pytest.mark.compiled
@pytest.mark.timeout(1800)
def test_the_jupyter_image_fits_the_chart_and_can_neither_change_nor_install_itself(jupyter: Content) -> None:
    fits_the_chart(jupyter)
    assert jupyter.config["Entrypoint"] == ["tini", "--", "jupyter", "lab"]
    config = json.loads(jupyter.texts["etc/jupyter/jupyter_server_config.json"])
    server = config["ServerApp"]
    assert (server["ip"], server["port"], server["root_dir"]) == ("0.0.0.0", CHART["port"], CHART["homePath"])
    assert config["IdentityProvider"]["token"] == "", "the gateway decides who may come in"
    code = "opt/jupyter/lib/python3.11/site-packages"
    for needed in ("opt/jupyter/bin/jupyter-lab", f"{code}/jupyterlab/__pycache__/labapp.cpython-311.pyc"):
        assert needed in jupyter.files, needed
    for unwanted in ("opt/jupyter/bin/pip", f"{code}/pip", "run/secrets/ca", "build"):
        assert unwanted not in jupyter.files, unwanted
    assert not [path for path, member in jupyter.files.items() if member.uid == 1000 and not path.startswith("home/")]


@pytest.fixture(scope="module")
def service() -> Content:
    image = built(Name.SERVICE, minutes=True)
    found = content(image.archive)
    assert found.tags == [image.reference]
    return found


# Time enough to build it, with helm.
@pytest.mark.compiled
@pytest.mark.timeout(1800)
def test_the_services_image_is_at_most_200_mb_besides_helm(service: Content) -> None:
    assert "usr/local/bin/helm" in service.files
    size = sum(file.size for path, file in service.files.items() if path != "usr/local/bin/helm")
    assert size < 200e6


@pytest.mark.compiled
@pytest.mark.timeout(1800)
def test_the_services_image_runs_as_a_user_who_can_change_nothing_in_it(service: Content) -> None:
    assert service.config["User"] == "10001:10001"
    assert service.config["Entrypoint"] == ["python", "-m", "service"]
    assert [path for path, file in service.files.items() if file.uid == 10001] == []
    writable = {path for path, file in service.files.items() if file.mode & 0o1002 == 0o002 and not file.issym()}
    assert {path for path in writable if not path.startswith("dev/")} == set(), "a program could be replaced"


@pytest.mark.compiled
@pytest.mark.timeout(1800)
def test_the_services_image_has_compiled_code_and_neither_compiler_nor_cache(service: Content) -> None:
    packages = "venv/lib/python3.11/site-packages"
    for needed in ("app/service/__main__.py", "app/chart/user-pod/Chart.yaml", f"{packages}/aiohttp/__init__.py"):
        assert needed in service.files, needed
    assert any(path.startswith("app/service/__pycache__/__main__.") for path in service.files), "the root is read-only"
    unwanted = ("usr/bin/gcc", "usr/local/go", "run/secrets/ca", "root/.cache", "src", f"{packages}/pip")
    assert [path for path in unwanted if path in service.files] == []
    assert [path for path in service.files if path.endswith(".deb")] == []


@pytest.mark.compiled
@pytest.mark.timeout(1800)
def test_the_services_image_says_what_it_is(service: Content) -> None:
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in service.config["Labels"].items()}
    assert labels["version"] == __version__
    assert (labels["title"], labels["licenses"]) == ("session-service", "Apache-2.0")
    assert labels["description"]


def fits_the_chart(content: Content) -> None:
    security = CHART["podSecurityContext"]
    assert content.config["User"] == f"{security['runAsUser']}:{security['runAsGroup']}"
    assert list(content.config["ExposedPorts"]) == [f"{CHART['port']}/tcp"]
    assert content.environment["HOME"] == CHART["homePath"]


@pytest.mark.parametrize("name", [Name.WORKSPACE, Name.JUPYTER])
def test_a_dockerfile_starts_from_the_replaced_base_and_installs_what_is_locked(name: Name) -> None:
    lines = (recipes.SOURCES / name / "Dockerfile").read_text().splitlines()
    assert f"ARG BASE_IMAGE={base.NAME}" in lines
    assert {line for line in lines if line.startswith("FROM ")} == {"FROM ${BASE_IMAGE} AS build", "FROM ${BASE_IMAGE}"}
    assert all("--require-hashes" in line for line in lines if "pip install" in line)
    assert not any("npm install" in line for line in lines), "the lock file alone says what is installed"
