"""For maintainers: write the digests of compiled tools into `published.json`, and push the tools to a registry."""

import gzip
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from devcluster import archive, golang, published, toolchain
from devcluster.errors import DevclusterError
from devcluster.published import Archive, Publication
from devcluster.registry import Registry
from devcluster.toolchain import Report, Tool

USER, PASSWORD = "DEVCLUSTER_REGISTRY_USER", "DEVCLUSTER_REGISTRY_PASSWORD"
"""Variables with the login of a push."""


class Publisher:
    """Compiles every tool of a running cluster for one platform, and never fetches one."""

    def __init__(
        self,
        platform: str = "",
        *,
        tools: Mapping[str, Tool] | None = None,
        sources: Path = toolchain.SOURCES,
        cache: Path | None = None,
        report: Report = toolchain.say,
    ) -> None:
        self._platform = platform or published.platform()
        self._tools = tools or {**toolchain.CLUSTER, **toolchain.NODE}
        self._sources = sources
        self._cache = cache or cache_of(self._platform)
        self._report = report
        self._file = sources / toolchain.PUBLISHED

    def lock(self) -> Publication:
        """Write the digests of this platform, and forget those of other pins."""
        before = published.load(self._file)
        go = self._go()
        same = before.go == go
        tools = {}
        for entry, folder in self._compiled().items():
            known = before.tools.get(entry, {}) if same else {}
            tools[entry] = dict(sorted({**known, self._platform: _measure(folder)}.items()))
        text = {
            "registry": before.registry,
            "go": go,
            "tools": {
                entry: {platform: asdict(found) for platform, found in platforms.items()}
                for entry, platforms in sorted(tools.items())
            },
        }
        self._file.write_text(json.dumps(text, indent=2) + "\n")
        return published.load(self._file)

    def push(self, registry: Registry) -> list[str]:
        """Push every tool, and return the references of their manifests.

        Raises DevclusterError if one was not compiled to what `published.json` says: users would refuse it.
        """
        publication = published.load(self._file)
        if publication.go != self._go():
            raise DevclusterError(
                f"{self._file} was written with Go {publication.go}, this is {self._go()}: take that one"
            )
        compiled = self._compiled()
        wrong = {
            entry: found
            for entry, folder in compiled.items()
            if (found := _measure(folder)) != publication.tools.get(entry, {}).get(self._platform)
        }
        if wrong:
            lines = "\n".join(f"  {entry}: {json.dumps(asdict(found))}" for entry, found in wrong.items())
            raise DevclusterError(
                f"{self._file} has other digests for {self._platform}. Nothing was pushed. Compiled here:\n{lines}\n"
                "If the pins changed, run `lock-tools` and commit the file. If not, the build is not reproducible"
            )
        return [self._push(registry, entry, folder) for entry, folder in compiled.items()]

    def _push(self, registry: Registry, entry: str, folder: Path) -> str:
        with tempfile.TemporaryDirectory() as place:
            compressed = Path(place) / "archive.tar.gz"
            with (
                compressed.open("wb") as file,
                gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6, filename="", mtime=0) as packed,
            ):
                archive.pack(folder, packed)
            annotations = {"org.opencontainers.image.title": entry, "org.opencontainers.image.licenses": "Apache-2.0"}
            digest = registry.push(published.tag(entry, self._platform), compressed, annotations)
        self._report(f"  {entry}: pushed for {self._platform}")
        return f"{registry.address}@{digest}"

    def _compiled(self) -> dict[str, Path]:
        tools = toolchain.ensure(
            self._tools, report=self._report, cache=self._cache, sources=self._sources, fetch=False,
            platform=self._platform,
        )  # fmt: skip
        return {folder.name: folder for folder in tools.entries.values()}

    def _go(self) -> str:
        self._cache.mkdir(parents=True, exist_ok=True)
        return ".".join(map(str, golang.version(golang.find(self._cache))))


def credentials() -> tuple[str, str] | None:
    """From the environment, so that no password is in an argument."""
    user, password = os.environ.get(USER, ""), os.environ.get(PASSWORD, "")
    return (user, password) if password else None


def cache_of(platform: str) -> Path:
    """Of what is compiled for a platform; programs of another one must not be started."""
    if platform == published.platform():
        return toolchain.cache_folder()
    return toolchain.cache_folder() / "platforms" / platform.replace("/", "-")


def _measure(folder: Path) -> Archive:
    with tempfile.TemporaryFile() as file:
        archive.pack(folder, file)
        size = file.tell()
        file.seek(0)
        return Archive(hashlib.file_digest(file, "sha256").hexdigest(), size)
