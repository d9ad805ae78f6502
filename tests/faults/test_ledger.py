"""The model of the fault trials finds what is lost and what is wrong, and nothing where all is well."""

from collections.abc import Mapping
from typing import Any

import pytest

from faults.calls import Call, Operation, Rules
from faults.ledger import Ledger, Seen, Snapshot, Times

TIMES = Times(lease=4, cooldown=3, poll=1)
ANN, BEN = "ann@example.com", "ben@example.com"
UUID, OTHER = "abc123xy", "zyx321ba"


def told(
    ledger: Ledger, operation: Operation, at: float, user: str = ANN, *, status: int = 200, body: Any = None
) -> None:
    """A call that took no time, and its answer."""
    uuid = ledger.account(user).uuid
    ledger.asking(operation, user)
    found = body if body is not None else {"uuid": uuid, "action": str(operation)}
    ledger.record(
        Call(operation=operation, replica="a", user=user, uuid=uuid, began=at, ended=at, status=status, body=found)
    )


def refused(ledger: Ledger, operation: Operation, at: float) -> None:
    uuid = ledger.account(ANN).uuid
    ledger.asking(operation, ANN)
    body = {"type": "/problems/redis-unavailable", "status": 503, "detail": "Redis does not answer", "part": "redis"}
    ledger.record(
        Call(
            operation=operation, replica="a", user=ANN, uuid=uuid, began=at, ended=at, status=503,
            media="application/problem+json", body=body,
        )
    )  # fmt: skip


def created(ledger: Ledger, user: str = ANN, uuid: str = UUID) -> None:
    told(ledger, Operation.CREATE, 0, user, status=201, body={"uuid": uuid, "user_id": user, "status": "created"})


def shown(ledger: Ledger, at: float, replicas: int, ready: int) -> None:
    ledger.saw(UUID, Seen(at, replicas, ready))


def whole(sessions: Mapping[str, str], **changes: Any) -> Snapshot:
    """The state in which each of these sessions (id -> user) is as it should be."""
    parts: dict[str, Any] = {
        "owners": dict(sessions),
        "releases": dict.fromkeys(sessions, "deployed"),
        "keys": {uuid: [f"session:{uuid}", "an entry in user-pods:users"] for uuid in sessions},
        "listed": {name: {uuid: (user, "created") for uuid, user in sessions.items()} for name in "ab"},
    }
    return Snapshot(**parts | changes)


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger(TIMES, Rules(parts=frozenset({"redis"})))
    created(ledger)
    shown(ledger, 0, 0, 0)
    return ledger


def test_a_life_without_faults_has_no_findings(ledger: Ledger) -> None:
    told(ledger, Operation.WAKE, 10, status=202)
    shown(ledger, 10.1, 1, 0)
    shown(ledger, 11, 1, 1)
    shown(ledger, 18, 0, 0)
    ledger.close(whole({UUID: ANN}))
    assert (ledger.lost, ledger.wrong, ledger.bad) == ([], [], [])


# --- lost ---


def test_a_wake_that_was_accepted_and_had_no_effect_is_lost(ledger: Ledger) -> None:
    told(ledger, Operation.WAKE, 10, status=202)
    assert ledger.owed()
    ledger.close(whole({UUID: ANN}))
    assert "its pod never got ready" in ledger.lost[0]


def test_a_terminating_pod_does_not_satisfy_a_wake(ledger: Ledger) -> None:
    shown(ledger, 5, 1, 1)
    told(ledger, Operation.WAKE, 10, status=202)
    shown(ledger, 10.3, 0, 0)
    assert ledger.owed()


def test_a_refused_wake_need_not_take_effect(ledger: Ledger) -> None:
    refused(ledger, Operation.WAKE, 10)
    assert ledger.owed() == []
    assert ledger.bad == []


def test_a_wake_need_not_take_effect_after_a_requested_sleep(ledger: Ledger) -> None:
    told(ledger, Operation.WAKE, 10, status=202)
    refused(ledger, Operation.SLEEP, 11)
    assert ledger.owed() == []


def test_a_sleep_that_was_accepted_and_had_no_effect_is_lost(ledger: Ledger) -> None:
    shown(ledger, 5, 1, 1)
    told(ledger, Operation.SLEEP, 10, status=202)
    assert "its pod stayed" in ledger.owed()[0]
    shown(ledger, 10.5, 0, 0)
    assert ledger.owed() == []


@pytest.mark.parametrize(
    ("changes", "told_of"),
    [
        ({"owners": {}}, "its Deployment belongs to None"),
        ({"owners": {UUID: BEN}}, f"its Deployment belongs to {BEN}"),
        ({"releases": {}}, "its release is None"),
        ({"releases": {UUID: "pending-install"}}, "its release is pending-install"),
        ({"listed": {"a": {UUID: (ANN, "created")}, "b": {}}}, "b lists None"),
        ({"listed": {"a": {UUID: (ANN, "released")}}}, "a lists"),
    ],
)
def test_a_session_that_lacks_something_is_lost(ledger: Ledger, changes: Mapping[str, Any], told_of: str) -> None:
    ledger.close(whole({UUID: ANN}, **changes))
    assert told_of in ledger.lost[0]


@pytest.mark.parametrize(
    "left",
    [{"owners": {UUID: ANN}}, {"releases": {UUID: "uninstalling"}}, {"keys": {UUID: [f"session:{UUID}"]}}],
    ids=["deployment", "release", "key"],
)
@pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "refused"])
def test_an_incomplete_delete_is_found(ledger: Ledger, left: Mapping[str, Any], accepted: bool) -> None:
    if accepted:
        told(ledger, Operation.DELETE, 10, status=204)
    else:
        refused(ledger, Operation.DELETE, 10)
    snapshot = whole({}, **left)
    assert ledger.unfinished(snapshot) == [UUID]
    ledger.close(snapshot)
    assert "its delete left" in ledger.lost[0]


