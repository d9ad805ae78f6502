"""Runs buildah without a daemon or special kernel support: files are copied (vfs), processes run in a chroot."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from images import programs


class Buildah:
    """A separate image storage."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def run(self, *arguments: str) -> str:
        places = ["--root", str(self._folder / "storage"), "--runroot", str(self._folder / "run")]
        argv = ["buildah", *places, "--storage-driver", "vfs", *arguments]
        # Its temporary files are removed with the storage too.
        return programs.run(argv, environment={"TMPDIR": str(self._folder)}).strip()

    def load(self, archive: Path) -> None:
        self.run("pull", "--quiet", f"docker-archive:{archive}")

    def build(
        self,
        dockerfile: Path,
        context: Path,
        *,
        tag: str,
        secrets: Mapping[str, Path],
        target: str | None = None,
        stages: Mapping[str, Path] | None = None,
    ) -> None:
        """Build from the storage and `context`, without pulling any image.

        `target`: the stage to stop at. `stages`: folders that hold what these stages would make.
        """
        options = [f"--secret=id={name},src={path}" for name, path in secrets.items()]
        options += [f"--build-context={name}={path}" for name, path in (stages or {}).items()]
        options += [f"--target={target}"] if target else []
        fixed = ["--isolation", "chroot", "--pull-never", "--format", "docker"]
        self.run("build", *fixed, *options, "--file", str(dockerfile), "--tag", tag, str(context))

    def pack(self, root: Path, *, tag: str) -> None:
        """An image of one layer out of a folder."""
        container = self.run("from", "scratch")
        self.run("add", "--quiet", container, str(root), "/")
        self.run("config", "--cmd", "bash", container)
        self.run("commit", "--quiet", "--rm", "--format", "docker", container, tag)

    def copy(self, tag: str, path: str, target: Path) -> None:
        """Copy a folder out of an image."""
        container = self.run("from", "--pull-never", tag)
        shutil.copytree(Path(self.run("mount", container)) / path.lstrip("/"), target, symlinks=True)
        self.run("rm", container)

    def save(self, tag: str, archive: Path) -> None:
        self.run("push", "--quiet", tag, f"docker-archive:{archive}:{tag}")


def authorities() -> Mapping[str, Path]:
    """A build's secret `ca`: the certificate authorities that this machine trusts, for proxies that open TLS."""
    trusted = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))
    return {"ca": trusted} if trusted.exists() else {}


@contextmanager
def storage(parent: Path) -> Iterator[Buildah]:
    """A storage below `parent` that is removed afterwards."""
    folder = parent / "buildah"
    folder.mkdir()
    try:
        yield Buildah(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
