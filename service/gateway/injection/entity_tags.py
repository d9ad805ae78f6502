"""Entity tags of pages, which say what the companion's script was added to.

A page with the script is not the one that the pod's tag stands for. So its tag is marked, and the pod's can be told
from it. A page that cannot have the script is marked too. So a copy without a mark is one that a browser got before
there was a companion, or in a frame, or for a script: it must not be shown as a page.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_TAG = re.compile(r'(W/)?"([^"]*)"')
_MARK = re.compile(r"(.*)-companion-([0-9a-f]+)(-bare)?(-weak|-untagged)?")


class Copy(NamedTuple):
    """A page that a browser has."""

    tag: str
    """The tag by which the browser knows it."""
    own: str
    """The pod's tag; empty if it gave none."""
    bare: bool
    """It has no companion, which its browser has to remember."""


class EntityTags:
    """`version` (hexadecimal digits) names the script. With another one, it is another document."""

    def __init__(self, version: str) -> None:
        self._version = version

    def mark(self, tag: str, *, weak: bool = False, bare: bool = False) -> str | None:
        """The page's tag, from the pod's; None when that is malformed. `weak`: bytes may differ each time.

        Empty: the pod gave none, but the page can be revalidated by its date.
        """
        found = _TAG.fullmatch(tag.strip() or 'W/""')
        if found is None:
            return None
        was = ("-weak" if tag else "-untagged") if found[1] else ""
        mark = f"{found[2]}-companion-{self._version}{'-bare' if bare else ''}{was}"
        return f'{"W/" if weak or was else ""}"{mark}"'

    def copies(self, lines: Iterable[str]) -> list[Copy]:
        """Those in an `If-None-Match` that this version has marked."""
        return [
            Copy(tag, "" if mark[4] == "-untagged" else _own(mark), bool(mark[3]))
            for tag, mark in _parsed(lines)
            if mark is not None and mark[2] == self._version
        ]


def to_change(lines: Iterable[str]) -> str | None:
    """What the pod gets for the browser's `If-Match`: a change is of the pod's page, whatever was added to it.

    None if no tag is marked, so that nothing changes.
    """
    tags = list(_parsed(lines))
    return ", ".join(_own(mark) if mark else tag for tag, mark in tags) if any(mark for _, mark in tags) else None


def plain(tag: str) -> str:
    return tag.strip().removeprefix("W/")


def _own(mark: "re.Match[str]") -> str:
    return f'{"W/" if mark[4] else ""}"{mark[1]}"'


def _parsed(lines: Iterable[str]) -> Iterator[tuple[str, "re.Match[str] | None"]]:
    """Each tag, and its mark."""
    for line in lines:
        for found in _TAG.finditer(line):
            yield found[0], _MARK.fullmatch(found[2])
