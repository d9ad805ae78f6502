"""What happened to a session, in sentences: input, lease, sleep."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from user_pods_client.cli.failures import next_step
from user_pods_client.cli.text import clock, duration
from user_pods_client.models import HistoryEntry, Status

_WAKERS = {
    "api": "a call of the API",
    "visit": "a visit in a browser",
    "queue": "another program's push to its queue",
    "operator": "an operator, who scaled it by hand",
}
_SENDERS = {
    "api": "a call of the API",
    "visit": "somebody on the workspace's page",
    "person": "a person with a token or sign-in of their own",
}
_SLEEPS = {
    "asked": "Went to sleep, because a user or a caller asked for it",
    "operator": "Went to sleep: an operator scaled it to 0 by hand",
    "late-zero": "KEDA scaled it to 0 by a decision from before the last wake; the service undid that at once",
    "false": "Went to sleep although it was in use, which must not happen: please report it to the operator",
}
_KEEPERS = {
    "background": "a program that works in it",
    "queue": "another program, which pushes to its queue",
    "wake": "the last wake",
}
_SAME = timedelta(seconds=1)
"""A wake is an activity, too: the two are noted one after the other."""


_KEPT = 200
"""Characters of a reason that are compared: a history may not keep all."""


@dataclass(frozen=True)
class Moment:
    """One line of the timeline."""

    at: datetime
    sentence: str


@dataclass(frozen=True)
class Timeline:
    """The state now, and what led to it, oldest first."""

    headline: str
    moments: tuple[Moment, ...]
    outlook: tuple[str, ...]

    def lines(self, now: datetime, zone: tzinfo | None) -> Iterator[str]:
        yield self.headline
        yield ""
        for moment in self.moments:
            yield f"{clock(moment.at, now, zone):>19}   {moment.sentence}"
        if not self.moments:
            yield "Nothing has happened yet."
        yield ""
        yield from self.outlook


def of(status: Status, entries: Sequence[HistoryEntry], now: datetime, zone: tzinfo | None = None) -> Timeline:
    """The timeline of a session from its status and its history, newest first. `zone` None: this machine's."""
    told = sorted(entries, key=lambda each: each.at)
    moments = sorted(
        (
            each
            for number, entry in enumerate(told)
            for each in _moments(entry, told[:number], _wait(status, told, entry, now))
        ),
        key=lambda each: each.at,
    )
    last = status.last_activity
    if last is not None and status.phase in ("ready", "waking") and all(each.at < last for each in moments):
        moments.append(Moment(last, f"Last activity ({status.activity_source or 'its source is not known'})."))
    reason = _beginning(status.reason)
    known = bool(reason) and any(each.kind == "failure" and _beginning(each.reason) == reason for each in told)
    return Timeline(_headline(status), tuple(moments), tuple(_outlook(status, now, zone, reason_told=known)))


def _beginning(reason: str | None) -> str:
    """What a history keeps of a reason, at most."""
    return (reason or "")[:_KEPT].rstrip(".")


def _wait(status: Status, entries: Sequence[HistoryEntry], entry: HistoryEntry, now: datetime) -> str:
    """What a wake waits for that is still under way; empty for any other entry. `entries`: the oldest first."""
    rounds = [each for each in entries if each.kind in ("wake", "sleep")]
    if not rounds or entry is not rounds[-1] or entry.kind != "wake" or entry.ready_at is not None:
        return ""
    if status.phase == "failed":
        return "it has failed"
    if status.phase != "waking":
        return ""
    waits = duration(max(0.0, (now - entry.at) / timedelta(seconds=1)))
    return f"it has been waking for {waits}: {_stage(status)}"


def _stage(status: Status) -> str:
    if status.reason:
        return status.reason.rstrip(".")
    if status.replicas == 0:
        return "its pod has not been requested yet"
    if status.awake_since is None:
        return "its pod is being created"
    return "its pod is there and is not ready yet"


