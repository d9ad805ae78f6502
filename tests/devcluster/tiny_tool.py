"""A tool of one tiny Go module, which compiles in a second."""

from collections.abc import Mapping
from pathlib import Path

from devcluster.toolchain import Tool

MODULE = "example.invalid/tiny"
TOOLS: Mapping[str, Tool] = {"tiny": Tool(module=MODULE, packages={"tiny": ""})}


def write_sources(folder: Path) -> Path:
    """A folder of tools with one tool, which is its own main package."""
    tool = folder / "tiny"
    tool.mkdir(parents=True)
    require = f"require {MODULE} v1.2.3\nreplace {MODULE} v1.2.3 => ./module\n"
    (tool / "go.mod").write_text(f"module example.invalid/tools\n\ngo 1.26\n\n{require}\ntool {MODULE}\n")
    (tool / "go.sum").write_text("")
    inner = tool / "module"
    inner.mkdir()
    (inner / "go.mod").write_text(f"module {MODULE}\n\ngo 1.26\n")
    (inner / "main.go").write_text('package main\n\nfunc main() { println("tiny") }\n')
    return folder
