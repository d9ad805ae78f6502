"""The file with the services that somebody has signed in to. Only its owner can read it."""

import json
import os
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from user_pods_client.cli.exits import BadContexts

FOLDER = "user-pods"


@dataclass(frozen=True)
class Context:
    """Where a service is, and the key for it."""

    name: str
    url: str
    token: str | None = field(default=None, repr=False)


@dataclass
class Contexts:
    """All contexts by name; `current` is the one in use."""

    current: str | None = None
    by_name: dict[str, Context] = field(default_factory=dict)

    def put(self, context: Context) -> None:
        """Add or replace it, and use it."""
        self.by_name[context.name] = context
        self.current = context.name

    def find(self, name: str) -> Context:
        """Raises BadContexts if there is none of this name."""
        if name not in self.by_name:
            known = f"there are {', '.join(sorted(self.by_name))}" if self.by_name else "there is none at all"
            raise BadContexts(f"there is no context {name}; {known}")
        return self.by_name[name]

    def delete(self, name: str) -> None:
        del self.by_name[self.find(name).name]
        self.current = None if self.current == name else self.current


def path() -> Path:
    """Below XDG_CONFIG_HOME, by default ~/.config."""
    base = os.environ.get("XDG_CONFIG_HOME") or ""
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".config") / FOLDER / "contexts.json"


def read() -> Contexts:
    """Raises BadContexts for a file that is not one, or that others can read."""
    file = path()
    try:
        with file.open() as opened:
            if stat.S_IMODE(os.fstat(opened.fileno()).st_mode) & 0o077:
                raise BadContexts(f"others can read the keys in {file}; take that right away with `chmod 600 {file}`")
            return _contexts(json.load(opened))
    except FileNotFoundError:
        return Contexts()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise BadContexts(f"{file} cannot be read; remove it, and sign in again with `user-pods login`") from None


def write(contexts: Contexts) -> None:
    """Replaces the file at once, readable by its owner only."""
    file = path()
    document = {
        "current": contexts.current,
        "contexts": {each.name: {"url": each.url, "token": each.token} for each in contexts.by_name.values()},
    }
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=".contexts-")  # made with the mode 0600
        with os.fdopen(handle, "w") as opened:
            json.dump(document, opened, indent=2)
        Path(name).replace(file)
    except OSError as error:
        raise BadContexts(f"{file} cannot be written: {error.strerror}") from None


def _contexts(document: Any) -> Contexts:
    listed = {name: Context(name, str(each["url"]), each.get("token")) for name, each in document["contexts"].items()}
    current = document.get("current")
    return Contexts(current if current in listed else None, listed)
