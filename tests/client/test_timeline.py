"""The sentences of `why`, and how times and durations are read and written."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from user_pods_client.cli import text, timeline
from user_pods_client.decoding import decode
from user_pods_client.models import HistoryEntry, Status

NOW = datetime(2026, 3, 2, 14, 10, tzinfo=UTC)


def status(**members: Any) -> Status:
    base = {
        "uuid": "abc123xy", "session": {"user_id": "ann@example.com", "status": "created"}, "queue_length": 0,
        "replicas": 0, "ready_replicas": 0, "phase": "asleep", "final": False, "parked": True,
        "created_at": "2026-03-01T09:00:00Z",
    }  # fmt: skip
    return decode(Status, base | members)


def entry(kind: str, at: str, **members: Any) -> HistoryEntry:
    return decode(HistoryEntry, {"kind": kind, "at": f"2026-03-02T{at}Z"} | members)


def told(state: Status, *entries: HistoryEntry) -> list[str]:
    return [line.strip() for line in timeline.of(state, entries, NOW, UTC).lines(NOW, UTC) if line.strip()]


def test_an_idle_sleep_is_told_from_the_last_input_on() -> None:
    slept = entry("sleep", "14:02:02", cause="idle", idle_since="2026-03-02T13:58:00Z", seconds=2522, interrupted=True)
    woken = entry("wake", "13:20:00", by="visit", ready_at="2026-03-02T13:20:04Z", seconds=4.24)
    assert told(status(), slept, woken) == [
        "Session abc123xy of ann@example.com is asleep.",
        "13:20:00   Woken by a visit in a browser; ready after 4.2 s.",
        "13:58:00   Last activity before the sleep.",
        (
            "14:02:02   Went to sleep: nobody had used it for 4 min 2 s. It had been awake for 42 min 2 s."
            " A program was still working in it."
        ),
        "It wakes on a visit, or by `user-pods wake abc123xy`.",
    ]


@pytest.mark.parametrize(
    ("by", "sentence"),
    [
        ("shop", "Sent to sleep by a caller with the API key shop."),
        ("visit", "Sent to sleep by somebody on the workspace's page."),
        (None, "Went to sleep, because a user or a caller asked for it."),
    ],
)
def test_a_sleep_that_was_asked_for_says_by_whom(by: str | None, sentence: str) -> None:
    slept = entry("sleep", "14:02:02", cause="asked", **({"by": by} if by else {}))
    assert f"14:02:02   {sentence}" in told(status(), slept)


def test_an_awake_session_says_what_keeps_it_awake_and_when_it_sleeps() -> None:
    times = {"last_activity": "2026-03-02T14:09:30Z", "sleeps_at": "2026-03-02T14:13:30Z", "activity_source": "typing"}
    lines = told(status(phase="ready", kept_awake_by="typing", **times))
    assert lines[1:] == [
        "14:09:30   Last activity (typing).",
        "It is kept awake by activity (typing).",
        "Without further activity it sleeps at 14:13:30, in 3 min 30 s.",
    ]
    kept = status(phase="ready", kept_awake_by="extension", kept_until="2026-03-03T01:00:00Z", **times)
    assert "Somebody asked to keep it awake until 2026-03-03 01:00:00." in told(kept)


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (entry("sleep", "14:00:00", cause="asked"), "because a user or a caller asked for it"),
        (entry("sleep", "14:00:00", cause="false"), "which must not happen"),
        (entry("sleep", "14:00:00", cause="late-zero"), "undid that at once"),
        (entry("sleep", "14:00:00", cause="of the future"), "(of the future)"),
        (entry("wake", "14:00:00", by="shop", seconds=None), "with the API key shop; it did not become ready"),
        (
            entry("wake", "14:00:00", ready_at="2026-03-02T14:00:09Z", seconds=9),
            "replaced or restored; ready after 9.0 s",
        ),
        (entry("failure", "14:00:00", reason="OOMKilled"), "Failed: OOMKilled"),
        (entry("deletion-warning", "14:00:00", reason="it will be deleted"), "Warning: it will be deleted."),
        (entry("revocation", "14:00:00", by="api"), "revoked by api"),
        (entry("renamed", "14:00:00"), "does not know"),
    ],
)
def test_every_kind_of_entry_has_a_sentence(made: HistoryEntry, sentence: str) -> None:
    assert sentence in told(status(), made)[1]


def test_an_upgrade_says_when_it_was_and_what_became_of_the_pod() -> None:
    ready = {"ready_at": "2026-03-02T14:03:20Z", "seconds": 9}
    assert told(status(phase="ready"), entry("upgrade", "14:03:00", by="shop", **ready))[1:3] == [
        "14:03:00   Its release was upgraded by shop.",
        "14:03:20   The upgrade had replaced the pod; the new one was ready, 9.0 s after it was created.",
    ]
    assert "replaced" not in " ".join(told(status(), entry("upgrade", "14:03:00", by="shop")))


def test_a_wake_under_way_says_for_how_long_and_what_it_waits_for() -> None:
    woken, failed = entry("wake", "14:08:20", by="shop"), entry("wake", "13:00:00", by="api")
    waking = {"phase": "waking", "sleeps_at": None}
    full = told(status(**waking, replicas=1, reason="Unschedulable: wait for scheduling.."), woken, failed)
    assert full[1].endswith("it did not become ready.")
    assert full[2].endswith("shop; it has been waking for 1 min 40 s: Unschedulable: wait for scheduling.")
    assert "What delays it: Unschedulable: wait for scheduling." in full
    for more, stage in (
        ({"replicas": 0}, "its pod has not been requested yet."),
        ({"replicas": 1}, "its pod is being created."),
        ({"replicas": 1, "awake_since": "2026-03-02T14:08:21Z"}, "its pod is there and is not ready yet."),
    ):
        assert told(status(**waking, **more), woken)[1].endswith(stage)
    assert "did not become ready" in " ".join(told(status(), entry("sleep", "14:09:00", cause="asked"), woken))


def test_a_failed_wake_names_its_reason_once_and_says_what_to_do() -> None:
    reason = "ErrImageNeverPull: Container image " + "x" * 400
    woken, failure = entry("wake", "14:09:38", by="api"), entry("failure", "14:09:40", reason=reason[:300])
    lines = told(status(phase="failed", replicas=1, final=True, reason=reason), failure, woken)
    assert lines[1:] == [
        "14:09:38   Woken by a call of the API; it has failed.",
        f"14:09:40   Failed: {reason[:300]}.",
        "It does not recover by itself.",
        (
            "Users: tell your operator the id abc123xy. Operators: compare the image's name with the values of every"
            " session; `user-pods doctor` shows whether somebody has changed it by hand."
        ),
    ]
    unknown = told(status(phase="failed", replicas=1, reason="Odd: it"), failure, woken)
    assert "Reason: Odd: it." in unknown, "the timeline has another one"
    assert unknown[-1].endswith("Operators: `user-pods doctor` says what to do.")


def test_a_wake_that_was_the_last_activity_is_told_once() -> None:
    woken = entry("wake", "13:57:48.020", by="api", ready_at="2026-03-02T13:57:50Z", seconds=2)
    slept = entry("sleep", "14:00:00", cause="idle", idle_since="2026-03-02T13:57:48Z")
    lines = told(status(), slept, woken)
    assert [line for line in lines if "activity" in line] == []
    assert "nobody had used it for 2 min 12 s" in lines[2]


@pytest.mark.parametrize("phase", ["waking", "failed", "deleting", "released", "of the future"])
def test_every_phase_has_a_sentence(phase: str) -> None:
    lines = told(status(phase=phase, reason="the node is full", final=False))
    assert "ann@example.com" in lines[0]
    assert "the node is full" in " ".join(lines)


@pytest.mark.parametrize(
    ("given", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1d1s", 86401)]
)
def test_durations_are_read(given: str, seconds: int) -> None:
    assert text.seconds(given) == seconds


@pytest.mark.parametrize("given", ["", " ", "soon", "-1", "1.5h", "2x", "1m2h", "٣"])
def test_what_is_no_duration_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="1h30m"):
        text.seconds(given)


def test_durations_are_written_in_two_units_at_most() -> None:
    written = [text.duration(each) for each in (0.25, 9.94, 59.6, 61, 3600, 3660, 90061)]
    assert written == ["0.2 s", "9.9 s", "1 min", "1 min 1 s", "1 h", "1 h 1 min", "1 d 1 h"]
    assert text.ago(NOW - timedelta(seconds=3), NOW) == "3 s ago"
    assert text.ago(NOW + timedelta(minutes=2), NOW) == "in 2 min"


@given(st.text())
def test_nothing_that_is_shown_controls_a_terminal(given_text: str) -> None:
    assert text.printable(given_text).isprintable()
