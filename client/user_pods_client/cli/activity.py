"""Commands that wake, open, keep awake and send to sleep."""

import enum
import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import typer

import user_pods_client
from user_pods_client.cli import arguments, browser, output, text
from user_pods_client.cli.connection import connect, find
from user_pods_client.cli.output import Format
from user_pods_client.cli.progress import Progress
from user_pods_client.cli.text import duration, printable
from user_pods_client.models import Status

_EXTEND = "`user-pods extend john@example.com 2h`, or `user-pods extend 2h` with a key for one user"
_KEEP = "`user-pods keep john@example.com 14d`, or `user-pods keep 14d` with a key for one user"

_CLOCKS_DIFFER = timedelta(minutes=1)
"""At most, as far as this machine's and the service's are compared."""


class Goal(enum.StrEnum):
    READY = "ready"
    ASLEEP = "asleep"
    DELETED = "deleted"


def wake(
    context: typer.Context,
    who: arguments.Who = "",
    wait: Annotated[bool, typer.Option(help="Wait until it is ready.")] = True,
    timeout: arguments.Timeout = "5m",  # type: ignore[assignment]
    format_: output.Output = Format.TABLE,
) -> None:
    """Wake a session, and wait until it is ready."""
    with connect(context) as pods:
        found = find(pods, who)
        uuid = found.uuid
        pods.wake(uuid)  # of an awake session, too: its time begins anew
        status = pods.status(uuid)
        was_ready = found.phase == status.phase == "ready"
        if wait and not was_ready:
            status = _until_ready(pods, uuid, timeout)
    state = "is awake already" if was_ready else "is awake" if wait else "is waking"
    opens = f" `user-pods open {uuid}` opens it." if status.phase == "ready" else ""
    output.show(output.rendered(status, format_, table=lambda: f"Session {uuid} {state}.{opens}", names=lambda: [uuid]))


def _until_ready(pods: "user_pods_client.Client", uuid: str, timeout: float) -> Status:
    """Show how the wake goes on. `timeout` in seconds."""
    deadline = time.monotonic() + timeout
    try:
        with Progress(f"Waking {uuid}") as progress:
            for event in pods.events(uuid, timeout=timeout):
                progress.show(event)
        return pods.wait_ready(uuid, timeout=max(1.0, deadline - time.monotonic()))
    except KeyboardInterrupt:
        output.say(
            f"\nThe wake goes on. `user-pods wait {uuid}` waits for it, `user-pods sleep {uuid}` ends it.", err=True
        )
        raise


def sleep(
    context: typer.Context,
    who: arguments.Who = "",
    now: Annotated[
        bool, typer.Option("--now", help="Do not give open pages two seconds to save: what is not saved is lost.")
    ] = False,
    format_: output.Output = Format.TABLE,
) -> None:
    """Send a session to sleep, even if somebody is using it. Files are kept, and open pages save first."""
    with connect(context) as pods:
        found = find(pods, who)
        done = pods.sleep(found.uuid, now=now)
    said = f"Session {done.uuid} goes to sleep. `user-pods wait {done.uuid} --for=asleep` waits for it."
    if found.phase == "asleep":
        said = f"Session {done.uuid} is asleep already."
    output.show(output.rendered(done, format_, table=lambda: said, names=lambda: [done.uuid]))


_Duration = Annotated[
    str, typer.Argument(metavar="DURATION", help="For example 90s, 30m, 2h, 1h30m, 14d.", show_default=False)
]


def _who_and_seconds(who: str, time_: str, usage: str, *, end: bool) -> tuple[str, int]:
    """Alone, the only argument is the time: Click itself would take it for the first one. With `end` there is none."""
    if end and time_:
        raise typer.BadParameter("give a time or --end, not both", param_hint="--end")
    if end:
        return who, 0
    who, time_ = (who, time_) if time_ else ("", who)
    try:
        seconds = text.seconds(time_)
    except ValueError as error:
        raise typer.BadParameter(f"{error}: {usage}", param_hint="DURATION") from None
    if not seconds:
        raise typer.BadParameter("the least is 1s; --end takes an earlier call back", param_hint="DURATION")
    return who, seconds


_End = Annotated[bool, typer.Option("--end", help="Take back what earlier calls did, whatever time they gave.")]


def extend(
    context: typer.Context,
    who: arguments.Who = "",
    time_: _Duration = "",
    end: _End = False,
    format_: output.Output = Format.TABLE,
) -> None:
    """Keep an awake session awake for a time from now, whether it is used or not.

    8 hours at most, unless the operator says otherwise. The latest end counts: a shorter time shortens nothing,
    `--end` does, and so does `sleep`.
    """
    who, seconds = _who_and_seconds(who, time_, _EXTEND, end=end)
    with connect(context) as pods:
        uuid = find(pods, who).uuid
        done = pods.extend(uuid, seconds)
    if end:
        said = f"The extension of session {uuid} is ended. It sleeps when nobody uses it."
    elif done.kept_until is None:
        said = f"Session {uuid} stays awake for {_span(seconds)}."
    else:
        said = f"Session {uuid} stays awake until {_when(done.kept_until, seconds, f'extend {uuid}')}"
    output.show(output.rendered(done, format_, table=lambda: said, names=lambda: [uuid]))


