"""The file with the services that somebody has signed in to. Only its owner can read it."""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from user_pods_client.cli import private_file
from user_pods_client.cli.exits import BadContexts
from user_pods_client.cli.text import is_utf8


@dataclass(frozen=True)
class Context:
    """Where a service is, and the key for it."""

    name: str
    url: str
    token: str | None = field(default=None, repr=False)
    signed_out: bool = False
    """Whether its key was forgotten on request. Otherwise one without a key belongs to a service that has none."""


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
            known = f"only {', '.join(sorted(self.by_name))}" if self.by_name else "nor any other"
            raise BadContexts(f"there is no context {name}, {known}; `user-pods login URL` makes one")
        return self.by_name[name]

    def delete(self, name: str) -> None:
        del self.by_name[self.find(name).name]
        self.current = None if self.current == name else self.current


def path() -> Path:
    """Below XDG_CONFIG_HOME, by default ~/.config. Raises BadContexts without a home directory."""
    return private_file.folder("XDG_CONFIG_HOME", ".config") / "contexts.json"


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
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadContexts(f"{file} cannot be read; remove it, and sign in again with `user-pods login`") from None


def beginning(incomplete: str) -> list[str]:
    """Names that begin so, for the shell's completion: none from a file that cannot be used."""
    try:
        return [name for name in read().by_name if name.startswith(incomplete)]
    except BadContexts:
        return []


@contextmanager
def changing() -> Iterator[Contexts]:
    """The contexts, to change them. They are written at the end; nobody else changes them meanwhile."""
    file = path()
    try:
        with private_file.locked(file):
            known = read()
            before = _document(known)
            yield known
            if (after := _document(known)) != before:
                private_file.replace(file, json.dumps(after, indent=2))
    except OSError as error:
        raise BadContexts(f"{file} cannot be written: {error.strerror}") from None


def _document(contexts: Contexts) -> dict[str, Any]:
    return {
        "current": contexts.current,
        "contexts": {each.name: _entry(each) for each in contexts.by_name.values()},
    }


def _entry(context: Context) -> dict[str, Any]:
    entry = {"url": context.url, "token": context.token}
    return {**entry, "signed_out": True} if context.signed_out else entry


def _contexts(document: Any) -> Contexts:
    """Raises ValueError, among others, for what `_document` does not make."""
    listed = {}
    for name, each in document["contexts"].items():
        url, token = each["url"], each.get("token")
        if not all(isinstance(text, str) and is_utf8(text) for text in (name, url, "" if token is None else token)):
            raise ValueError("a context has something else than texts")
        listed[name] = Context(name, url, token, each.get("signed_out") is True)
    current = document.get("current")
    return Contexts(current if current in listed else None, listed)
