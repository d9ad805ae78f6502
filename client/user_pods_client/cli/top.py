"""The command that shows what is awake now, and why."""

import enum
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from user_pods_client.cli import output
from user_pods_client.cli.connection import connect
from user_pods_client.cli.output import Format
from user_pods_client.cli.text import ago, count, duration
from user_pods_client.models import NodeCapacity, Status, Summary

_PAUSE = 5.0
"""Seconds between two looks: the service counts as often."""
_PAGE = 500
_RESOURCES = {"cpu": "CPU", "memory": "memory", "pods": "the number of pods"}
_HEAD = 9
"""Lines of a screen that the table does not get: the summary, its head and the prompt."""


class Order(enum.StrEnum):
    AWAKE = "awake"
    IDLE = "idle"
    SLEEPS = "sleeps"
    USER = "user"


_KEYS: Mapping[Order, Callable[[Status, datetime], Any]] = {
    Order.AWAKE: lambda each, now: each.awake_since or now,
    Order.IDLE: lambda each, now: each.last_activity or each.awake_since or now,
    Order.SLEEPS: lambda each, _now: (each.sleeps_at is None, each.sleeps_at),
    Order.USER: lambda each, _now: each.session.user_id,
}


@dataclass(frozen=True)
class _Look:
    """One answer. It is a document of `-o json`, too."""

    summary: Summary
    sessions: list[Status]


def top(
    context: typer.Context,
    *,
    sort: Annotated[
        Order, typer.Option(help="Longest awake, longest idle, the next to sleep, or by user.")
    ] = Order.AWAKE,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="At most this many sessions. Default: as many as the terminal shows, or all."),
    ] = None,
    format_: output.Output = Format.TABLE,
    watch: output.Watch = False,
) -> None:
    """Show what is awake: counts by phase, and each awake session with what keeps it awake. For operators."""
    with connect(context) as pods:

        def read() -> output.Drawing:
            summary, now = pods.summary(), datetime.now(UTC)
            awake = sorted(pods.sessions(awake=True, page_size=_PAGE), key=lambda each: _KEYS[sort](each, now))
            look = _Look(summary, awake[: limit or _room(format_)])
            return lambda at: output.rendered(
                look,
                format_,
                table=lambda: "\n".join(_lines(look, len(awake), at)),
                names=lambda: [each.uuid for each in look.sessions],
            )

        output.watch(read, again=watch, pause=_PAUSE)


def _room(format_: Format) -> int | None:
    """How many sessions a terminal shows; None: all of them."""
    if format_ is not Format.TABLE or not sys.stdout.isatty():
        return None
    return max(5, shutil.get_terminal_size().lines - _HEAD)


def _lines(look: _Look, awake: int, now: datetime) -> Sequence[str]:
    lines = [*_counts(look.summary), ""]
    if not look.sessions:
        return [*lines, "Nothing is awake."]
    heads = ("ID", "USER", "PHASE", "AWAKE FOR", "IDLE FOR", "SLEEPS", "KEPT BY", "NOTE")
    lines.append(output.columns(heads, [_row(each, now) for each in look.sessions]))
    if awake > len(look.sessions):
        lines.append(f"and {awake - len(look.sessions)} more, which a larger --limit shows")
    return lines


def _counts(summary: Summary) -> Sequence[str]:
    phases = ", ".join(f"{number} {phase}" for phase, number in summary.phases.items() if number)
    limit = f" of {summary.awake_limit} that may be" if summary.awake_limit is not None else ""
    lines = [
        f"{count(summary.sessions, 'session')}{': ' if phases else ''}{phases}",
        f"{summary.awake} awake{limit}; {count(summary.wakes_last_hour, 'wake')} within the last hour",
    ]
    lines += [f"{each.awake} of {each.awake_limit} in the group {each.group}" for each in summary.groups]
    if summary.capacity is not None:
        lines += _room_on_nodes(summary.capacity)
    if summary.wakes_pending:
        oldest = duration(summary.oldest_pending_seconds)
        lines.append(f"{count(summary.wakes_pending, 'wake')} in progress, the oldest for {oldest}")
    if summary.behind_seconds is not None:
        lines.append(f"What the service knows of the cluster is up to {duration(summary.behind_seconds)} old.")
    return lines


def _room_on_nodes(capacity: NodeCapacity) -> Sequence[str]:
    if capacity.room is None:
        return []
    size = f"{capacity.session_cpu:.3g} CPUs, {capacity.session_memory_gib:.3g} GiB"
    scarcest = _RESOURCES.get(capacity.limited_by or "", capacity.limited_by)
    nodes = count(capacity.nodes, "node")
    if not capacity.room:
        why = f"{scarcest} is used up" if scarcest else "none of them takes its pod"
        return [f"no room on {nodes} for another one of the usual size ({size}): {why}"]
    return [f"room on {nodes} for at most {capacity.room} more of the usual size ({size}); {scarcest} runs out first"]


def _row(status: Status, now: datetime) -> tuple[str, ...]:
    return (
        status.uuid,
        status.session.user_id,
        status.phase,
        _since(status.awake_since, now),
        _since(status.last_activity, now),
        ago(status.sleeps_at, now),
        status.kept_awake_by or "",
        (status.warning or status.reason or "")[:60],
    )


def _since(at: datetime | None, now: datetime) -> str:
    return "" if at is None else duration(max(1, round((now - at).total_seconds()))).replace(".0 s", " s")
