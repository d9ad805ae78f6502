"""Continuous integration runs what was reviewed: an action's tag can be moved, its commit cannot."""

import re
from pathlib import Path

import pytest

from stack.stack import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_every_action_is_pinned_by_commit_with_its_version(workflow: Path) -> None:
    used = re.findall(r"uses: (.+)", workflow.read_text())
    assert used
    for action in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


def test_each_action_has_one_version() -> None:
    used = {use for workflow in WORKFLOWS for use in re.findall(r"uses: (\S+)", workflow.read_text())}
    assert len({action.partition("@")[0] for action in used}) == len(used)
