"""Which answers the fault trials count as right, as an honest refusal, or as bad."""

from typing import Any

import pytest

from faults.calls import PATIENCE, Call, Operation, Rules, fault_of

RULES = Rules(parts=frozenset({"redis"}), victims={"victim00"})
PROBLEM = {"type": "/problems/redis-unavailable", "status": 503, "detail": "Redis does not answer", "part": "redis"}


def answer(operation: Operation = Operation.WAKE, *, took: float = 0.1, **parts: Any) -> Call:
    given: dict[str, Any] = {"status": 503, "media": "application/problem+json", "body": PROBLEM} | parts
    return Call(operation=operation, replica="a", user="ann", uuid="abc123xy", began=10, ended=10 + took, **given)


def problem(status: int, kind: str, **more: str) -> dict[str, Any]:
    return {"status": status, "body": {"type": f"/problems/{kind}", "status": status, "detail": "why"} | more}


@pytest.mark.parametrize(
    "call",
    [
        answer(),
        answer(status=202, media="application/json", body={"uuid": "abc123xy", "action": "wake"}),
        answer(Operation.DELETE, status=204, media="", body=None),
        answer(Operation.CREATE, **problem(409, "session-busy")),
        answer(Operation.CREATE, **problem(429, "too-many-creates")),
        answer(Operation.ACTIVITY, **problem(409, "session-asleep")),
        answer(Operation.HEALTH, status=503, media="application/json", body={"status": "unhealthy"}),
        answer(status=None, error="ServerDisconnectedError", excused=True),
    ],
    ids=str,
)
def test_correct_answers_and_honest_refusals_pass(call: Call) -> None:
    assert fault_of(call, RULES) is None


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (answer(status=None, error="ServerDisconnectedError"), "no answer: ServerDisconnectedError"),
        (answer(took=PATIENCE[Operation.WAKE] + 0.1), "the answer was too late"),
        (answer(status=202, media="application/json", body={"uuid": "abc123xy"}), "the answer lacks action"),
        (answer(status=200, media="text/html", body=None), "the answer lacks action, uuid"),
        (answer(media="text/plain", body=None), "the error is not a problem document"),
        (answer(status=502), "the error is not a problem document"),
        (answer(**problem(500, "internal")), "an internal error"),
        (answer(**problem(503, "kubernetes-unavailable", part="kubernetes")), "names the wrong part (kubernetes)"),
        (answer(**problem(404, "session-not-found")), "refused without a reason"),
        (answer(**problem(409, "session-busy")), "refused without a reason"),
    ],
    ids=str,
)
def test_other_answers_are_bad(call: Call, fault: str) -> None:
    assert fault_of(call, RULES) == fault


def test_a_session_that_is_being_deleted_may_be_gone() -> None:
    assert fault_of(answer(**problem(404, "session-not-found")), RULES, may_be_gone=True) is None


def test_a_session_under_fault_may_refuse_but_not_fail() -> None:
    rules = Rules(victims={"abc123xy"})
    assert fault_of(answer(**problem(409, "session-unreadable")), rules) is None
    assert fault_of(answer(**problem(500, "internal")), rules) == "an internal error"
