"""Compiled tools from a registry, so that few people have to compile them.

`tools/published.json` has the digest of each tool's archive, per platform. A build depends on its pins and on Go's
version only, so whoever compiles a tool gets the same digest: the file is reviewed, and the registry needs no trust.
Nothing of an archive is unpacked before its digest is found to be right.
"""

import gzip
import hashlib
import json
import os
import platform as machine
import tempfile
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from devcluster import archive
from devcluster.errors import DevclusterError
from devcluster.registry import Registry, RegistryFailed, RegistryUnreachable

SETTING = "DEVCLUSTER_REGISTRY"
"""Variable that names another registry, as host/path, or `none`."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class NotPublished(DevclusterError):
    """There is no archive that may be used; the message says why."""


@dataclass(frozen=True)
class Archive:
    """The tar archive of a tool: its SHA-256 and its size in bytes, before compression."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Publication:
    """What `published.json` says."""

    registry: str
    go: str
    """Version of the Go that compiled the archives, for example ``1.26.8``."""
    tools: dict[str, dict[str, Archive]]
    """Name and key of a tool, as in the cache -> platform -> archive."""


def platform() -> str:
    """This machine's, as in images: ``linux/amd64``."""
    name = machine.machine()
    return f"linux/{_ARCHITECTURES.get(name, name)}"


def tag(entry: str, platform_: str) -> str:
    return f"{entry}-{platform_.replace('/', '-')}"


def load(path: Path) -> Publication:
    text = json.loads(path.read_text())
    tools = {
        entry: {platform_: Archive(**archive_) for platform_, archive_ in platforms.items()}
        for entry, platforms in text["tools"].items()
    }
    return Publication(text["registry"], text["go"], tools)


class Downloads:
    """Fetches archives of a publication into a folder for what is half downloaded."""

    def __init__(self, publication: Publication, registry: Registry, folder: Path) -> None:
        self._publication = publication
        self._registry = registry
        self._folder = folder
        self._lock = threading.Lock()
        self._unreachable: NotPublished | None = None

    @property
    def address(self) -> str:
        return self._registry.address

    def expected(self, entry: str) -> Archive | None:
        return self._publication.tools.get(entry, {}).get(platform())

    def fetch(self, entry: str, target: Path) -> None:
        """Write a tool's files below `target`.

        Raises NotPublished, after which `target` may hold some of the files. A registry that does not answer is asked
        only once.
        """
        expected = self.expected(entry)
        if expected is None:
            raise NotPublished(f"not published for {platform()}")
        try:
            layer = self._layer(entry)
            self._fetch(entry, layer, expected, target)
        except (RegistryFailed, archive.UnsafeArchive, OSError) as error:  # OSError: no space left
            raise NotPublished(str(error)) from None

    def close(self) -> None:
        """End what other threads fetch."""
        self._registry.close()

    def _layer(self, entry: str) -> str:
        """The digest of the archive as the registry has it."""
        with self._lock:  # the first one finds out whether anybody answers
            if self._unreachable:
                raise self._unreachable
            try:
                layer = self._registry.layer(tag(entry, platform()))
            except RegistryUnreachable as error:
                self._unreachable = NotPublished(str(error))
                raise self._unreachable from None
        if layer is None:
            raise NotPublished(f"{self.address} does not have it")
        return layer

    def _fetch(self, entry: str, layer: str, expected: Archive, target: Path) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        compressed = self._folder / f"{entry}.{layer.removeprefix('sha256:')}.part"
        self._registry.download(layer, compressed, _most_compressed(expected.bytes))
        try:
            with tempfile.TemporaryFile(dir=self._folder) as content:
                _check(entry, _decompress(compressed, content, expected.bytes), expected)
                content.seek(0)
                archive.unpack(content, target)
        finally:
            compressed.unlink(missing_ok=True)


def _most_compressed(size: int) -> int:
    """The most that gzip makes of so many bytes: what does not compress gets 5 bytes more per block."""
    return size + size // 1000 + 4096


def _decompress(source: Path, target: BinaryIO, limit: int) -> str:
    """Write at most `limit` bytes and one more, and return their SHA-256."""
    digest = hashlib.sha256()
    left = limit + 1
    try:
        with gzip.open(source) as file:
            while chunk := file.read(min(left, 1 << 20)):
                digest.update(chunk)
                target.write(chunk)
                left -= len(chunk)
    except (OSError, EOFError, zlib.error):
        return "broken"
    return digest.hexdigest()


def _check(entry: str, found: str, expected: Archive) -> None:
    if found != expected.sha256:
        raise NotPublished(
            f"REFUSED: the registry's archive of {entry} has the SHA-256 {found}, and published.json of this "
            f"repository wants {expected.sha256}. Nothing of it was used"
        )


def downloads(path: Path, folder: Path, chosen: Callable[[str], str | None] = os.environ.get) -> Downloads | None:
    """What `DEVCLUSTER_REGISTRY` or `published.json` say; None without a registry."""
    address = chosen(SETTING)
    if address == "none" or not path.exists():
        return None
    publication = load(path)
    return Downloads(publication, Registry(address or publication.registry), folder)
