"""The command that brings releases to the chart and the chart values of new ones."""

import importlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

import user_pods_client
from user_pods_client.cli import arguments, output
from user_pods_client.cli.connection import connect, find
from user_pods_client.cli.exits import ExitCode
from user_pods_client.cli.output import Format
from user_pods_client.cli.text import count, printable, roughly
from user_pods_client.errors import NoAnswer, ServiceProblem
from user_pods_client.models import Upgrade, UpgradeRun

_PAGE = 500
_PAUSE = 1.0
"""Seconds between two looks."""
_ACTIVE = ("running", "waiting-for-canary")
_GOES_ON = "The upgrade goes on. `user-pods upgrade --status` shows it, `user-pods upgrade --stop` stops it."
_GO_ON = "`user-pods upgrade --all` goes on with what is left."
_OTHERWISE = (
    "Once all its replicas do, `user-pods upgrade --stop` ends this upgrade, and `user-pods upgrade --all` begins one"
    " to their revision"
)
_ALONE = "name one session or its user, or give one of --all, --status, --continue and --stop"


def upgrade(
    context: typer.Context,
    who: Annotated[str, typer.Argument(metavar="[WHO]", help="One session's id or its user's id.")] = "",
    *,
    all_: Annotated[bool, typer.Option("--all", help="Upgrade all sessions.")] = False,
    only_asleep: Annotated[
        bool, typer.Option("--only-asleep", help="End without those in use, instead of waiting until they sleep.")
    ] = False,
    max_parallel: Annotated[int, typer.Option(min=1, max=64, help="How many at a time.")] = 2,
    canary: Annotated[
        int,
        typer.Option(
            min=0, max=1000, help="Upgrade this many first, the rest when they have become ready or by --continue."
        ),
    ] = 0,
    max_failures: Annotated[int, typer.Option(min=1, max=1000, help="Stop at the failure of this number.")] = 2,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --all: list what it would upgrade, in its order, and do nothing.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Show how it goes on until it has ended.")] = True,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Show the upgrade of all sessions.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="With --status: show how it goes on until it has ended.")
    ] = False,
    continue_: Annotated[
        bool, typer.Option("--continue", help="Upgrade the rest without waiting for the canaries.")
    ] = False,
    stop: Annotated[
        bool, typer.Option("--stop", help="Begin no further session. What is being upgraded is finished.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="With WHO: upgrade it though it is awake; its pod may be replaced.")
    ] = False,
    format_: output.Output = Format.TABLE,
) -> None:
    """Upgrade releases to the chart and the chart values that new sessions get.

    With --all, sleeping sessions are upgraded and stay asleep. Users at work notice nothing: their sessions are
    upgraded when they sleep, so that it may take days until all are. A release that fails is rolled back.

    The service does it, so Ctrl-C ends nothing. Run it again to follow an upgrade that is under way, or to go on with
    what is left after a stop, a failure, or a loss of Redis.
    """
    if [bool(who), all_, status, continue_, stop].count(True) != 1 or (restart and not who) or (follow and not status):
        raise typer.BadParameter(_ALONE)
    if dry_run and not all_:
        raise typer.BadParameter(_ALONE)
    with connect(context) as pods:
        if who:
            _one(pods, who, restart=restart, format_=format_)
        elif follow:
            _wait(pods, pods.show_upgrade(), format_)
        elif dry_run:
            _preview(pods, canary=canary, only_asleep=only_asleep, format_=format_)
        elif not all_:
            chosen = pods.show_upgrade if status else pods.continue_upgrade if continue_ else pods.stop_upgrade
            _show(chosen(), format_)
        else:

            def start() -> Upgrade:
                return pods.start_upgrade(
                    only_asleep=only_asleep, max_parallel=max_parallel, canary=canary, max_failures=max_failures
                )

            _all(pods, start, only_asleep=only_asleep, canary=canary, yes=yes, wait=wait, format_=format_)


