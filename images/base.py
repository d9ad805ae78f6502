"""Debian's slim image, made by debootstrap, for the `FROM` of a Dockerfile on machines without a registry."""

import re
import shutil
from pathlib import Path

from images import buildah, programs

NAME = "docker.io/library/debian:bookworm-slim"
SUITE = "bookworm"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
PROGRAMS = ("buildah", "debootstrap", KEYRING)
RECIPE = 2
"""Increase this with every change to the image's contents: it is part of the cache key."""
_UNWANTED = ("usr/share/doc", "usr/share/info", "usr/share/locale", "usr/share/man")
_EMPTIED = ("var/cache/apt", "var/lib/apt/lists", "var/log")


def make(folder: Path, archive: Path) -> None:
    """Takes about a minute; `folder` is for temporary files."""
    root = folder / "root"
    # In a separate mount namespace, so that its mounts disappear with it however it ends.
    options = ["--variant=minbase", "--force-check-gpg", f"--keyring={KEYRING}"]
    programs.run(["unshare", "--mount", "debootstrap", *options, SUITE, str(root)])
    sources = root / "etc" / "apt" / "sources.list"
    sources.write_text(_with_updates(sources.read_text()))
    _slim(root)
    with buildah.storage(folder) as builder:
        builder.pack(root, tag=NAME)
        builder.save(NAME, archive)
    shutil.rmtree(root)


def _slim(root: Path) -> None:
    """Leave out documentation and translations, now and in later installs, as in the replaced image."""
    excluded = [*(f"path-exclude=/{path}/*" for path in _UNWANTED), "path-include=/usr/share/doc/*/copyright"]
    (root / "etc" / "dpkg" / "dpkg.cfg.d" / "slim").write_text("\n".join([*excluded, ""]))
    (root / "etc" / "apt" / "apt.conf.d" / "slim").write_text('Dir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n')
    for unwanted in (*_UNWANTED, *_EMPTIED):
        for path in (root / unwanted).rglob("*"):
            if not path.is_dir() and path.name != "copyright":
                path.unlink()


def _with_updates(sources: str) -> str:
    """Add the security updates, which debootstrap leaves out and the replaced image has."""
    found = re.search(rf"^deb (\S+?)/? {SUITE} main", sources, re.MULTILINE)
    mirror = found.group(1) if found else ""
    lines = [f"deb {mirror}-security {SUITE}-security main", f"deb {mirror} {SUITE}-updates main"] if mirror else []
    return "\n".join([sources.rstrip(), *lines, ""])
