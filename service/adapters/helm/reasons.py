"""Why helm has failed, for operators."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_LIMIT = 400
_VALUE = re.compile(
    r"""\b(Invalid|Unsupported|Duplicate) value: (?:"(?:\\.|[^"\\])*"|[{\[].*[}\]]|[^:\s]+)(?:: )?""", re.IGNORECASE
)
"""The words of the API server about a value that it repeats."""


_CONFLICT = re.compile(r"applying object \S*?/?([^/\s]+) (\S+), Kind=(\w+): Apply failed with \d+ conflicts?: ")
_MANAGER = re.compile(r"^conflicts? with \"([^\"]+)\"[^:]*:\s*(.*)$")
_FIELDS = 5
"""Fields that a reason names, of each manager."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """What somebody else than helm has set."""

    manager: str
    label: str
    """For example `deployment/user-abc123xy`."""
    fields: tuple[str, ...]

    def __str__(self) -> str:
        """In words, without the values."""
        left = len(self.fields) - _FIELDS
        shown = ", ".join(self.fields[:_FIELDS]) + (f" and {left} more" if left > 0 else "")
        return f"{self.manager} has set {shown} of {self.label}"


def conflicts_of(error: BaseException | None) -> Sequence[Conflict]:
    """The conflicts of field managers that helm 4 reports, with all of their fields."""
    found: list[Conflict] = []
    label = manager = ""
    for line in getattr(error, "stderr", b"").decode(errors="replace").splitlines():
        rest = line.strip()
        if start := _CONFLICT.search(rest):
            label, rest = f"{start[3].lower()}/{start[1]}", rest[start.end() :]
        if label and (named := _MANAGER.match(rest)):
            manager, rest = named[1], named[2]
            found.append(Conflict(manager, label, (rest,) if rest else ()))
        elif manager and rest.startswith("- "):
            last = found.pop()
            found.append(Conflict(manager, label, (*last.fields, rest.removeprefix("- "))))
        else:
            label, manager = (label, "") if start else ("", "")
    # Helm says everything twice: in its log and as its error.
    return [*dict.fromkeys(found)]


def reason_of(error: BaseException | None) -> str:
    """Helm's own words, in one line and without values of the chart: they may be secret."""
    output = getattr(error, "stderr", b"").decode(errors="replace")
    lines = [line for line in output.splitlines() if line.strip()]
    said = next((line for line in lines if line.startswith("Error:")), lines[-1] if lines else "it gave no reason")
    said = said.removeprefix("Error:").strip().removeprefix("UPGRADE FAILED:").strip()
    return _VALUE.sub(r"\1 value: ", said)[:_LIMIT]
