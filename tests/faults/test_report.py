"""What a run of the fault trials writes, and its exit code."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from faults import report
from faults.__main__ import DOCUMENT, app
from faults.catalogue import FAULTS
from faults.trial import Row

GOOD = Row(fault="Redis frozen", operations=120, healed=1.25, lasted=8)
BAD = Row(fault="KEDA killed", operations=90, lost=["abc123xy: gone"], healed=None, lasted=8)


def test_the_table_goes_between_the_markers(tmp_path: Path) -> None:
    document = tmp_path / "reliability.md"
    document.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write(document, [GOOD, BAD])
    text = document.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| Redis frozen | 120 | 0 | 0 | 0 | 1.2 s |" in text
    assert "| KEDA killed | 90 | 1 | 0 | 0 | never |" in text
    assert "old" not in text
    report.write(document, [GOOD])
    assert document.read_text().count("Redis frozen") == 1


def test_a_document_without_a_place_for_the_table_is_an_error(tmp_path: Path) -> None:
    document = tmp_path / "reliability.md"
    document.write_text("nothing")
    with pytest.raises(ValueError, match="has no place for the table"):
        report.write(document, [GOOD])


def test_every_finding_is_kept_as_json(tmp_path: Path) -> None:
    path = tmp_path / "results" / "faults.json"
    report.save(path, [GOOD, BAD], {"LEASE": "4"})
    kept = json.loads(path.read_text())
    assert kept["rows"][1]["lost"] == ["abc123xy: gone"]
    assert kept["facts"]["settings"] == {"LEASE": "4"}


@pytest.mark.parametrize(
    "row",
    [
        BAD,
        Row(fault="x", operations=1, lost=["a"], healed=1, lasted=1),
        Row(fault="x", operations=1, wrong=["a"], healed=1, lasted=1),
        Row(fault="x", operations=1, healed=None, lasted=1),
    ],
)
def test_a_run_fails_if_anything_is_lost_or_wrong_or_has_not_recovered(row: Row) -> None:
    assert not row.holds
    assert GOOD.holds


def test_the_command_lists_its_faults_and_refuses_unknown_ones() -> None:
    listed = CliRunner().invoke(app, ["--list"])
    assert listed.output.splitlines() == [fault.name for fault in FAULTS]
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    refused = CliRunner().invoke(app, ["--only", "no such fault"])
    assert refused.exit_code == 2
    assert "there are" in refused.output


def test_the_document_shows_nothing_lost_or_wrong_for_every_fault() -> None:
    _, _, rest = DOCUMENT.read_text().partition(report.BEGIN)
    written, end, _ = rest.partition(report.END)
    assert end
    for fault in FAULTS:
        (row,) = (line for line in written.splitlines() if line.startswith(f"| {fault.name} |"))
        _, operations, lost, wrong, *_ = (cell.strip() for cell in row.strip("|").split("|"))
        assert int(operations) > 0
        assert (lost, wrong) == ("0", "0")
