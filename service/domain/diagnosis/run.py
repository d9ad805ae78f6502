"""One look by all checks, which can be followed."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from service.domain.clock import utc_now
from service.domain.diagnosis.check import Check
from service.domain.diagnosis.finding import RANK, Diagnosis, Finding, Severity
from service.domain.diagnosis.survey import Survey
from service.domain.errors import SessionError, causes

log = logging.getLogger(__name__)

SHOWN = 50
"""Findings of one check. If all of 10,000 sessions have the same fault, nobody reads it 10,000 times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    """How far a run has come."""

    total: int
    running: Sequence[str]
    """The checks that are not done."""
    faults: Sequence[Finding]
    """What was found until now, the worst first."""
    seconds: float
    """Since the run began."""

    @property
    def done(self) -> int:
        return self.total - len(self.running)


class Run:
    """Begins at once. Whoever leaves it does not end it."""

    def __init__(
        self, checks: Sequence[Check], look: Callable[["Run"], Awaitable[Diagnosis]], *, deadline: float
    ) -> None:
        """`look` makes the diagnosis of what `findings` returns. `deadline`: seconds for one check."""
        self.began = utc_now()
        self._start = time.monotonic()
        self._checks = checks
        self._deadline = deadline
        self._running = [check.name for check in checks]
        self._found: list[Finding] = []
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(self._diagnose(look), name="diagnosis")
        self._task.add_done_callback(lambda _: self._announce())

    @property
    def is_over(self) -> bool:
        return self._task.done()

    @property
    def changed(self) -> asyncio.Event:
        """Is set at the next change of the progress, and at the end."""
        return self._changed

    @property
    def progress(self) -> RunProgress:
        return RunProgress(
            total=len(self._checks),
            running=tuple(self._running),
            faults=ranked(each for each in self._found if each.severity is not Severity.OK),
            seconds=time.monotonic() - self._start,
        )

    async def diagnosis(self) -> Diagnosis:
        """The result, at the end. Raises nothing: a check that cannot run is a finding."""
        return await asyncio.shield(self._task)

    @property
    def result(self) -> Diagnosis:
        """The result of a run that is over."""
        return self._task.result()

    async def findings(self, survey: Survey) -> tuple[Finding, ...]:
        """Run every check."""
        await asyncio.gather(*(self._one(check, survey) for check in self._checks))
        return ranked(self._found)

    async def _diagnose(self, look: Callable[["Run"], Awaitable[Diagnosis]]) -> Diagnosis:
        return await look(self)

    async def _one(self, check: Check, survey: Survey) -> None:
        self._found.extend(await _checked(check, survey, self._deadline))
        self._running.remove(check.name)
        self._announce()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


async def bounded(check: Check, survey: Survey, deadline: float) -> Sequence[Finding]:
    """What a check finds within so many seconds. Raises TimeoutError, and whatever the check raises."""
    async with asyncio.timeout(deadline):
        return await check.findings(survey)


async def _checked(check: Check, survey: Survey, deadline: float) -> Sequence[Finding]:
    try:
        found = await bounded(check, survey, deadline)
    except TimeoutError:
        return [_not_run(check, f"it did not end within {deadline:g} s")]
    except SessionError as error:
        log.warning("a check cannot run: %s", error, extra={"check": check.name, "cause": causes(error)})
        return [_not_run(check, str(error))]
    except Exception:
        log.exception("a check failed", extra={"check": check.name})
        return [_not_run(check, "the check itself failed; the service's log says why")]
    if all(finding.severity is Severity.OK for finding in found):
        return [check.finding("all", Severity.OK, check.fine, meaning=""), *found]
    worst = ranked(found)
    return [*worst[:SHOWN], *_rest(check, worst[SHOWN:])]


def ranked(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst first."""
    return tuple(sorted(found, key=lambda finding: RANK[finding.severity]))


def _not_run(check: Check, why: str) -> Finding:
    return check.finding(
        "the check",
        Severity.ERROR,
        f"This could not be checked: {why}.",
        meaning="What it looks for may be there or not.",
        next_step="Mend the parts that /health names, then run `user-pods doctor` again.",
    )


def _rest(check: Check, left_out: Sequence[Finding]) -> Sequence[Finding]:
    """One finding that stands for those that are too many to show."""
    if not left_out:
        return []
    return [
        check.finding(
            "others",
            left_out[0].severity,
            f"There are {len(left_out)} more of these.",
            meaning="So many at once usually have one cause.",
            next_step="Mend those that are shown, then run `user-pods doctor` again.",
        )
    ]
