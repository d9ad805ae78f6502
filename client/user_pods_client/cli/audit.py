"""The command that tells who has done what."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice, takewhile
from shlex import quote
from typing import Annotated, NoReturn

import typer

import user_pods_client
from user_pods_client import problems
from user_pods_client.cli import arguments, output
from user_pods_client.cli.connection import connect, find, is_id
from user_pods_client.cli.exits import NotFound
from user_pods_client.cli.output import Format
from user_pods_client.cli.text import clock, printable
from user_pods_client.decoding import to_json
from user_pods_client.errors import ServiceProblem
from user_pods_client.models import AuditEntry

_PAUSE = 2.0
"""Seconds between two looks for new entries."""
_LATE = timedelta(seconds=90)
"""How much later than a newer one an entry may appear: each replica writes its own in the background, and the last of
equal ones after a minute."""
_OPERATIONS = frozenset(
    {
        "activity", "audit", "continue_upgrade", "create", "delete", "diagnosis", "end_extension", "events", "extend",
        "fix", "history", "keep", "list_sessions", "metrics", "open", "profiles", "restart", "revoke", "show_upgrade",
        "sign_in", "sign_out", "sleep", "start_upgrade", "status", "stop_upgrade", "summary", "upgrade", "wake",
        "whoami",
    }
)  # fmt: skip
"""What the service enters, those that only read when they were refused. A newer one may have more."""
_MEANINGS = {
    each.slug: " ".join((each.__doc__ or "").split())
    for each in vars(problems).values()
    if isinstance(each, type) and issubclass(each, ServiceProblem) and each is not ServiceProblem
}
_HEADS = ("TIME", "WHO", "ROLE", "DID", "SESSION", "USER", "RESULT", "REPEATS", "REQUEST")

_LEAST = (8, 12, 8, 13, 8, 20, 17, 7, 7)
"""Characters of each column where what comes is not known yet."""


class _Lines:
    """A table that is printed line by line. Its columns fit what was there at first, and grow with what comes."""

    def __init__(self, found: Sequence[AuditEntry], zone: tzinfo | None) -> None:
        self._zone = zone
        self._widths = list(_LEAST)
        for cells in map(self._cells, found):
            self._widen(cells)
        self._print(_HEADS)

    def add(self, entry: AuditEntry) -> None:
        self._print(self._cells(entry))

    def _cells(self, entry: AuditEntry) -> tuple[str, ...]:
        return tuple(printable(cell) or "-" for cell in _row(entry, self._zone))

    def _print(self, cells: Sequence[str]) -> None:
        self._widen(cells)
        line = "   ".join(cell.ljust(width) for cell, width in zip(cells, self._widths, strict=True))
        typer.echo(line.rstrip())

    def _widen(self, cells: Sequence[str]) -> None:
        self._widths = [max(width, len(cell)) for width, cell in zip(self._widths, cells, strict=True)]


class _Filter:
    """Which entries are asked for. The service filters by session, caller and user, the rest is done here."""

    def __init__(
        self,
        *,
        uuid: str | None,
        caller: str | None,
        user: str | None,
        operation: str | None,
        failed: bool,
        since: datetime | None,
    ) -> None:
        self._uuid = uuid
        self._caller = caller
        self._user = user
        self._operation = operation
        self._failed = failed
        self._since = since

    def entries(self, pods: "user_pods_client.Client", since: datetime | None = None) -> Iterator[AuditEntry]:
        """Newest first; those after `since` alone."""
        start = max(filter(None, (since, self._since)), default=None)
        found = pods.audit_entries(uuid=self._uuid, caller=self._caller, user_id=self._user)
        if start is not None:
            # Entries of several replicas are only nearly in the order of their times.
            recent = takewhile(lambda each: each.at >= start - _LATE, found)
            found = (each for each in recent if each.at >= start)
        return (each for each in found if self._has(each))

    def _has(self, entry: AuditEntry) -> bool:
        return self._operation in (None, entry.operation) and not (self._failed and entry.result == "done")


class _Tail:
    """New entries, as they come. What is there when it is made is not new."""

    def __init__(self, pods: "user_pods_client.Client", chosen: _Filter) -> None:
        self._pods = pods
        self._chosen = chosen
        self._newest: AuditEntry | None = None
        """The last of all entries that it has looked at."""
        self._seen: set[AuditEntry] = set()
        self._read()

    def follow(self, found: Sequence[AuditEntry], show: Callable[[AuditEntry], None]) -> NoReturn:
        """Show what was found, and then each new entry."""
        self._seen |= set(found)
        for entry in reversed(found):
            show(entry)
        while True:
            time.sleep(_PAUSE)
            for entry in output.looked(self._read) or ():
                show(entry)

    def _read(self) -> Sequence[AuditEntry]:
        """Those that it has not seen yet, oldest first."""
        newest = next(iter(self._pods.audit(limit=1).entries), None)
        if newest == self._newest:
            return ()
        last = self._newest or newest
        entries = list(self._chosen.entries(self._pods, last.at - _LATE if last is not None else None))
        new = [entry for entry in reversed(entries) if entry not in self._seen]
        self._newest, self._seen = newest, set(entries)
        return new


def audit(
    context: typer.Context,
    who: Annotated[
        str,
        typer.Argument(
            metavar="WHO", help="Only this session: its id or its user's. A deleted one: its id, or --user."
        ),
    ] = "",
    *,
    by: Annotated[
        str | None, typer.Option(metavar="CALLER", help="Only this caller: a key's name, or a person's user id.")
    ] = None,
    user: Annotated[
        str | None, typer.Option(metavar="USER", help="Only this user's sessions, deleted ones included.")
    ] = None,
    operation: Annotated[str | None, typer.Option(help="Only this operation, as in the column DID: sleep.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only what was refused or failed.")] = False,
    since: arguments.Since = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many, the newest.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new entries, until Ctrl-C.")] = False,
    format_: Annotated[
        Format, typer.Option("--output", "-o", help="`name`: ids of requests. With -f, `json` is an object per line.")
    ] = Format.TABLE,
    utc: arguments.Utc = False,
) -> None:
    """List who has changed what, and who was refused: newest first, or with -f newest last. For operators.

    REPEATS says how many equal requests were left out between the entry before and this one: what a program or user
    does again within a minute is entered once, and the last of them when the minute is over.
    """
    start = None if since is None else datetime.now(UTC) - timedelta(seconds=since)
    zone = arguments.zone(utc=utc)
    with connect(context) as pods:
        chosen = _Filter(
            uuid=_uuid(pods, who) if who else None,
            caller=by,
            user=user,
            operation=operation,
            failed=failed,
            since=start,
        )
        tail = _Tail(pods, chosen) if follow else None
        found = list(islice(chosen.entries(pods), limit))
        if tail is not None:
            if not found and (note := _unknown(operation)):
                output.say(note, err=True)
            tail.follow(found, _printer(found, format_, zone))
    output.show(
        output.rendered(
            found,
            format_,
            table=lambda: _table(
                found, zone, none=" ".join(["There are no such entries.", _unknown(operation)]).strip()
            ),
            names=lambda: [each.request_id for each in found],
        )
    )


def _uuid(pods: "user_pods_client.Client", who: str) -> str:
    """Raises NotFound."""
    if is_id(who):
        return who
    try:
        return find(pods, who).uuid
    except NotFound as error:
        raise NotFound(f"{error}; if it was deleted, try `user-pods audit --user {quote(who)}`") from None


def _printer(found: Sequence[AuditEntry], format_: Format, zone: tzinfo | None) -> Callable[[AuditEntry], None]:
    """What prints an entry as it comes."""
    if format_ is Format.NAME:
        return lambda entry: typer.echo(printable(entry.request_id))
    if format_ is Format.TABLE:
        return _Lines(found, zone).add
    return lambda entry: typer.echo(json.dumps(to_json(entry)))  # JSON is YAML, and can be read line by line


def _table(found: Sequence[AuditEntry], zone: tzinfo | None, none: str) -> str:
    """The entries, and what the results among them mean."""
    results = sorted({each.result for each in found} & _MEANINGS.keys())
    meanings = [f"{result}: {printable(_MEANINGS[result])}" for result in results]
    lines = output.columns(_HEADS, [_row(each, zone) for each in found], none=none)
    return "\n".join([lines, "", *meanings] if meanings else [lines])


def _unknown(operation: str | None) -> str:
    """What to say of an operation that the audit does not have; empty if it has it."""
    if operation is None or operation in _OPERATIONS:
        return ""
    return f"No operation is called {printable(operation)}; there are: {', '.join(sorted(_OPERATIONS))}."


def _row(entry: AuditEntry, zone: tzinfo | None) -> tuple[str, ...]:
    return (
        clock(entry.at, datetime.now(UTC), zone),
        entry.person or entry.caller,
        entry.role or "",
        entry.operation,
        entry.uuid or "",
        entry.user_id or "",
        entry.result,
        str(entry.repeats or ""),
        entry.request_id,
    )
