"""The command lines of this project's modules, for messages that name a command."""

import shlex
import sys
from pathlib import Path


def command(*arguments: str) -> str:
    """A shell line that runs a module: ``command("devcluster", "up")``.

    It names the current interpreter, since another one may lack the packages.
    """
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    return shlex.join([str(python), "-m", *arguments])
