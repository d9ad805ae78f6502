"""Debian's slim image, made by debootstrap where no registry can be asked: what `FROM` in a Dockerfile then finds."""

import re
import shutil
from pathlib import Path

from images import buildah, programs

NAME = "docker.io/library/debian:bookworm-slim"
SUITE = "bookworm"
PROGRAMS = ("buildah", "debootstrap")
RECIPE = 1
"""Raise it with every change of what is made here: it is a part of the key in the cache."""


def make(folder: Path, archive: Path) -> None:
    """About a minute; `folder` is for what is needed meanwhile."""
    root = folder / "root"
    programs.run(["debootstrap", "--variant=minbase", SUITE, str(root)])
    sources = root / "etc" / "apt" / "sources.list"
    sources.write_text(_with_updates(sources.read_text()))
    for leftover in ("var/cache/apt/archives", "var/lib/apt/lists", "var/log"):
        for path in (root / leftover).rglob("*"):
            if path.is_file():
                path.unlink()
    with buildah.storage(folder) as builder:
        builder.pack(root, tag=NAME)
        builder.save(NAME, archive)
    shutil.rmtree(root)


def _with_updates(sources: str) -> str:
    """The image that it stands for takes security updates; debootstrap leaves them out."""
    found = re.search(rf"^deb (\S+?)/? {SUITE} main", sources, re.MULTILINE)
    mirror = found.group(1) if found else ""
    lines = [f"deb {mirror}-security {SUITE}-security main", f"deb {mirror} {SUITE}-updates main"] if mirror else []
    return "\n".join([sources.rstrip(), *lines, ""])
