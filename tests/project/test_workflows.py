"""Continuous integration runs what was reviewed: an action's tag can be moved, its commit cannot."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from stack.stack import ROOT
from tests.pages import PICTURES

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


def test_the_pictures_of_a_run_are_kept_also_when_it_fails() -> None:
    jobs: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yaml").read_text())[
        "jobs"
    ]
    *_, run, upload = jobs["tests"]["steps"]
    assert ".ci/run" in run["run"]
    assert upload["uses"].startswith("actions/upload-artifact@")
    assert upload["if"] == "always()"
    assert ROOT / upload["with"]["path"] == PICTURES
