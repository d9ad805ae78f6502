"""The command that computes what a number of sessions needs."""

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from user_pods_client.cli import exits, output
from user_pods_client.cli.connection import reach, target
from user_pods_client.cli.exits import NotSignedIn
from user_pods_client.cli.needs import Load, Need, needs
from user_pods_client.cli.output import Format
from user_pods_client.errors import NoAnswer, ServiceProblem, UnexpectedAnswer
from user_pods_client.models import Summary
from user_pods_client.problems import Forbidden

_MOST = 10_000_000
_SESSIONS = 1000
_AWAKE_SHARE = 0.05
_WAKES_PER_AWAKE = 0.6
"""Wakes per minute: 1.2 of each awake one within two minutes, as on a busy morning."""


@dataclass(frozen=True)
class _Assumption:
    """A number that nobody has given, and where it comes from."""

    option: str
    value: float
    why: str


def plan(
    context: typer.Context,
    *,
    sessions: Annotated[int | None, typer.Option(min=1, max=_MOST, help="Sessions in all.")] = None,
    awake: Annotated[
        int | None, typer.Option(min=0, max=_MOST, help="How many of them are awake at the same time.")
    ] = None,
    wakes_per_minute: Annotated[
        float | None, typer.Option(min=0, max=_MOST, help="How many are woken per minute, when most people come.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show how each number follows from what was measured.")
    ] = False,
    format_: output.Output = Format.TABLE,
) -> None:
    """Compute what a number of sessions needs of KEDA, Redis, the API server and the service.

    What you leave out comes from the service that you are signed in to, or is assumed if there is none: the plan says
    which. For operators.
    """
    given = {"sessions": sessions, "awake": awake, "wakes_per_minute": wakes_per_minute}
    load, assumptions = _load(given, _summary(context) if None in given.values() else None)
    if not load.awake <= load.sessions:
        raise typer.BadParameter(f"of {load.sessions} sessions {load.awake} cannot be awake", param_hint="--awake")
    if math.isnan(load.wakes_per_minute):
        raise typer.BadParameter("give a number", param_hint="--wakes-per-minute")
    found = needs(load)
    document = {
        "load": asdict(load),
        "assumptions": [asdict(each) for each in assumptions],
        "needs": [asdict(each) for each in found],
    }
    output.show(
        output.rendered(
            document,
            format_,
            table=lambda: "\n".join(_lines(load, assumptions, found, explain=explain)),
            names=lambda: [f"{each.part}/{each.what}" for each in found],
        )
    )


def _summary(context: typer.Context) -> Summary | None:
    """What the service counts; None, with a remark if one is known, when it cannot be asked."""
    try:
        used = target(context)
    except NotSignedIn:
        return None
    try:
        with reach(used) as pods:
            return pods.summary()
    except Forbidden:
        output.say(
            "The service tells its numbers to operators and viewers: what you did not give is assumed.\n", err=True
        )
        return None
    except (NoAnswer, NotSignedIn, ServiceProblem, UnexpectedAnswer) as error:
        typer.echo(f"{exits.explanation(error)}So what you did not give is assumed.\n", err=True)
        return None


def _load(given: Mapping[str, float | None], running: Summary | None) -> tuple[Load, Sequence[_Assumption]]:
    """What is planned for, and what of it nobody has given."""
    assumptions: list[_Assumption] = []

    def number(option: str, otherwise: tuple[float, str]) -> float:
        found = given[option]
        if found is None:
            found, why = otherwise
            assumptions.append(_Assumption(option, found, why))
        return found

    sessions = int(number("sessions", _sessions(running)))
    awake = int(number("awake", _awake(running, sessions)))
    busy = round(awake * _WAKES_PER_AWAKE, 1), "assumed, a busy morning with that many awake"
    return Load(sessions=sessions, awake=awake, wakes_per_minute=number("wakes_per_minute", busy)), assumptions


def _sessions(running: Summary | None) -> tuple[float, str]:
    if running is not None and running.sessions:
        return running.sessions, "as many as the service has now"
    return _SESSIONS, "assumed"


def _awake(running: Summary | None, sessions: int) -> tuple[float, str]:
    share = max(1, round(sessions * _AWAKE_SHARE))
    if running is not None and running.awake_limit is not None:
        return min(running.awake_limit, sessions), "as many as may be (AWAKE_LIMIT)"
    if running is not None and share < running.awake <= sessions:
        return running.awake, "as many as the service has now"
    return share, f"assumed, {_AWAKE_SHARE:.0%} of the sessions"


def _lines(load: Load, assumptions: Sequence[_Assumption], found: Sequence[Need], *, explain: bool) -> Iterator[str]:
    yield f"For {load.sessions} sessions, {load.awake} of them awake, and {load.wakes_per_minute:g} wakes per minute:"
    for each in assumptions:
        yield f"  --{each.option.replace('_', '-')} {each.value:g}: {each.why}"
    yield ""
    yield output.columns(
        ("PART", "SETTING OR RESOURCE", "AT LEAST"), [(each.part, each.what, f"{each.amount:g}") for each in found]
    )
    yield ""
    if explain:
        yield from _explanation(found)
    else:
        yield "`--explain` shows how each number follows from what was measured."


def _explanation(found: Sequence[Need]) -> Iterator[str]:
    for each in found:
        yield from _wrapped(f"{each.part}: {each.what} = {each.formula}")
    yield ""
    yield "Measured (docs/explanation/scale.md), each with its line there:"
    for constant in dict.fromkeys(constant for each in found for constant in each.constants):
        yield from _wrapped(f"  {constant.value:g} {constant.unit}: {constant.line}")


def _wrapped(line: str) -> Sequence[str]:
    """In the width of a terminal that nobody has widened."""
    return textwrap.wrap(line, 80, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