def _one(pods: "user_pods_client.Client", who: str, *, restart: bool, format_: Format) -> None:
    done = pods.upgrade(find(pods, who).uuid, restart=restart)
    state = "is upgraded" if done.changed else "was up to date"
    said = f"Session {done.uuid} {state}: revision {printable(done.revision)}."
    output.show(output.rendered(done, format_, table=lambda: said, names=lambda: [done.uuid]))


def _all(
    pods: "user_pods_client.Client",
    start: Callable[[], Upgrade],
    *,
    only_asleep: bool,
    canary: int,
    yes: bool,
    wait: bool,
    format_: Format,
) -> None:
    found = pods.show_upgrade()
    if found.run is not None and _is_active(found.run):
        by = printable(found.run.started_by)
        typer.echo(f"An upgrade by {by} is under way already: it goes on with its own options.", err=True)
    elif _left(found) == 0:
        _show(found, format_)
        return
    elif not yes:
        typer.echo(f"To {printable(found.target)}. `user-pods upgrade --all --dry-run` lists which.", err=True)
        arguments.confirm(_question(found, only_asleep=only_asleep, canary=canary))
    found = start()
    if not wait:
        typer.echo(_GOES_ON, err=True)
        _show(found, format_)
        return
    _wait(pods, found, format_)


def _wait(pods: "user_pods_client.Client", found: Upgrade, format_: Format) -> None:
    """Follow the upgrade, and end with a code that says whether it has done everything."""
    ended = found if found.run is None else _follow(pods, found)
    _show(ended, format_)
    if found.run is None:
        return
    if ended.run is None or ended.run.state != "done" or _failed(ended):
        raise typer.Exit(ExitCode.FAILED)


def _failed(found: Upgrade) -> bool:
    """Whether there is a failure that nothing has mended since."""
    return found.run is not None and bool(found.run.failures) and found.counts.failed + found.counts.broken > 0


def _preview(pods: "user_pods_client.Client", *, canary: int, only_asleep: bool, format_: Format) -> None:
    found = pods.show_upgrade()
    outdated = [each for each in pods.sessions(page_size=_PAGE) if each.outdated and each.phase != "deleting"]
    # As the service goes: those that are asleep, by id.
    outdated.sort(key=lambda each: (each.replicas > 0, each.uuid))
    awake = "not: it is in use" if only_asleep else "once it sleeps"
    rows = []
    for number, each in enumerate(outdated):
        when = awake if each.replicas else "first, as a canary" if number < canary else "now"
        if canary and not each.replicas and number >= canary:
            when = "when the canaries are ready"
        release = each.release
        source = f"{release.chart or 'a chart'}, {release.made_from or 'unknown values'}" if release else ""
        rows.append((each.uuid, each.session.user_id, source, when))
    document = {
        "target": found.target,
        "sessions": [
            {"uuid": uuid, "user_id": user, "from": source, "when": when} for uuid, user, source, when in rows
        ],
    }
    said = f"{count(len(rows), 'session')} of {found.counts.total} would be upgraded to {printable(found.target)}."
    table = output.columns(("SESSION", "USER", "FROM", "WHEN"), rows)
    text = f"{said} Nothing was done.\n\n{table}" if rows else "All sessions are up to date."
    output.show(output.rendered(document, format_, table=lambda: text, names=lambda: [row[0] for row in rows]))


def _question(found: Upgrade, *, only_asleep: bool, canary: int) -> str:
    counts = found.counts
    rest = f"leave {counts.awake} that are in use" if only_asleep else f"{counts.awake} that are in use once they sleep"
    now = f"{counts.asleep + counts.failed} that are asleep now"
    first = f", {canary} first as {'a canary' if canary == 1 else 'canaries'}" if canary else ""
    return f"Of {count(counts.total, 'session')}, upgrade {now}{', and ' + rest if counts.awake else ''}{first}?"


def _follow(pods: "user_pods_client.Client", found: Upgrade) -> Upgrade:
    """Show how it goes on until it has ended. A service that is away for a moment ends nothing."""
    try:
        with _line() as show:
            while _is_active(found.run):
                show(_progress(found))
                time.sleep(_PAUSE)
                found = _look(pods, found)
    except KeyboardInterrupt:
        typer.echo(f"\n{_GOES_ON}", err=True)
        raise
    return found


