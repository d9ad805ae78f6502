"""Commands that wake, open, keep awake and send to sleep."""

import enum
import time
from typing import Annotated, Literal

import typer

from user_pods_client.cli import arguments, browser, output
from user_pods_client.cli.connection import connect, find
from user_pods_client.cli.output import Format
from user_pods_client.cli.progress import Progress
from user_pods_client.cli.text import printable


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
    began = time.monotonic()
    with connect(context) as pods:
        uuid = find(pods, who).uuid
        pods.wake(uuid)
        if wait:
            with Progress(f"Waking {uuid}") as progress:
                for event in pods.events(uuid, timeout=timeout):
                    progress.show(event)
            pods.wait_ready(uuid, timeout=max(1.0, timeout - (time.monotonic() - began)))
        status = pods.status(uuid)
    said = f"Session {uuid} is awake. `user-pods open {uuid}` opens it." if wait else f"Session {uuid} is waking."
    output.show(output.rendered(status, format_, table=lambda: said, names=lambda: [uuid]))


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
        done = pods.sleep(find(pods, who).uuid, now=now)
    output.show(
        output.rendered(
            done,
            format_,
            table=lambda: f"Session {done.uuid} goes to sleep. `user-pods wait {done.uuid} --for=asleep` waits for it.",
            names=lambda: [done.uuid],
        )
    )


def extend(
    context: typer.Context, who: arguments.Named, duration: arguments.Duration, format_: output.Output = Format.TABLE
) -> None:
    """Keep an awake session awake for a time from now, whether it is used or not."""
    with connect(context) as pods:
        done = pods.extend(find(pods, who).uuid, duration)
    until = f"{done.kept_until.astimezone():%Y-%m-%d %H:%M:%S}" if done.kept_until else "the end of that time"
    said = f"Session {done.uuid} stays awake until {until}."
    output.show(output.rendered(done, format_, table=lambda: said, names=lambda: [done.uuid]))


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
        typer.echo("No browser could be started here: open the link in one yourself.", err=True)


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
    typer.echo(f"All sign-ins to session {found.uuid} are refused from now on. A new link opens it again.")


def wait(
    context: typer.Context,
    who: arguments.Who = "",
    goal: Annotated[Goal, typer.Option("--for", help="What to wait for.")] = Goal.READY,
    timeout: arguments.Timeout = "5m",  # type: ignore[assignment]
) -> None:
    """Wait until a session is ready, asleep or deleted. It does not wake it."""
    with connect(context) as pods:
        uuid = find(pods, who).uuid
        goals: dict[Goal, Literal["ready", "asleep"]] = {Goal.READY: "ready", Goal.ASLEEP: "asleep"}
        if goal in goals:
            pods.wait(uuid, goals[goal], timeout=timeout)
        else:
            pods.wait(uuid, "deleted", timeout=timeout)
    typer.echo(f"Session {uuid} is {goal.value}.")
