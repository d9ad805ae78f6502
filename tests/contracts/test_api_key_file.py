"""What the domain relies on in the file of API keys: in memory, and a file that is exchanged as Kubernetes does."""

from collections.abc import Callable
from pathlib import Path

import pytest

from service.adapters.files.api_keys import MountedApiKeys
from service.domain.api_keys import ApiKeyFile, ApiKeysUnreadable
from tests.fakes import MemoryApiKeyFile

Write = Callable[[str | None], None]


@pytest.fixture(params=["memory", "mounted"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[ApiKeyFile, Write]:
    """The file, and a function that replaces its content; None removes it."""
    if request.param == "memory":
        memory = MemoryApiKeyFile(None)
        return memory, lambda text: setattr(memory, "text", text)
    versions = iter(range(100))

    def write(text: str | None) -> None:
        data = tmp_path / f"..{next(versions)}"
        data.mkdir()
        if text is not None:
            (data / "keys").write_text(text)
        (tmp_path / "..tmp").symlink_to(data)
        (tmp_path / "..tmp").rename(tmp_path / "..data")

    (tmp_path / "keys").symlink_to(tmp_path / "..data" / "keys")
    return MountedApiKeys(tmp_path / "keys"), write


async def test_each_read_has_the_present_lines(place: tuple[ApiKeyFile, Write]) -> None:
    file, write = place
    for text in ("one\n", "one\ntwo\n", ""):
        write(text)
        assert await file.read() == text


async def test_a_missing_file_is_unreadable(place: tuple[ApiKeyFile, Write]) -> None:
    file, write = place
    with pytest.raises(ApiKeysUnreadable, match="FileNotFoundError"):
        await file.read()
    write("back\n")
    assert await file.read() == "back\n"
    write(None)
    with pytest.raises(ApiKeysUnreadable):
        await file.read()


@pytest.mark.parametrize(("content", "why"), [(b"\xff", "UnicodeDecodeError"), (b"x" * (2**20 + 1), "1,048,576 bytes")])
async def test_what_cannot_be_lines_of_keys_is_unreadable(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(ApiKeysUnreadable, match=why):
        await MountedApiKeys(tmp_path / "keys").read()
