"""The images, and their archives in the cache beside the tools.

An entry's key is all that its image is made of here; like a tool's it appears by a rename when it is complete, and two
processes that want the same image build it once.
"""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from devcluster import golang, toolchain
from devcluster.errors import BuildFailed
from devcluster.toolchain import Report, say
from images import base, buildah, entry, programs, service_image

SOURCES = Path(__file__).parent
_EDITOR = "localhost/user-pods/workspace:latest"
"""The workspace's image as the Dockerfile of `code-server` calls it."""
_FLAGS = ("-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", "-s -w")


class Name(StrEnum):
    TINY = "tiny"
    WORKSPACE = "workspace"
    CODE_SERVER = "code-server"
    JUPYTER = "jupyter"
    REDIS = "redis"
    SERVICE = "session-service"


class Image(NamedTuple):
    """A built image: the name that a pod asks for, and the archive that a node imports."""

    reference: str
    archive: Path

    @property
    def name(self) -> str:
        return self.reference.rpartition("/")[2].partition(":")[0]


@dataclass(frozen=True, kw_only=True)
class _Work:
    """One build: a working folder, the archive to write, the image's name, and where to report progress."""

    folder: Path
    archive: Path
    reference: str
    cache: Path
    report: Report


@dataclass(frozen=True, kw_only=True)
class _Recipe:
    make: Callable[[_Work], None]
    programs: tuple[str, ...]
    pins: str
    """What the image depends on besides its folder: a part of its key."""
    minutes: float
    """On two cores, with what it needs of the network at hand, for the progress display."""


def build(name: Name, *, report: Report = say, cache: Path | None = None) -> Image:
    """The image, from the cache or built. Raises CannotBuild or BuildFailed."""
    cache = cache or toolchain.cache_folder()
    recipe = _RECIPES[name]
    image = located(name, cache=cache)
    if not image.archive.exists():
        programs.demand(f"the image {name}", recipe.programs)

    def make(folder: Path, made: Path) -> None:
        archive = made / image.archive.name
        recipe.make(_Work(folder=folder, archive=archive, reference=image.reference, cache=cache, report=report))

    entry.ensure(image.archive.parent, f"the image {name}", minutes=recipe.minutes, report=report, make=make)
    return image


def located(name: Name, *, cache: Path | None = None) -> Image:
    """The image's name, and the path of its archive once built."""
    # A host part that does not exist: without one, a node that lacks the image would ask a public registry.
    owner = "codercom" if name is Name.CODE_SERVER else "user-pods"  # the chart knows the public image by its name
    key = _key(name)
    folder = (cache or toolchain.cache_folder()) / "images" / f"{name}-{key[:16]}"
    return Image(f"localhost/{owner}/{name}:{key[:8]}", folder / "image.tar")


def missing(name: Name) -> list[str]:
    """What this machine lacks to build the image."""
    return programs.missing(_RECIPES[name].programs)


def compile_tiny(target: Path, *, cache: Path | None = None) -> Path:
    """The tiny workspace as a static program."""
    go = golang.find(cache or toolchain.cache_folder())
    argv = [str(go), "build", *_FLAGS, "-o", str(target), "."]
    source = SOURCES / Name.TINY
    done = subprocess.run(argv, cwd=source, env=golang.environment(go), capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildFailed(f"tiny: `go build` failed:\n{done.stderr}")
    return target


def _tiny(work: _Work) -> None:
    context = work.folder / "context"
    context.mkdir()
    compile_tiny(context / "tiny", cache=work.cache)
    with buildah.storage(work.folder) as builder:
        builder.build(SOURCES / Name.TINY / "Dockerfile", context, tag=work.reference, secrets={})
        builder.save(work.reference, work.archive)


def _workspace(work: _Work) -> None:
    _on_the_base(SOURCES / Name.WORKSPACE, work)


def _jupyter(work: _Work) -> None:
    _on_the_base(SOURCES / Name.JUPYTER, work)


def _redis(work: _Work) -> None:
    _on_the_base(SOURCES / Name.REDIS, work)


def _on_the_base(source: Path, work: _Work) -> None:
    """Build the Dockerfile of a folder, which is all that it needs besides the network."""
    with buildah.storage(work.folder) as builder:
        builder.load(base.debian(work.cache, work.report))
        builder.build(source / "Dockerfile", source, tag=work.reference, secrets=buildah.authorities())
        builder.save(work.reference, work.archive)


def _code_server(work: _Work) -> None:
    workspace = build(Name.WORKSPACE, report=work.report, cache=work.cache)
    source = SOURCES / Name.CODE_SERVER
    with buildah.storage(work.folder) as builder:
        builder.load(base.debian(work.cache, work.report))
        builder.load(workspace.archive)
        builder.run("tag", workspace.reference, _EDITOR)
        builder.build(source / "Dockerfile", source, tag=work.reference, secrets={})
        builder.save(work.reference, work.archive)


def _service(work: _Work) -> None:
    service_image.make(work.folder, work.archive, work.reference, cache=work.cache, report=work.report)


_RECIPES = {
    Name.TINY: _Recipe(make=_tiny, programs=("buildah",), pins=repr(_FLAGS), minutes=0.2),
    Name.WORKSPACE: _Recipe(make=_workspace, programs=base.PROGRAMS, pins=f"base {base.RECIPE}", minutes=5),
    Name.CODE_SERVER: _Recipe(make=_code_server, programs=base.PROGRAMS, pins=f"base {base.RECIPE}", minutes=2),
    Name.JUPYTER: _Recipe(make=_jupyter, programs=base.PROGRAMS, pins=f"base {base.RECIPE}", minutes=2),
    Name.REDIS: _Recipe(make=_redis, programs=base.PROGRAMS, pins=f"base {base.RECIPE}", minutes=0.5),
    Name.SERVICE: _Recipe(make=_service, programs=base.PROGRAMS, pins=f"base {base.RECIPE}", minutes=1),
}


def _key(name: Name) -> str:
    pins = _RECIPES[name].pins
    if name is Name.SERVICE:
        return entry.key(pins, service_image.ROOT, service_image.SOURCES)
    return entry.key(pins, SOURCES / name, [SOURCES / name])
