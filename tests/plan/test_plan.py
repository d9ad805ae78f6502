"""What `python -m service plan` says, and that docs/explanation/scale.md says the same."""

import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from service.__main__ import app
from service.commands import measured
from service.commands.measured import Measured
from service.commands.needs import Load, plan
from stack.stack import ROOT

_DOC = ROOT / "docs" / "explanation" / "scale.md"
_CONSTANTS = [value for value in vars(measured).values() if isinstance(value, Measured)]

loads = st.builds(
    Load,
    sessions=st.integers(1, 100_000),
    awake=st.integers(0, 10_000),
    wakes_per_minute=st.floats(0, 10_000),
    calls_per_minute=st.floats(0, 600),
)


def run(command: str) -> str:
    answer = CliRunner().invoke(app, shlex.split(command))
    assert answer.exit_code == 0, answer.output
    return answer.stdout


def test_the_example_in_the_docs_is_what_the_command_prints() -> None:
    command = ".venv/bin/python -m service plan --sessions 10000 --awake 500 --wakes-per-minute 300"
    assert f"$ {command}\n{run(command.removeprefix('.venv/bin/python -m service '))}```" in _DOC.read_text()


@pytest.mark.parametrize("constant", _CONSTANTS, ids=lambda constant: constant.line)
def test_every_constant_is_documented_with_its_line(constant: Measured) -> None:
    assert f"| {constant.line} | {constant.value:g} {constant.unit} |" in _DOC.read_text()


def test_json_has_each_need_with_its_formula_and_constants() -> None:
    document = json.loads(run("plan --sessions 100 --awake 10 --wakes-per-minute 1 --json"))
    assert document["load"]["sessions"] == 100
    assert all(need["amount"] > 0 and need["formula"] for need in document["needs"])
    assert any(need["constants"] for need in document["needs"])


def test_no_sessions_are_refused() -> None:
    assert CliRunner().invoke(app, shlex.split("plan --sessions 0 --awake 0 --wakes-per-minute 0")).exit_code == 2


@pytest.mark.parametrize("options", ["", "--sessions 10"])
def test_a_plan_without_its_options_names_them_with_an_example(options: str) -> None:
    answer = CliRunner().invoke(app, shlex.split(f"plan {options}"))
    assert answer.exit_code == 2
    assert "Give --sessions, --awake and --wakes-per-minute" in answer.stderr
    example = answer.stderr.splitlines()[-1].partition(" plan ")[2]
    assert "KEDA" in run(f"plan {example}")


@given(loads)
def test_more_sessions_never_need_fewer_resources(load: Load) -> None:
    more = Load(
        sessions=2 * load.sessions,
        awake=2 * load.awake,
        wakes_per_minute=2 * load.wakes_per_minute,
        calls_per_minute=load.calls_per_minute,
    )
    for before, after in zip(plan(load), plan(more), strict=True):
        assert after.amount >= before.amount


@given(loads)
def test_every_need_is_a_positive_number(load: Load) -> None:
    assert all(need.amount > 0 for need in plan(load))