def test_a_refused_delete_may_leave_the_session_intact(ledger: Ledger) -> None:
    refused(ledger, Operation.DELETE, 10)
    ledger.close(whole({UUID: ANN}))
    assert (ledger.lost, ledger.wrong) == ([], [])


def test_an_accepted_delete_may_not_leave_the_session_intact(ledger: Ledger) -> None:
    told(ledger, Operation.DELETE, 10, status=204)
    ledger.close(whole({UUID: ANN}))
    assert ledger.lost


# --- wrong ---


def test_a_second_session_for_a_user_is_wrong(ledger: Ledger) -> None:
    created(ledger, uuid=OTHER)
    assert "and then another session" in ledger.wrong[0]


def test_a_hidden_second_session_is_wrong(ledger: Ledger) -> None:
    ledger.close(whole({UUID: ANN, OTHER: ANN}))
    assert f"{ANN} has several sessions" in ledger.wrong[0]


def test_an_id_shared_by_two_users_is_wrong(ledger: Ledger) -> None:
    created(ledger, BEN)
    assert f"{UUID} was given to {ANN} and to {BEN}" in ledger.wrong[0]


def test_a_deployment_without_release_is_wrong(ledger: Ledger) -> None:
    ledger.close(whole({UUID: ANN}, releases={}))
    assert "a Deployment without release" in ledger.wrong[0]


def test_an_unwanted_pod_is_wrong(ledger: Ledger) -> None:
    shown(ledger, 5, 1, 1)
    ledger.close(whole({UUID: ANN}))
    assert "is awake without demand" in ledger.wrong[0]


def active(ledger: Ledger, first: int, last: int) -> None:
    for at in range(first, last):
        told(ledger, Operation.ACTIVITY, at, status=202)


def test_a_pod_that_falls_asleep_while_its_user_is_active_is_wrong(ledger: Ledger) -> None:
    shown(ledger, 5, 1, 1)
    active(ledger, 10, 20)
    shown(ledger, 21, 0, 0)
    assert "fell asleep 2.0 s after an activity" in ledger.wrong[0]


def test_a_pod_that_falls_asleep_after_its_user_left_is_right(ledger: Ledger) -> None:
    shown(ledger, 5, 1, 1)
    active(ledger, 10, 20)
    shown(ledger, 19 + TIMES.kept, 0, 0)
    assert ledger.wrong == []


def test_activity_that_redis_lost_does_not_count(ledger: Ledger) -> None:
    shown(ledger, 5, 1, 1)
    active(ledger, 10, 20)
    ledger.emptied(20)
    shown(ledger, 21, 0, 0)
    assert ledger.wrong == []


def test_a_wake_that_redis_lost_need_not_take_effect(ledger: Ledger) -> None:
    told(ledger, Operation.WAKE, 10, status=202)
    ledger.emptied(10.1)
    assert ledger.owed() == []
    told(ledger, Operation.WAKE, 11, status=202)
    assert ledger.owed()


def test_a_late_zero_is_counted_separately_and_the_wake_must_still_take_effect(ledger: Ledger) -> None:
    told(ledger, Operation.WAKE, 10, status=202)
    shown(ledger, 10.1, 1, 1)
    shown(ledger, 10.4, 0, 0)
    assert (ledger.wrong, ledger.late_zeros) == ([], 1)
    assert ledger.owed()
    shown(ledger, 10.6, 1, 1)
    assert ledger.owed() or ledger.was(UUID, lambda seen: seen.ready > 0, 12)


def status_of(user: str, uuid: str, replicas: int = 0, *, behind: float | None = None) -> dict[str, Any]:
    return {
        "uuid": uuid, "session": {"user_id": user, "status": "created"}, "queue_length": 0, "replicas": replicas,
        "phase": "asleep", "behind_seconds": behind,
    }  # fmt: skip


def test_a_status_with_another_sessions_data_is_wrong(ledger: Ledger) -> None:
    told(ledger, Operation.STATUS, 5, body=status_of(BEN, UUID))
    assert "answers with another's data" in ledger.wrong[0]


def test_a_list_with_another_users_session_is_wrong(ledger: Ledger) -> None:
    told(ledger, Operation.LIST, 5, body={"sessions": [status_of(BEN, OTHER)], "cursor": None})
    assert ledger.wrong


def test_another_sessions_bad_key_must_have_no_effect(ledger: Ledger) -> None:
    ledger.rules = Rules(victims={OTHER})
    refused(ledger, Operation.WAKE, 10)
    assert "affected by another session's fault" in ledger.wrong[0]


# --- bad answers ---


def test_an_incomplete_list_is_bad(ledger: Ledger) -> None:
    told(ledger, Operation.LIST, 5, body={"sessions": [], "cursor": None})
    assert f"lacks {UUID}" in ledger.bad[0]


def test_a_stale_status_is_bad_unless_it_says_so(ledger: Ledger) -> None:
    shown(ledger, 5, 1, 1)
    told(ledger, Operation.STATUS, 6, body=status_of(ANN, UUID))
    told(ledger, Operation.STATUS, 30, body=status_of(ANN, UUID, behind=25))
    assert ledger.bad == []
    told(ledger, Operation.STATUS, 30, body=status_of(ANN, UUID))
    assert "shows 0 replicas, there are 1" in ledger.bad[0]
