"""Entity tags of documents to which the companion's script has been added.

Such a document is not the one that the pod's tag stands for. So it gets a tag of its own, from which the pod's can be
told.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_TAG = re.compile(r'(W/)?"([^"]*)"')
_MARK = re.compile(r"(.*)-companion-([0-9a-f]+)(-weak)?")


class Condition(NamedTuple):
    """An `If-None-Match` for the pod."""

    value: str
    """Empty: none of the documents that the browser has is of use."""
    marked: dict[str, str]
    """What each of the pod's tags was when it was marked, by the tag without `W/`."""


class EntityTags:
    """`version` (hexadecimal digits) names the script. With another one, it is another document."""

    def __init__(self, version: str) -> None:
        self._version = version

    def mark(self, tag: str, *, weak: bool) -> str | None:
        """The document's tag, from the pod's; None when that is malformed. `weak`: bytes may differ each time."""
        found = _TAG.fullmatch(tag.strip())
        if found is None:
            return None
        was_weak = bool(found[1])
        mark = f"-companion-{self._version}{'-weak' if was_weak else ''}"
        return f'{"W/" if weak or was_weak else ""}"{found[2]}{mark}"'

    def to_revalidate(self, lines: Iterable[str]) -> Condition | None:
        """What the pod gets for the browser's `If-None-Match`; None if no tag is marked, so that nothing changes."""
        tags = list(_parsed(lines))
        if all(version is None for _, _, version in tags):
            return None
        value = ", ".join(own for _, own, version in tags if version in (None, self._version))
        return Condition(value, {plain(own): tag for tag, own, version in tags if version == self._version})


def to_change(lines: Iterable[str]) -> str | None:
    """What the pod gets for the browser's `If-Match`: a change is of the pod's document, whatever was added to it.

    None if no tag is marked, so that nothing changes.
    """
    tags = list(_parsed(lines))
    return ", ".join(own for _, own, _ in tags) if any(version for _, _, version in tags) else None


def plain(tag: str) -> str:
    return tag.strip().removeprefix("W/")


def _parsed(lines: Iterable[str]) -> Iterator[tuple[str, str, str | None]]:
    """Each tag, the pod's own one, and the version that marks it."""
    for line in lines:
        for found in _TAG.finditer(line):
            mark = _MARK.fullmatch(found[2])
            own = f'{"W/" if mark[3] else ""}"{mark[1]}"' if mark else found[0]
            yield found[0], own, mark[2] if mark else None
