"""Tables of results in documents: Markdown between two markers, which a benchmark or trial writes anew."""

from collections.abc import Iterable, Sequence
from pathlib import Path


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]], *, numbers_from: int) -> str:
    """`numbers_from`: the first column of numbers, which are aligned right."""
    rules = ["---:" if column >= numbers_from else "---" for column in range(len(head))]
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in (head, rules, *rows))


def replace(document: Path, begin: str, end: str, table: str) -> None:
    """Put the table between the document's markers. Raises ValueError where there are none."""
    before, found_begin, rest = document.read_text().partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"{document} has no place for the table: the lines `{begin}` and `{end}`")
    document.write_text(f"{before}{begin}\n\n{table}\n\n{end}{after}")
