"""Archives of tools: reproducible, and nothing comes out of them that does not belong there."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from devcluster import archive


def packed(folder: Path) -> bytes:
    target = io.BytesIO()
    archive.pack(folder, target)
    return target.getvalue()


def files(folder: Path, names: list[str]) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        path.chmod(0o700 if name.startswith("bin/") else 0o600)
    return folder


def test_the_same_files_make_the_same_bytes(tmp_path: Path) -> None:
    names = ["bin/tool", "stages/node/fast.yaml", "stages/pod.yaml"]
    one, other = files(tmp_path / "one", names), files(tmp_path / "other", names[::-1])
    os.utime(other / "bin" / "tool", (1, 1))
    assert packed(one) == packed(other)


def test_what_was_packed_comes_out_and_programs_can_be_run(tmp_path: Path) -> None:
    names = ["bin/tool", "stages/pod.yaml"]
    content = packed(files(tmp_path / "in", names))
    archive.unpack(io.BytesIO(content), tmp_path / "out")
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in tmp_path.glob("out/*/*")) == names
    assert (tmp_path / "out/bin/tool").read_text() == "bin/tool"
    assert os.access(tmp_path / "out/bin/tool", os.X_OK)
    assert (tmp_path / "out/stages/pod.yaml").stat().st_mode & 0o777 == 0o644


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o6755
    return info


@pytest.mark.parametrize(
    "bad",
    [
        member("../outside"),
        member("bin/../../outside"),
        member("/outside"),
        member("link", tarfile.SYMTYPE, "/etc"),
        member("link", tarfile.LNKTYPE, "bin/tool"),
        member("device", tarfile.CHRTYPE),
        member("disk", tarfile.BLKTYPE),
        member("pipe", tarfile.FIFOTYPE),
        member("bin/tool"),  # a second time
    ],
    ids=lambda bad: f"{bad.name}-{bad.type.decode()}",
)
def test_names_that_lead_outside_links_and_devices_are_refused(tmp_path: Path, bad: tarfile.TarInfo) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as writer:
        writer.addfile(member("bin/tool"))
        writer.addfile(bad)
    content.seek(0)
    folder = tmp_path / "in" / "here"
    with pytest.raises(archive.UnsafeArchive):
        archive.unpack(content, folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "here", "bin", "tool"]


def test_a_program_that_would_run_as_its_owner_loses_that(tmp_path: Path) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as writer:
        writer.addfile(member("tool"))
    content.seek(0)
    archive.unpack(content, tmp_path / "out")
    assert (tmp_path / "out/tool").stat().st_mode & 0o7777 == 0o755


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(archive.UnsafeArchive):
        archive.unpack(io.BytesIO(b"<html>" * 1000), tmp_path)
