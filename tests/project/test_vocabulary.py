"""Retired words stay out of code and documents; docs/glossary.md has the words that replaced them."""

import functools
import re

import pytest

from stack.stack import ROOT
from tests.project.test_project import tracked

RETIRED = {
    r"Keeper|tended": "Reconciler, enqueue",
    r"View(?=\.workload)|KubeView": "WorkloadCache",
    r"Pulse|pulses": "QueueState",
    r"Rhythm|rhythms?": "IdleTimes",
    r"Wish": "RequestedIdleTimes",
    r"hush(ed|es)?": "clear",
    r"hindrances?": "blocker",
    r"WorkLease|work leases?": "SessionLock",
    r"Slots": "AdmissionQueue",
    r"census": "SessionCounts",
    r"Doorkeeper|Readings": "metrics, gauges",
    r"Refusal": "GatewayError",
    r"Hopeless": "CannotStart",
    r"Historian": "HistoryWriter",
    r"Happening": "JournalEntry",
    r"knocks?|knocked": "accepts_connections",
    r"[Gg]athering": "BatchLoader",
    r"disclaim(s|ed)?": "release_claim",
    r"(mark|is)_whole": "index_complete",
    r"glance": "check_readable",
    r"_told|news_of": "a verb that says what it does",
    r"_PATIENCE|_patience": "the timeout's own name",
    r"redis_faults|redis_record|redis_leases": "unreadable_keys, records, locks",
    r"tends?": "enqueue",
    r"[Ss]topwatch": "WakeTimer",
    r"Attention": "ActivityRecorder",
    r"way_to|Way\.to": "TcpProxy",
    r"wait_filled": "wait_synced",
}
"""A regular expression for a whole word, and what to write instead."""

PLACES = ("service/", "tests/", "docs/", "chart/", "README.md")
HISTORY = ("docs/decisions/", "service/web/static/", "tests/project/test_vocabulary.py")
"""Decisions may use the words of their time; vendored files have words of their own."""


@functools.cache
def lines() -> list[tuple[str, str]]:
    """Each line of code and documents, after its file and number."""
    names = [path.relative_to(ROOT).as_posix() for path in tracked() if path.suffix not in {".png", ".svg", ".json"}]
    return [
        (f"{name}:{number}", line.strip())
        for name in names
        if name.startswith(PLACES) and not name.startswith(HISTORY)
        for number, line in enumerate((ROOT / name).read_text(errors="replace").splitlines(), 1)
    ]


@pytest.mark.parametrize("pattern", RETIRED)
def test_a_retired_word_is_gone(pattern: str) -> None:
    word = re.compile(rf"(?<![\w-])(?:{pattern})(?!\w)")
    found = [f"{place}: {line}" for place, line in lines() if word.search(line)]
    assert not found, f"write {RETIRED[pattern]!r} instead:\n" + "\n".join(found)
