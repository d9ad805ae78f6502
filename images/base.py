"""Stand-ins for the images that a Dockerfile's `FROM` names, on machines without a registry.

Debian's slim image is made by debootstrap; Go's is that image with the Go that compiles the tools.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

from devcluster import golang
from devcluster.toolchain import Report
from images import buildah, entry, programs

GO = "docker.io/library/golang:1.26-bookworm"
NAME = "docker.io/library/debian:bookworm-slim"
SUITE = "bookworm"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
PROGRAMS = ("buildah", "debootstrap", KEYRING)
RECIPE = 2
"""Increase this with every change to the image's contents: it is part of the cache key."""
_UNWANTED = ("usr/share/doc", "usr/share/info", "usr/share/locale", "usr/share/man")
_EMPTIED = ("var/cache/apt", "var/lib/apt/lists", "var/log")


def debian(cache: Path, report: Report) -> Path:
    """The archive of Debian's image."""
    return _archive(cache, SUITE, NAME, report, _bootstrap)


def go(cache: Path, report: Report) -> Path:
    """The archive of Go's image: `go` on PATH."""
    beneath, program = debian(cache, report), golang.find(cache)

    def make(folder: Path, made: Path) -> None:
        root = subprocess.run([program, "env", "GOROOT"], capture_output=True, text=True, check=True).stdout.strip()
        shutil.copytree(root, folder / "go", symlinks=True)
        path = "/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        _layer(beneath, folder, made, GO, f"COPY go /usr/local/go\nENV PATH={path}")

    return _archive(cache, "go", GO, report, make)


def _archive(cache: Path, name: str, what: str, report: Report, make: entry.Make) -> Path:
    folder = cache / "images" / f"base-{name}-{os.uname().machine}-{RECIPE}"
    return entry.ensure(folder, f"the base {what}", minutes=1, report=report, make=make) / "image.tar"


def _layer(beneath: Path, folder: Path, made: Path, tag: str, lines: str) -> None:
    """The image `beneath`, with the Dockerfile's `lines` applied."""
    dockerfile = folder / "Dockerfile"
    dockerfile.write_text(f"FROM {NAME}\n{lines}\n")
    with buildah.storage(folder) as builder:
        builder.load(beneath)
        builder.build(dockerfile, folder, tag=tag, secrets={})
        builder.save(tag, made / "image.tar")


def _bootstrap(folder: Path, made: Path) -> None:
    root = folder / "root"
    # In a separate mount namespace, so that its mounts disappear with it however it ends.
    options = ["--variant=minbase", "--force-check-gpg", f"--keyring={KEYRING}"]
    programs.run(["unshare", "--mount", "debootstrap", *options, SUITE, str(root)])
    sources = root / "etc" / "apt" / "sources.list"
    sources.write_text(_with_updates(sources.read_text()))
    _slim(root)
    with buildah.storage(folder) as builder:
        builder.pack(root, tag=NAME)
        builder.save(NAME, made / "image.tar")
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
