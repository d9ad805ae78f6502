"""Continuous integration runs what was reviewed: an action's tag can be moved, its commit cannot."""

import re
import subprocess
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


def read(workflow: Path) -> dict[Any, Any]:
    text: dict[Any, Any] = yaml.safe_load(workflow.read_text())
    return text


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_what_a_job_may_write_is_stated_for_that_job(workflow: Path) -> None:
    text = read(workflow)
    assert "write" not in text["permissions"].values(), "a right for all jobs"
    for name, job in text["jobs"].items():
        assert text["permissions"] or job.get("permissions"), f"{name} would get what the repository grants by default"


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_nothing_of_an_event_becomes_a_part_of_a_script(workflow: Path) -> None:
    """A branch, a tag or an input could be named so that the shell runs it. A variable cannot."""
    for job in read(workflow)["jobs"].values():
        for step in job["steps"]:
            assert "${{" not in step.get("run", ""), step


@pytest.mark.parametrize("workflow", ["release", "deploy-gke"])
def test_no_job_that_publishes_leaves_its_token_in_the_checkout(workflow: str) -> None:
    for job in read(ROOT / ".github" / "workflows" / f"{workflow}.yaml")["jobs"].values():
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


def test_a_release_publishes_after_its_files_were_found_right() -> None:
    jobs = read(ROOT / ".github" / "workflows" / "release.yaml")["jobs"]
    assert all("files" in jobs[name]["needs"] for name in ("image", "charts", "tools"))
    assert set(jobs["release"]["needs"]) == set(jobs) - {"release"}
    assert any("release-notes" in step.get("run", "") for step in jobs["files"]["steps"])
    assert "write" not in jobs["files"]["permissions"].values()


def test_a_deployment_is_started_by_hand_in_a_protected_environment_without_a_stored_key() -> None:
    text = read(ROOT / ".github" / "workflows" / "deploy-gke.yaml")
    assert list(text[True]) == ["workflow_dispatch"]  # YAML reads `on` as true
    job = text["jobs"]["deploy"]
    assert job["environment"] == "gke"
    (login,) = [step for step in job["steps"] if step.get("uses", "").startswith("google-github-actions/auth@")]
    assert set(login["with"]) == {"workload_identity_provider", "service_account"}


def test_a_deployment_takes_charts_and_environments_from_the_tag_of_its_image() -> None:
    check, checkout, *_ = read(ROOT / ".github" / "workflows" / "deploy-gke.yaml")["jobs"]["deploy"]["steps"]
    assert checkout["uses"].startswith("actions/checkout@")
    assert checkout["with"]["ref"] == "refs/tags/v${{ inputs.version }}"
    for version, code in (("0.1.0", 0), ("1.20.3", 0), ("main", 1), ("0.1.0/../x", 1), ("0.1", 1), ("", 1)):
        done = subprocess.run(
            ["bash", "-e", "-c", check["run"]], env={"VERSION": version}, capture_output=True, check=False
        )
        assert done.returncode == code, version


def test_the_pictures_of_a_run_are_kept_also_when_it_fails() -> None:
    jobs: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yaml").read_text())[
        "jobs"
    ]
    *_, run, upload = jobs["tests"]["steps"]
    assert ".ci/run" in run["run"]
    assert upload["uses"].startswith("actions/upload-artifact@")
    assert upload["if"] == "always()"
    assert ROOT / upload["with"]["path"] == PICTURES
