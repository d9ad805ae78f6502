"""The command that looks for faults, and has those mended that lose nothing."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from user_pods_client.cli import arguments, exits, output, surroundings
from user_pods_client.cli.connection import connect
from user_pods_client.cli.exits import ExitCode
from user_pods_client.cli.output import Format
from user_pods_client.cli.progress import Progress
from user_pods_client.cli.text import printable
from user_pods_client.errors import ServiceProblem, UnexpectedAnswer
from user_pods_client.models import Finding
from user_pods_client.problems import NotFound

if TYPE_CHECKING:
    import user_pods_client

_MARKS = {"error": "ERROR  ", "warning": "WARNING", "unseen": "?      ", "ok": "ok     "}
_UNSEEN = frozenset(
    {
        ("autoscalers", "hpas"),
        ("keda", "version"),
        ("network-policies", "enforcement"),
        ("redis-settings", "notify-keyspace-events"),
        ("storage-classes", "classes"),
    }
)
"""Check and subject of what the service, where it says ok, could not look at: docs/how-to/doctor.md has the reasons."""
_CODES = {"error": ExitCode.UNAVAILABLE, "warning": ExitCode.WARNINGS, "ok": ExitCode.DONE}


def doctor(
    context: typer.Context,
    *,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what loses nothing, after asking. Then look again.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    format_: output.Output = Format.TABLE,
) -> None:
    """Look for faults of service, cluster, Redis and sessions: what is wrong, what it means, what to do next.

    It also tries from here what browsers need: DNS, the certificate, and a clock that agrees with the service's. For
    operators, and viewers who change nothing. Exit code 12: warnings only. 7: errors.
    """
    with connect(context) as pods:
        findings = _look(pods)
        fixable = [each for each in findings if each.fixable]
        if fix and fixable:
            if format_ is Format.TABLE:
                output.show(_table(findings))
            _mend(pods, fixable, yes=yes)
            findings = _look(pods)
        elif fix:
            output.say(_nothing_to_mend(findings), err=True)
    output.show(output.rendered(findings, format_, table=lambda: _table(findings), names=lambda: _names(findings)))
    raise typer.Exit(max((_CODES.get(each.severity, ExitCode.WARNINGS) for each in findings), key=_weight))


def _weight(code: ExitCode) -> int:
    return [ExitCode.DONE, ExitCode.WARNINGS, ExitCode.UNAVAILABLE].index(code)


def _look(pods: "user_pods_client.Client") -> Sequence[Finding]:
    """What the service finds, and what is seen from here; the worst first."""
    with Progress("Looking for faults") as progress:
        progress.note("the service looks at Redis, the cluster and every session, half a minute at most")
        try:
            found = pods.diagnosis()
        except NotFound:
            raise UnexpectedAnswer("the service is older than this command, and has no diagnosis; upgrade it") from None
        now = datetime.now(UTC)
        progress.note("this machine tries DNS and the certificate")
        seen = surroundings.findings(found, now=now)
    order = [*_MARKS]
    return sorted([*found.findings, *seen], key=lambda each: order.index(sign) if (sign := _sign(each)) in order else 0)


def _sign(finding: Finding) -> str:
    """One of _MARKS, or a severity that this version does not know."""
    if finding.severity == "ok" and (finding.check, finding.subject) in _UNSEEN:
        return "unseen"
    return finding.severity


def _nothing_to_mend(findings: Sequence[Finding]) -> str:
    if all(each.severity == "ok" for each in findings):
        return "Nothing needs mending."
    return "Nothing of this can be mended from here without a loss. Each fault says what to do."


def _mend(pods: "user_pods_client.Client", fixable: Sequence[Finding], *, yes: bool) -> None:
    """Mend one after the other: a finding that resists keeps no other from being mended."""
    output.say("This will be mended; nobody loses anything by it:", err=True)
    for each in fixable:
        output.say(f"  {printable(each.check)} {printable(each.subject)}: {printable(each.what)}", err=True)
    if not yes:
        arguments.confirm("Go on?")
    for each in fixable:
        name = f"{printable(each.check)} {printable(each.subject)}"
        try:
            done = pods.fix(each.check, each.subject)
        except ServiceProblem as problem:
            if exits.code_of(problem) is ExitCode.NOT_ALLOWED:
                raise
            output.say(f"{name}: not mended. {exits.explanation(problem).rstrip()}", err=True)
        else:
            output.say(f"{name}: {done.outcome}, {printable(done.detail)}", err=True)


def _table(findings: Sequence[Finding]) -> str:
    """A paragraph for each fault. What is fine takes one line."""
    return "\n".join([*(line for each in findings for line in _lines(each)), "", _summary(findings)])


def _lines(finding: Finding) -> Sequence[str]:
    mark = _MARKS.get(_sign(finding), finding.severity.ljust(7))
    if finding.severity == "ok":
        more = f" {finding.next_step}" if finding.next_step else ""
        return [printable(f"{mark}  {finding.check}: {finding.what}{more}")]
    subject = f"{mark}  {finding.check} {finding.subject}"
    return [
        printable(subject + (" (can be mended by --fix)" if finding.fixable else "")),
        *(f"         {printable(each)}" for each in (finding.what, finding.meaning) if each),
        *([f"         Next: {printable(finding.next_step)}"] if finding.next_step else []),
    ]


def _summary(findings: Sequence[Finding]) -> str:
    signs = Counter(map(_sign, findings))
    errors, warnings, unseen = signs["error"], signs["warning"], signs["unseen"]
    if not errors and not warnings:
        return "Everything is in order." if not unseen else f"All that was checked is in order. Not checked: {unseen}."
    fixable = sum(each.fixable for each in findings)
    rest = f" `user-pods doctor --fix` mends {fixable} of them." if fixable else ""
    checked = f" Not checked: {unseen}." if unseen else ""
    return f"Errors: {errors}. Warnings: {warnings}.{checked}{rest}"


def _names(findings: Sequence[Finding]) -> Sequence[str]:
    return [printable(f"{each.check}/{each.subject}") for each in findings if each.severity != "ok"]