def _look(pods: "user_pods_client.Client", before: Upgrade) -> Upgrade:
    try:
        return pods.show_upgrade()
    except NoAnswer:
        return before
    except ServiceProblem as problem:
        if problem.status < 500 and problem.status != 429:
            raise
        return before


@contextmanager
def _line() -> Iterator[Callable[[str], None]]:
    """Shows a line that changes on a terminal, and a line per change elsewhere."""
    last: list[str] = []

    def write(text: str) -> None:
        if last != [text]:
            last[:] = [text]
            sys.stderr.write(text + "\n")

    if not sys.stderr.isatty():
        yield write
        return
    console: Any = importlib.import_module("rich.console").Console(stderr=True, markup=False, highlight=False)
    text_of: Any = importlib.import_module("rich.text").Text
    with console.status("") as spinner:
        yield lambda text: spinner.update(text_of(text))


def _is_active(run: UpgradeRun | None) -> bool:
    return run is not None and run.state in _ACTIVE


def _left(found: Upgrade) -> int:
    return found.counts.asleep + found.counts.awake + found.counts.failed


def _progress(found: Upgrade) -> str:
    run, counts = found.run, found.counts
    done = "up to date" if run is None or run.target != found.target else "upgraded"
    text = f"{counts.upgraded} of {counts.total} {done}"
    parts = {"to do": counts.asleep, "awake": counts.awake, "failed": counts.failed, "broken": counts.broken}
    text = ", ".join([text, *(f"{number} {name}" for name, number in parts.items() if number)])
    if run is not None and _is_active(run) and run.target != found.target:
        return f"{text}; it waits: the service that answers installs another revision. {_OTHERWISE}"
    if run is not None and run.state == "waiting-for-canary":
        return (
            f"{text}; {len(run.ready_canaries)} of {run.canary} canaries have become ready."
            f"{_to_wake(run)} `user-pods upgrade --continue` does not wait for the others"
        )
    if run is not None and _is_active(run) and counts.awake and not counts.asleep and not run.only_asleep:
        return f"{text}; it goes on when they sleep"
    if found.seconds_left is not None:
        return f"{text}; about {roughly(found.seconds_left)} left" + (" without those awake" if counts.awake else "")
    return text


def _to_wake(run: UpgradeRun) -> str:
    """What a canary needs to become ready: sleepers are upgraded, and stay asleep."""
    left = next((each for each in run.canaries if each not in run.ready_canaries), None)
    return f" One that sleeps has to be woken for that: `user-pods wake {left}`, or a visit." if left else ""


def _show(found: Upgrade, format_: Format) -> None:
    failures = found.run.failures if found.run is not None else []
    output.show(
        output.rendered(
            found, format_, table=lambda: _table(found), names=lambda: [failure.uuid for failure in failures]
        )
    )


def _table(found: Upgrade) -> str:
    run, lines = found.run, [_headline(found)]
    if run is not None and run.canaries and _is_active(run):
        lines.append(f"Canaries: {', '.join(run.canaries)}.")
    if run is not None and _failed(found):
        rows = [(failure.uuid, failure.reason) for failure in run.failures]
        lines += ["", output.columns(("FAILED", "REASON"), rows), ""]
        lines.append("`user-pods upgrade WHO` tries one again, `user-pods upgrade --all` all that are left.")
    return "\n".join(lines)


def _headline(found: Upgrade) -> str:
    run, numbers = found.run, _progress(found)
    if run is None or (run.state == "done" and _left(found)):
        left = _left(found)
        state = "are up to date" if left == 0 else "can be upgraded: `user-pods upgrade --all`"
        return f"Sessions {state}. {numbers}."
    if run.state in ("failed", "stopped"):
        why = f"has stopped after {count(len(run.failures), 'failure')}" if run.state == "failed" else "was stopped"
        return f"The upgrade {why}. {numbers}." + (f" {_GO_ON}" if _left(found) else "")
    states = {"running": "is under way", "waiting-for-canary": "waits", "done": "is done"}
    return f"The upgrade {states.get(run.state, f'is {run.state}')}. {numbers}."
