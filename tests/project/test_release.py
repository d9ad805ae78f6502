"""Releases: the notes of a tag, one version in all places, and charts that can be installed from a registry."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from devcluster.toolchain import Tools
from stack import release
from stack.release import NotReleasable
from stack.stack import ROOT
from tests.chart.conftest import Helm
from tests.chart.rendering import of_kind
from tests.registries import Server, serving

CHANGELOG = """# Changelog

## Unreleased

- Not yet.

## {version} (2026-11-27)

### Added

- A thing.

## 0.0.9

- An older one.
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What a release looks at."""
    for place in release.versions():
        name = place.partition(" ")[0]
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG.format(version=version()))
    return tmp_path


def version() -> str:
    return release.versions()["pyproject.toml"]


def test_every_place_has_the_same_version() -> None:
    assert set(release.versions().values()) == {version()}
    assert re.fullmatch(r"\d+\.\d+\.\d+", version())


def test_the_notes_are_the_versions_section_of_the_changelog(checkout: Path) -> None:
    assert release.notes(f"v{version()}", checkout) == "### Added\n\n- A thing.\n"


def test_the_last_section_has_notes_too(checkout: Path) -> None:
    text = CHANGELOG.partition("## {version}")[0] + f"## {version()}\n\n- The first.\n"
    (checkout / "CHANGELOG.md").write_text(text)
    assert release.notes(f"v{version()}", checkout) == "- The first.\n"


@pytest.mark.parametrize("text", ["", "## Unreleased\n\n- A thing.\n", "## {version}\n\n## 0.0.9\n\n- Old.\n"])
def test_a_version_without_notes_is_not_released(checkout: Path, text: str) -> None:
    (checkout / "CHANGELOG.md").write_text(text.format(version=version()))
    with pytest.raises(NotReleasable, match=r"CHANGELOG\.md says nothing"):
        release.notes(f"v{version()}", checkout)


@pytest.mark.parametrize("place", sorted({place.partition(" ")[0] for place in release.versions()}))
def test_a_place_with_another_version_is_named(checkout: Path, place: str) -> None:
    file = checkout / place
    file.write_text(re.sub(r"(?<![\d.])" + re.escape(version()), "9.9.9", file.read_text(), count=1))
    with pytest.raises(NotReleasable, match=re.escape(place)):
        release.notes(f"v{version()}", checkout)


@pytest.mark.parametrize("tag", ["", "0.1.0", "v0.1", "v0.1.0-rc.1", "main"])
def test_what_is_no_tag_of_a_release_is_refused(tag: str) -> None:
    with pytest.raises(NotReleasable, match="no tag of a release"):
        release.notes(tag)


@pytest.fixture(scope="module")
def registry(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tools.path("registry"), tmp_path_factory.mktemp("registry")) as server:
        yield server


def test_the_charts_can_be_installed_from_a_registry_and_name_the_released_image(
    helm: Helm, tools: Tools, registry: Server, tmp_path: Path
) -> None:
    images = f"{registry.host}/{helm.path.name}/user-pods"
    charts = release.package_charts(tools.path("helm"), images, tmp_path)
    assert [path.name for path in charts] == [f"{chart}-{version()}.tgz" for chart in release.CHARTS]
    for path in charts:
        pushed = Helm(tools.path("helm")).try_("push", str(path), f"oci://{images}/charts", "--plain-http")
        # How the workflow learns what to sign.
        assert re.search(r"^Digest: sha256:[0-9a-f]{64}$", pushed.stdout + pushed.stderr, re.MULTILINE)

    def rendered(name: str, chart: str, *arguments: str) -> list[dict[str, object]]:
        text = helm(
            "template", name, f"oci://{images}/charts/{chart}", "--version", version(), *arguments, "--plain-http"
        )
        return [item for item in yaml.safe_load_all(text) if item]

    (service,) = of_kind(rendered("service", "session-service", "--set", "usersNamespace=users"), "Deployment")
    (container,) = service["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"{images}/session-service:{version()}"
    assert of_kind(
        rendered("user-ab12cd34", "user-pod", "--set-string", "redis.address=redis.example:6379"), "ScaledObject"
    )
