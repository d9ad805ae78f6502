"""A folder as a tar archive and back: the same files make the same bytes, and only files and folders come out."""

import gzip
import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from devcluster.errors import DevclusterError


class UnsafeArchive(DevclusterError):
    """An archive that holds something else than files and folders of its own."""


def pack(folder: Path, target: BinaryIO | gzip.GzipFile) -> None:
    """Write every file of `folder`. Owners, times and the order in which files were made leave no trace."""
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(folder.rglob("*")):
            member = tarfile.TarInfo(path.relative_to(folder).as_posix())
            if path.is_dir():
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(member)
                continue
            member.size = path.stat().st_size
            member.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            with path.open("rb") as content:
                archive.addfile(member, content)


def unpack(source: BinaryIO, folder: Path) -> None:
    """Write the files of an archive below `folder`.

    Raises UnsafeArchive for names that lead outside, links, devices and whatever else `pack` does not write, and for
    bytes that are no archive. Files that came before it stay: unpack into a folder that can be thrown away.
    """
    try:
        with tarfile.open(fileobj=source, mode="r:") as archive:
            for member in archive:
                _extract(archive, member, folder)
    except (tarfile.TarError, FileExistsError) as error:
        raise UnsafeArchive(f"not an archive of files: {error}") from None


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise UnsafeArchive(f"{member.name!r} leads out of the archive's folder")
    target = folder / name
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    content = archive.extractfile(member) if member.isreg() else None
    if content is None:
        raise UnsafeArchive(f"{member.name!r} is neither a file nor a folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with content, target.open("xb") as file:
        shutil.copyfileobj(content, file, 1 << 20)
    target.chmod(0o755 if member.mode & 0o100 else 0o644)
