"""Commands that create, find and delete sessions."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Annotated

import typer

import user_pods_client
from user_pods_client.cli import arguments, output
from user_pods_client.cli.connection import connect, find, own_user
from user_pods_client.cli.output import Format
from user_pods_client.cli.text import ago, printable
from user_pods_client.models import CreatedSession, IdleTimes, Phase, ProfileList, Status
from user_pods_client.problems import DoesNotFit, InvalidUserId, NotFound

_NONE = "There are no sessions yet. `user-pods create USER` makes one."
_PHASES: tuple[Phase, ...] = ("asleep", "waking", "ready", "failed", "deleting", "released")


def _phase(value: str) -> Phase:
    for phase in _PHASES:
        if value == phase:
            return phase
    raise typer.BadParameter(f"choose one of {', '.join(_PHASES)}")


def _phases(incomplete: str) -> list[str]:
    return [phase for phase in _PHASES if phase.startswith(incomplete)]


def create(
    context: typer.Context,
    user: Annotated[
        str | None,
        typer.Argument(
            metavar="USER",
            help="The user's id, for example john@example.com. Not needed with a key for one user.",
            show_default=False,
        ),
    ] = None,
    *,
    cooldown: Annotated[
        int | None,
        typer.Option(
            parser=arguments.seconds,
            metavar="DURATION",
            help="Time without activity until it sleeps, if this call installs it: 600, 10m or 1h, for example.",
        ),
    ] = None,
    background: Annotated[
        float | None,
        typer.Option(
            parser=arguments.seconds,
            metavar="DURATION",
            help="Time for which a working program may keep it awake: 1800 or 30m, for example; 0: not at all.",
        ),
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="Profile, if this call makes the session; `user-pods profiles` lists them.")
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="Group whose limit on awake sessions it counts for, if this call makes it.")
    ] = None,
    format_: output.Output = Format.TABLE,
) -> None:
    """Create the session of a user, asleep. If there is one already, it stays as it is."""
    idle = None if cooldown is None and background is None else IdleTimes(cooldown=cooldown, background=background)
    if user == "":
        raise typer.BadParameter("a user's id has 1 to 254 characters, none of them a space", param_hint="USER")
    with connect(context) as pods:
        user = user or own_user(pods, missing="name the user: your key is not for one user only")
        # What the service answers tells neither whether it is new nor whether it took the idle times.
        before = _of_user(pods, user)
        created = pods.create(user, idle=idle, profile=profile, group=group)
    already = any(each.release is not None for each in before)
    which = f"the session {created.uuid} already" if already else f"the new session {created.uuid}"
    if before and not already:
        which = f"the session {created.uuid} again: its release had been removed"
    said = f"{printable(created.user_id)} has {which}. `user-pods open {created.uuid}` opens it."
    output.show(output.rendered(created, format_, table=lambda: said, names=lambda: [created.uuid]))
    if already and idle is not None:
        output.say(f"It was there before and keeps its idle times, not {_options(cooldown, background)}.", err=True)
    for remark in _kept(created, profile, group):
        output.say(remark, err=True)


def _of_user(pods: "user_pods_client.Client", user: str) -> Sequence[Status]:
    """Nobody, for an id that no user can have: creating a session is what fails then."""
    try:
        return pods.list_sessions(user_id=user, limit=1).sessions
    except (DoesNotFit, InvalidUserId):
        return []


def _options(cooldown: int | None, background: float | None) -> str:
    given = {"--cooldown": cooldown, "--background": background}
    return " and ".join(f"{name} {value:g}" for name, value in given.items() if value is not None)


def _kept(created: CreatedSession, profile: str | None, group: str | None) -> Iterator[str]:
    """What was asked for and the session has otherwise, and what may be a mistake."""
    if profile is not None and created.profile != profile:
        has = f"the profile {printable(created.profile)}" if created.profile else "no profile"
        yield f"It was there before and keeps what it has: {has}, not {printable(profile)}."
    if group is not None and created.group != group:
        counts = f"the group {printable(created.group)}" if created.group else "no group"
        yield f"It was there before and still counts for {counts}, not {printable(group)}."
    if created.warning:
        yield f"Warning: {printable(created.warning)}."


def profiles(context: typer.Context, format_: output.Output = Format.TABLE) -> None:
    """List the profiles that `create --profile` can choose from."""
    with connect(context) as pods:
        known = pods.profiles()
    output.show(
        output.rendered(
            known,
            format_,
            table=lambda: _profiles(known),
            names=lambda: [each.name for each in known.profiles],
        )
    )


def _profiles(known: ProfileList) -> str:
    rows = [(each.name, "yes" if each.name == known.default else "", each.description) for each in known.profiles]
    return output.columns(("NAME", "DEFAULT", "DESCRIPTION"), rows) if rows else "This service has no profiles."


def list_(
    context: typer.Context,
    *,
    user: Annotated[str | None, typer.Option(help="Only this user's session.")] = None,
    phase: Annotated[
        str | None,
        typer.Option(parser=_phase, metavar="PHASE", help=f"Only one of {', '.join(_PHASES)}.", autocompletion=_phases),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many. Default: all.")] = None,
    format_: output.Output = Format.TABLE,
    watch: output.Watch = False,
) -> None:
    """List sessions, ordered by id."""
    with connect(context) as pods:

        def read() -> output.Drawing:
            chosen = _phase(phase) if phase else None
            none = "There are no such sessions." if user or chosen else _NONE
            found = list(islice(pods.sessions(user_id=user, phase=chosen, page_size=min(limit or 200, 200)), limit))
            return lambda now: output.rendered(
                found, format_, table=lambda: _table(found, now, none=none), names=lambda: [each.uuid for each in found]
            )

        output.watch(read, again=watch)


def show(
    context: typer.Context,
    who: arguments.Who = "",
    format_: output.Output = Format.TABLE,
    watch: output.Watch = False,
) -> None:
    """Show one session: its phase, what keeps it awake, when it sleeps."""
    with connect(context) as pods:

        def read() -> output.Drawing:
            found = find(pods, who)
            upgrades = format_ is Format.TABLE and bool(found.outdated) and _is_operator(pods)
            return lambda now: output.rendered(
                found,
                format_,
                table=lambda: _details(found, now, upgrades=upgrades),
                names=lambda: [found.uuid],
            )

        output.watch(read, again=watch)


def _is_operator(pods: "user_pods_client.Client") -> bool:
    try:
        return pods.whoami().role == "operator"
    except NotFound:  # a service of before there were roles
        return True


def delete(
    context: typer.Context,
    who: arguments.Named,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    delete_data: Annotated[
        bool, typer.Option("--delete-data", help="Delete the volume too: all files of the user.")
    ] = False,
) -> None:
    """Delete a session. The user's files are kept for the user's next session, unless you say otherwise."""
    with connect(context) as pods:
        found = find(pods, who)
        data = "AND ALL FILES IN IT; that cannot be undone" if delete_data else "and keep its files"
        if not yes:
            question = f"Delete session {found.uuid} of {printable(found.session.user_id)} {data}?"
            arguments.confirm(question)
        pods.delete(found.uuid, keep_data=not delete_data)
    files = "with all its files" if delete_data else "and its files are kept for the user's next session"
    output.say(f"Session {found.uuid} of {printable(found.session.user_id)} is deleted, {files}.")


def _table(found: Sequence[Status], now: datetime, *, none: str) -> str:
    heads = ("ID", "USER", "PHASE", "LAST ACTIVITY", "SLEEPS", "NOTE")
    return output.columns(heads, [_row(each, now) for each in found], none=none)


def _row(status: Status, now: datetime) -> tuple[str, ...]:
    note = status.warning or status.reason or status.kept_awake_by or ""
    last, sleeps = ago(status.last_activity, now), ago(status.sleeps_at, now)
    return status.uuid, status.session.user_id, status.phase, last, sleeps, note[:80]


def _details(status: Status, now: datetime, *, upgrades: bool) -> str:
    """`upgrades`: whether the reader may upgrade it."""
    release = status.release and f"{status.release.name}, revision {status.release.revision}, {status.release.state}"
    outdated = "yes: "
    outdated += (
        f"`user-pods upgrade {status.uuid}` brings it to today's chart values"
        if upgrades
        else "an operator can bring it to today's chart values"
    )
    return output.fields(
        [
            ("Id", status.uuid),
            ("User", status.session.user_id),
            ("Profile", status.profile or ""),
            ("Group", status.group or ""),
            ("Phase", status.phase),
            ("Reason", status.reason or ""),
            ("Warning", status.warning or ""),
            ("Last activity", _at(status.last_activity, now, status.activity_source)),
            ("Kept awake by", status.kept_awake_by or ""),
            ("Kept until", _at(status.kept_until, now)),
            ("Sleeps at", _at(status.sleeps_at, now)),
            ("Deleted at", _at(status.deletes_at, now, status.deletes_because)),
            ("Not deleted before", _at(status.spared_until, now, "kept")),
            ("Created", _at(status.created_at, now)),
            ("Release", release or "none"),
            ("Out of date", outdated if status.outdated else ""),
            ("Chart", (status.release and status.release.chart) or ""),
            ("Parked", "yes" if status.parked else "no"),
            ("Data behind", "" if status.behind_seconds is None else f"up to {status.behind_seconds:g} s"),
        ]
    )


def _at(at: datetime | None, now: datetime, source: str | None = None) -> str:
    if at is None:
        return ""
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S %Z} ({ago(at, now)}{f', {source}' if source else ''})"
