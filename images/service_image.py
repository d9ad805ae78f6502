"""The service's image from its Dockerfile. The stages that change seldom are entries of the cache of their own."""

import re
from pathlib import Path

from devcluster.errors import DevclusterError
from devcluster.toolchain import Report
from images import base, buildah, entry

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "Dockerfile"
_HELM = ROOT / "devcluster" / "tools" / "helm"
_PACKAGES = ROOT / "requirements.lock"
SOURCES = (DOCKERFILE, _HELM, _PACKAGES, ROOT / ".dockerignore", ROOT / "service", ROOT / "chart" / "user-pod")
"""All that the image is made of."""


def make(folder: Path, archive: Path, reference: str, *, cache: Path, report: Report) -> None:
    """Build the image; `folder` is for temporary files."""
    debian = base.debian(cache, report)
    stages = {
        "helm": _stage("helm", _HELM, base.go(cache, report), minutes=4, report=report),
        "packages": _stage("packages", _PACKAGES, debian, minutes=1, report=report),
    }
    with buildah.storage(folder) as builder:
        builder.load(debian)
        builder.build(DOCKERFILE, ROOT, tag=reference, secrets=buildah.authorities(), stages=stages)
        builder.save(reference, archive)


def _stage(name: str, source: Path, beneath: Path, *, minutes: float, report: Report) -> Path:
    """A folder with the `/out` of one of the Dockerfile's stages."""
    tag = f"localhost/stage/{name}"

    def build(folder: Path, made: Path) -> None:
        with buildah.storage(folder) as builder:
            builder.load(beneath)
            builder.build(DOCKERFILE, ROOT, tag=tag, secrets=buildah.authorities(), target=name)
            builder.copy(tag, "/out", made / "out")

    digest = entry.key(f"{beneath.parent.name} {instructions(name)}", ROOT, [source])
    what = f"the stage {name} of the service's image"
    folder = beneath.parent.with_name(f"stage-{name}-{digest[:16]}")
    return entry.ensure(folder, what, minutes=minutes, report=report, make=build)


def instructions(stage: str) -> str:
    """The Dockerfile's lines of a stage, without those of other stages."""
    found = re.search(rf"^FROM \S+ AS {stage}\n.*?(?=^FROM |^#|\Z)", DOCKERFILE.read_text(), re.MULTILINE | re.DOTALL)
    if found is None:
        raise DevclusterError(f"{DOCKERFILE} has no stage {stage}")
    return found[0]
