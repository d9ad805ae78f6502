"""Prints what the service answered: as a table for people, as JSON, YAML or names for scripts."""

import enum
import importlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import typer

from user_pods_client.cli.text import lines, printable
from user_pods_client.decoding import to_json
from user_pods_client.errors import NoAnswer, ServiceProblem

T = TypeVar("T")
Row = Sequence[str]


class Format(enum.StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


Output = Annotated[Format, typer.Option("--output", "-o", help="`name` prints ids only.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Print again whenever something changes, until Ctrl-C.")]
_NOTHING = "-"
_GAP, _NARROW_GAP = 3, 2
"""Spaces between two columns, and where there is not enough room."""
_NARROWEST = 6
_IDS = frozenset({"ID", "SESSION", "REQUEST"})
"""Columns that are copied, and so never shortened."""
_PAUSE = 2.0
"""Seconds between two looks."""
_SHARE = 5
"""How much longer than a look itself takes the pause after it is at least."""
_TRANSIENT = frozenset({429, 500, 502, 503, 504})


def rendered(document: Any, format_: Format, *, table: Callable[[], str], names: Callable[[], Sequence[str]]) -> str:
    """The document in this format, without control characters. `table` and `names` are only called for their own."""
    if format_ is Format.TABLE:
        return lines(table())
    if format_ is Format.NAME:
        return "\n".join(map(printable, names()))
    plain = to_json(document)
    return json.dumps(plain, indent=2) if format_ is Format.JSON else _yaml(plain)


def columns(heads: Row, rows: Sequence[Row], none: str = "") -> str:
    """A table whose columns are as wide as they need to be, so that it can be cut into fields; `none` without rows.

    On a terminal that is too narrow for it, columns that say nothing are left out, and the widest ones are shortened.
    """
    table = [[*heads], *([printable(cell) or _NOTHING for cell in row] for row in rows)]
    if none and not rows:
        return none
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    if room is None or _width(table, _GAP) <= room:
        return _aligned(table, _widths(table), _GAP)
    said = [number for number, column in enumerate(zip(*table, strict=True)) if {*column[1:]} != {_NOTHING}]
    table = [[line[number] for number in said] for line in table]
    widths = _narrowed(table[0], _widths(table), room - _NARROW_GAP * (len(said) - 1))
    return _aligned(table, widths, _NARROW_GAP)


def _widths(lines: Sequence[Row]) -> list[int]:
    return [max(map(len, column)) for column in zip(*lines, strict=True)]


def _width(lines: Sequence[Row], gap: int) -> int:
    return sum(_widths(lines)) + gap * (len(lines[0]) - 1)


def _narrowed(heads: Row, widths: Sequence[int], room: int) -> Sequence[int]:
    """The widths without what does not fit, taken from the widest columns."""
    found = [*widths]
    others = [number for number, head in enumerate(heads) if head not in _IDS]
    while sum(found) > room:
        widest = max(others, key=found.__getitem__)
        if found[widest] <= _NARROWEST:
            break
        found[widest] -= 1
    return found


def _aligned(lines: Sequence[Row], widths: Sequence[int], gap: int) -> str:
    return "\n".join(
        (" " * gap).join(_cut(cell, width).ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else f"{cell[: width - 1]}\N{HORIZONTAL ELLIPSIS}"


def fields(pairs: Sequence[tuple[str, str]]) -> str:
    """One line per name and value; those without a value are left out."""
    width = max((len(name) for name, value in pairs if value), default=0)
    return "\n".join(f"{name.ljust(width)}   {printable(value)}" for name, value in pairs if value)


def show(text: str) -> None:
    if text:
        typer.echo(text)


def say(text: str, *, err: bool = False) -> None:
    """Print a sentence, in which words of the service may be."""
    typer.echo(lines(text), err=err)


Drawing = Callable[[datetime], str]
"""What a look has found, as text. It says of times how long ago they are at that moment."""


def watch(look: Callable[[], Drawing], *, again: bool, pause: float = _PAUSE) -> None:
    """Show it once, or again whenever it has changed, with at least `pause` seconds between two looks.

    That time has passed is no change, though a terminal shows it. A service that is away for a moment ends no watch.
    """
    began = time.monotonic()
    last, shown_at = look(), datetime.now(UTC)
    shown = last(shown_at)
    show(shown)
    while again:
        # A look at thousands of sessions takes a while, and must not keep the service busy.
        time.sleep(max(pause, _SHARE * (time.monotonic() - began)))
        began = time.monotonic()
        drawing = looked(look)
        if drawing is None:
            continue
        now, terminal = datetime.now(UTC), sys.stdout.isatty()
        text = drawing(now)
        if text != shown and (terminal or drawing(shown_at) != last(shown_at)):
            show(("\033[H\033[2J" if terminal else "\n") + text)
            last, shown, shown_at = drawing, text, now


def looked(read: Callable[[], T]) -> T | None:
    """What `read` returns; None, and a remark, when the service is away for a moment."""
    try:
        return read()
    except (NoAnswer, ServiceProblem) as error:
        if isinstance(error, ServiceProblem) and error.status not in _TRANSIENT:
            raise
        typer.echo(f"user-pods: {printable(str(error))}; trying again", err=True)
        return None


def _yaml(plain: Any) -> str:
    """Strings that some readers would take for numbers are quoted: an id may look like 1e234567."""
    yaml = importlib.import_module("yaml")  # only who asks for YAML waits for it

    class Dumper(yaml.SafeDumper):  # type: ignore[misc, name-defined]
        pass

    def text(dumper: Any, value: str) -> Any:
        style = '"' if value[:1] in "+-.0123456789" else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    return str(yaml.dump(plain, Dumper=Dumper, sort_keys=False, allow_unicode=True)).rstrip("\n")
