"""Whether a workspace slept while its user worked (*false*), or stayed awake without them (*missed*).

When an input came and when a pod went to sleep is known only within a moment, which is longer on a busy machine. A
verdict holds whenever within that moment it was; otherwise the row is in doubt.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from stack import tables

LEASE, COOLDOWN, POLL = 10, 15, 1
"""Short, for the run to take minutes. A shorter lease could end before the gateway has reported the last input."""
LIMIT = LEASE + COOLDOWN + POLL + 2.0
"""Seconds after the last input by which a workspace has to sleep. KEDA may take two to reconcile."""
_LIMITS = {"lease": LEASE, "cooldown": COOLDOWN, "poll": POLL, "limit": LIMIT}
BEGIN, END = "<!-- idleness: written by `make bench-idleness` -->", "<!-- idleness: end -->"
_HEAD = ("program", "pattern", "sleeps", "false", "missed", "last input to sleep")


@dataclass(frozen=True)
class Input:
    """A key, a touch, a turn of the wheel or a visit: the page got it between these times (time.monotonic)."""

    began: float
    done: float


@dataclass(frozen=True)
class Sleep:
    """The pod was still wanted at `awake`, and no longer at `asleep` (time.monotonic)."""

    awake: float
    asleep: float


@dataclass
class Seen:
    """What was seen of a workspace: its sleeps, and when it was awake again after one."""

    sleeps: list[Sleep] = field(default_factory=list)
    wakes: list[float] = field(default_factory=list)


@dataclass
class Row:
    """What came of one pattern with one program."""

    program: str
    pattern: str
    sleeps: int = 0
    false: int = 0
    missed: int = 0
    seconds: float | None = None
    """From the last input to the sleep; None when it never came."""
    findings: list[str] = field(default_factory=list)
    """What was false or missed, in words."""
    doubts: list[str] = field(default_factory=list)
    """Why the row says nothing, because the machine was too slow or something else went wrong."""
    pressure: float | None = None
    """The share of the time in which something on this machine waited for a CPU."""

    @property
    def is_good(self) -> bool:
        return not (self.false or self.missed or self.doubts)


def judged(program: str, pattern: str, inputs: Sequence[Input], seen: Seen) -> Row:
    """The row, from what a person did and what was seen of their workspace."""
    row = Row(program, pattern, sleeps=len(seen.sleeps))
    for sleep in seen.sleeps:
        _judge_sleep(row, inputs, sleep)
    last = inputs[-1]
    final = next((sleep for sleep in seen.sleeps if sleep.asleep >= last.done), None)
    if final is None:
        row.missed += 1
        row.findings.append("never asleep after the last input")
        return row
    row.seconds = round(final.asleep - last.done, 1)
    if final.awake - last.done > LIMIT:
        row.missed += 1
        row.findings.append(f"awake {final.awake - last.done:.1f} s after the last input")
    elif final.asleep - last.began > LIMIT:
        row.doubts.append(f"asleep between {final.awake - last.done:.1f} and {final.asleep - last.began:.1f} s")
    for wake in seen.wakes:
        if wake > final.asleep:
            row.missed += 1
            row.findings.append(f"awake again {wake - final.asleep:.1f} s after the sleep, without an input")
    return row


def _judge_sleep(row: Row, inputs: Sequence[Input], sleep: Sleep) -> None:
    """Add to the row what a sleep was to the last input before it."""
    surely = [each for each in inputs if each.done <= sleep.awake]
    maybe = [each for each in inputs if each.began <= sleep.asleep]
    longest = sleep.asleep - surely[-1].began if surely else float("inf")
    shortest = max(0.0, sleep.awake - maybe[-1].done) if maybe else float("inf")
    if longest < COOLDOWN:
        row.false += 1
        row.findings.append(f"asleep {longest:.1f} s after an input")
    elif shortest < COOLDOWN:
        row.doubts.append(f"asleep between {shortest:.1f} and {longest:.1f} s after an input")


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    return tables.markdown(_HEAD, map(_cells, rows), numbers_from=2)


def write(document: Path, rows: Sequence[Row]) -> None:
    """Put the table between the document's markers. Raises ValueError where there are none."""
    tables.replace(document, BEGIN, END, table(rows))


def _cells(row: Row) -> tuple[object, ...]:
    seconds = "never" if row.seconds is None else f"{row.seconds:.1f} s"
    return row.program, row.pattern, row.sleeps, row.false, row.missed, seconds


class Results:
    """The rows of this run, and of earlier ones with the same limits, as JSON; saved after each row.

    So rows can be measured anew, and a run that is broken off keeps what it has. `keys`: all programs and patterns.
    """

    def __init__(self, path: Path, keys: Sequence[tuple[str, str]]) -> None:
        self._path = path
        self._keys = keys
        self._rows = {(row.program, row.pattern): row for row in _read(path)}

    @property
    def rows(self) -> list[Row]:
        return [self._rows[key] for key in self._keys if key in self._rows]

    @property
    def is_complete(self) -> bool:
        return len(self.rows) == len(self._keys)

    def add(self, row: Row) -> None:
        self._rows[row.program, row.pattern] = row
        self._path.parent.mkdir(parents=True, exist_ok=True)
        plain = {"facts": _LIMITS, "rows": [asdict(row) for row in self.rows]}
        self._path.write_text(json.dumps(plain, indent=1) + "\n")


def _read(path: Path) -> list[Row]:
    found = json.loads(path.read_text()) if path.exists() else {"facts": {}}
    return [Row(**row) for row in found["rows"]] if found["facts"] == _LIMITS else []