def keep(
    context: typer.Context,
    who: arguments.Who = "",
    time_: _Duration = "",
    end: _End = False,
    format_: output.Output = Format.TABLE,
) -> None:
    """Keep a session from the deletion that `show` announces, for a time from now. It wakes nothing.

    30 days at most, unless the operator says otherwise. The latest end counts: a shorter time shortens nothing,
    `--end` takes all back.
    """
    who, seconds = _who_and_seconds(who, time_, _KEEP, end=end)
    with connect(context) as pods:
        found = find(pods, who)
        uuid = found.uuid
        done = pods.keep(uuid, seconds)
    if end:
        said = f"Session {uuid} is not kept any more. `user-pods show {uuid}` says whether and when it is deleted."
    else:
        said = f"Session {uuid} is not deleted before {_when(done.spared_until, seconds, f'keep {uuid}')}"
        said += "" if found.deletes_at else " No deletion was announced."
    output.show(output.rendered(done, format_, table=lambda: said, names=lambda: [uuid]))


def _when(until: datetime, seconds: int, command: str) -> str:
    """The end, and whether it follows from these `seconds`: an earlier call may reach further."""
    at = f"{until.astimezone():%Y-%m-%d %H:%M:%S %Z}"
    if until - datetime.now(UTC) <= timedelta(seconds=seconds) + _CLOCKS_DIFFER:
        return f"{at}, for {_span(seconds)}."
    return f"{at}: an earlier call reaches further than {_span(seconds)}. `user-pods {command} --end` takes it back."


def _span(seconds: int) -> str:
    return duration(seconds).replace(".0 s", " s")


def open_(
    context: typer.Context,
    who: arguments.Who = "",
    to: Annotated[str, typer.Option(help="Path and query in the workspace, for example /?folder=/home/coder.")] = "/",
    start_browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open it in a browser.")] = True,
    format_: output.Output = Format.TABLE,
) -> None:
    """Open a workspace: print a link that signs in once, and start a browser with it. A sleeping one wakes.

    The link is good for a short time and for one person: whoever has it gets in.
    """
    if not to.startswith("/"):
        raise typer.BadParameter("a place in the workspace begins with /", param_hint="--to")
    with connect(context) as pods:
        opened = pods.open(find(pods, who).uuid, to=to)
    output.show(output.rendered(opened, format_, table=lambda: printable(opened.url), names=lambda: [opened.uuid]))
    if start_browser and not browser.show(opened.url):
        output.say("No browser could be started here: open the link in one yourself.", err=True)


def revoke(
    context: typer.Context,
    who: arguments.Named,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Sign every browser out of a workspace, and make all links to it void."""
    with connect(context) as pods:
        found = find(pods, who)
        user = printable(found.session.user_id)
        if not yes:
            arguments.confirm(f"Sign every browser out of session {found.uuid} of {user}?")
        pods.revoke(found.uuid)
    output.say(f"All sign-ins to session {found.uuid} are refused from now on. A new link opens it again.")


def wait(
    context: typer.Context,
    who: arguments.Who = "",
    goal: Annotated[Goal, typer.Option("--for", help="What to wait for.")] = Goal.READY,
    timeout: arguments.Timeout = "5m",  # type: ignore[assignment]
) -> None:
    """Wait until a session is ready, asleep or deleted. It does not wake it."""
    with connect(context) as pods:
        found = find(pods, who)
        uuid = found.uuid
        if found.phase != goal.value:
            output.say(_awaited(found, goal, timeout), err=True)
        goals: dict[Goal, Literal["ready", "asleep"]] = {Goal.READY: "ready", Goal.ASLEEP: "asleep"}
        if goal in goals:
            pods.wait(uuid, goals[goal], timeout=timeout)
        else:
            pods.wait(uuid, "deleted", timeout=timeout)
    output.say(f"Session {uuid} is {goal.value}.")


def _awaited(found: Status, goal: Goal, timeout: float) -> str:
    """What a wait is for, and what ends it if it does not end by itself."""
    said = f"Waiting {duration(timeout).replace('.0 s', ' s')} at most until session {found.uuid} is {goal.value}."
    if goal is Goal.READY and found.phase == "asleep":
        return f"{said} It is asleep and does not wake by itself: `user-pods wake {found.uuid}`, or a visit, wakes it."
    if goal is Goal.ASLEEP and found.phase in ("ready", "waking"):
        return f"{said} It sleeps when nobody uses it: `user-pods sleep {found.uuid}` sends it to sleep now."
    if goal is Goal.DELETED and found.phase != "deleting":
        return f"{said} Nobody deletes it yet: `user-pods delete {found.uuid}` does."
    return f"{said} It is {found.phase}."
