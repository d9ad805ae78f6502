"""`key new`, as an operator uses it, and the start with its file."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from service import settings
from service.__main__ import app
from service.domain.api_keys import parse_line
from service.domain.permissions import CallerRole
from service.settings import Settings, SettingsError
from service.wiring.callers import open_callers


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"USER_PODS_{name.upper()}", raising=False)


async def test_the_printed_line_makes_the_printed_key_valid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = CliRunner().invoke(app, ["key", "new", "--name", "ci", "--role", "viewer", "--user", "john@example.com"])
    key, line = made.stdout.splitlines()
    assert key not in made.stderr
    (tmp_path / "keys").write_text(line)
    monkeypatch.setenv("USER_PODS_API_KEYS_FILE", str(tmp_path / "keys"))
    monkeypatch.setenv("USER_PODS_HOST", "0.0.0.0")
    async with open_callers(settings.load()) as callers:
        assert callers is not None
        caller = callers.keys.caller(key)
    assert caller == parse_line(line).caller
    assert caller is not None
    assert (caller.name, caller.role, caller.user_id) == ("ci", CallerRole.VIEWER, "john@example.com")


def test_a_name_that_histories_use_for_others_is_refused() -> None:
    made = CliRunner().invoke(app, ["key", "new", "--name", "queue", "--role", "viewer"])
    assert (made.exit_code, made.stdout) == (2, "")
    assert "histories use them for others" in made.stderr


async def test_a_missing_file_stops_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("USER_PODS_API_KEYS_FILE", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match="API_KEYS_FILE cannot be read: FileNotFoundError"):
        async with open_callers(settings.load()):
            pass


async def test_an_empty_file_lets_nobody_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "keys").touch()
    monkeypatch.setenv("USER_PODS_API_KEYS_FILE", str(tmp_path / "keys"))
    async with open_callers(settings.load()) as callers:
        assert callers is not None
        assert callers.keys.caller("") is None


async def test_without_keys_on_loopback_nobody_needs_one() -> None:
    async with open_callers(settings.load()) as callers:
        assert callers is None
