"""Which ports clusters get."""

from pathlib import Path

import pytest

from devcluster import ports


def test_no_port_is_given_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_RANGE", range(20_000, 20_060))
    names = [f"part-{number}" for number in range(8)]
    given: set[int] = set()
    for number in range(4):
        state = tmp_path / str(number)
        state.mkdir()
        given |= set(ports.allocate(state, names, tmp_path / "registry").values())
        assert len(given) == (number + 1) * len(names)
        assert set(ports.allocate(state, names, tmp_path / "registry").values()) <= given, "the same again"
