"""Why helm has failed, for operators."""

import re

_LIMIT = 400
_VALUE = re.compile(
    r"""\b(Invalid|Unsupported|Duplicate) value: (?:"(?:\\.|[^"\\])*"|[{\[].*[}\]]|[^:\s]+)(?:: )?""", re.IGNORECASE
)
"""The words of the API server about a value that it repeats."""


def reason_of(error: BaseException | None) -> str:
    """Helm's own words, in one line and without values of the chart: they may be secret."""
    output = getattr(error, "stderr", b"").decode(errors="replace")
    lines = [line for line in output.splitlines() if line.strip()]
    said = next((line for line in lines if line.startswith("Error:")), lines[-1] if lines else "it gave no reason")
    said = said.removeprefix("Error:").strip().removeprefix("UPGRADE FAILED:").strip()
    return _VALUE.sub(r"\1 value: ", said)[:_LIMIT]