def _moments(entry: HistoryEntry, before: Sequence[HistoryEntry], wait: str) -> Iterator[Moment]:
    """`before`: the entries before it. `wait`: what a wake waits for that is still under way, or empty."""
    kind: str = entry.kind  # a newer service may have more
    if kind == "wake":
        yield Moment(entry.at, _wake(entry, wait))
    elif kind == "sleep":
        woken = max((each.at for each in before if each.kind == "wake"), default=None)
        if entry.idle_since is not None and (woken is None or entry.idle_since > woken + _SAME):
            yield Moment(entry.idle_since, "Last activity before the sleep.")
        yield Moment(entry.at, _sleep(entry))
    elif kind == "failure":
        yield Moment(entry.at, f"Failed: {(entry.reason or 'the reason is not known').rstrip('.')}.")
    elif kind == "upgrade":
        yield Moment(entry.at, f"Its release was upgraded{f' by {entry.by}' if entry.by else ''}.")
        if entry.ready_at is not None:
            yield Moment(entry.ready_at, _replaced(entry))
    elif kind == "deletion-warning":
        yield Moment(entry.at, f"Warning: {entry.reason or 'it will be deleted'}.")
    elif kind == "revocation":
        yield Moment(entry.at, f"All sign-ins to it were revoked{f' by {entry.by}' if entry.by else ''}.")
    else:
        yield Moment(entry.at, f"{kind}, which this version of user-pods does not know.")


def _wake(entry: HistoryEntry, wait: str) -> str:
    if entry.by is None:
        began = "Its pod was replaced or restored"
    else:
        began = f"Woken by {_WAKERS.get(entry.by, f'a caller with the API key {entry.by}')}"
    if wait:
        return f"{began}; {wait}."
    if entry.ready_at is None:
        return f"{began}; it did not become ready."
    return f"{began}; ready after {duration(entry.seconds or 0)}."


def _replaced(entry: HistoryEntry) -> str:
    """Of an upgrade."""
    took = f", {duration(entry.seconds)} after it was created" if entry.seconds is not None else ""
    return f"The upgrade had replaced the pod; the new one was ready{took}."


def _sleep(entry: HistoryEntry) -> str:
    awake = f" It had been awake for {duration(entry.seconds)}." if entry.seconds else ""
    interrupted = " A program was still working in it." if entry.interrupted else ""
    if entry.cause == "asked" and entry.by:
        return (
            f"Sent to sleep by {_SENDERS.get(entry.by, f'a caller with the API key {entry.by}')}.{awake}{interrupted}"
        )
    why = _SLEEPS.get(entry.cause or "", f"Went to sleep ({entry.cause or 'why is not known'})")
    if entry.cause == "idle":
        since = (entry.at - entry.idle_since) / timedelta(seconds=1) if entry.idle_since else None
        why = "Went to sleep: nobody had used it" + (f" for {duration(since)}" if since is not None else "")
    return f"{why}.{awake}{interrupted}"


def _headline(status: Status) -> str:
    states = {
        "asleep": "is asleep",
        "waking": "is waking",
        "ready": "is awake",
        "failed": "has failed",
        "deleting": "is being deleted",
        "released": "has no Helm release any more; its volume is kept",
    }
    return f"Session {status.uuid} of {status.session.user_id} {states.get(status.phase, f'is {status.phase}')}."


def _outlook(status: Status, now: datetime, zone: tzinfo | None, *, reason_told: bool) -> Iterator[str]:
    """What is true now, and what comes next. `reason_told`: the timeline has the reason."""
    if status.reason and not (reason_told and status.phase == "failed"):
        yield f"{'Reason' if status.phase == 'failed' else 'What delays it'}: {status.reason.rstrip('.')}."
    if status.phase == "failed":
        yield "It does not recover by itself." if status.final else "Kubernetes tries again."
        yield next_step(status.uuid, status.reason)
    if status.phase == "asleep":
        yield f"It wakes on a visit, or by `user-pods wake {status.uuid}`."
    if status.phase == "released":
        yield f"`user-pods create {status.session.user_id}` installs it again."
    if status.phase in ("ready", "waking"):
        yield from _sleep_ahead(status, now, zone)
    if status.warning:
        yield f"Needs attention: {status.warning.rstrip('.')}."


def _sleep_ahead(status: Status, now: datetime, zone: tzinfo | None) -> Iterator[str]:
    if status.kept_until is not None:
        yield f"Somebody asked to keep it awake until {clock(status.kept_until, now, zone)}."
    elif status.kept_awake_by not in (None, "cooldown"):
        source = str(status.kept_awake_by)
        yield f"It is kept awake by {_KEEPERS.get(source, f'activity ({source})')}."
    if status.sleeps_at is not None:
        left = max(0.0, (status.sleeps_at - now) / timedelta(seconds=1))
        yield f"Without further activity it sleeps at {clock(status.sleeps_at, now, zone)}, in {duration(left)}."
    else:
        yield "Nothing says when it sleeps: tokens without an expiry keep it awake."
