"""Runs the checks, and mends what one of them has found."""

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from service.domain.clock import utc_now
from service.domain.diagnosis.check import Check
from service.domain.diagnosis.finding import Diagnosis, Finding, Mended, Outcome, Severity
from service.domain.diagnosis.ports import Diagnoses, KeptDiagnoses
from service.domain.diagnosis.run import Run, bounded
from service.domain.diagnosis.survey import Survey, Surveyor
from service.domain.errors import SessionError, Unavailable, causes

log = logging.getLogger(__name__)

DEADLINE = 30.0
"""Seconds for one check."""
_GONE = Mended(Outcome.GONE, "nothing is wrong there any more")
_MENDS = 4
"""Mends at the same time. Each looks again first."""


KEPT_CHARACTERS = 250_000
"""Of the findings that are kept for who comes later: some hundred."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """What was found last, and whether somebody looks now."""

    last: Diagnosis | None
    looking_since: datetime | None = None
    of_all: bool = True
    """Of all replicas; False while Redis does not answer: then of this process alone."""


class Doctor:
    """Concurrent callers share one run of the checks."""

    def __init__(
        self, checks: Sequence[Check], surveyor: Surveyor, diagnoses: Diagnoses, *, deadline: float = DEADLINE
    ) -> None:
        """`deadline`: seconds for one check."""
        self._diagnoses = diagnoses
        self._checks = {check.name: check for check in checks}
        self._surveyor = surveyor
        self._deadline = deadline
        self._run: Run | None = None
        self._mends = asyncio.Semaphore(_MENDS)
        self._last: Diagnosis | None = None
        """Of this process."""

    async def diagnosis(self) -> Diagnosis:
        """Run every check. Raises nothing: a check that cannot run is a finding."""
        return await self.begin().diagnosis()

    def begin(self) -> Run:
        """Begin a run, or join the one that goes on."""
        if self._run is None or self._run.is_over:
            self._run = Run([*self._checks.values()], self._look, deadline=self._deadline)
        return self._run

    @property
    def running(self) -> Run | None:
        """The run that goes on in this process."""
        return self._run if self._run is not None and not self._run.is_over else None

    async def recall(self) -> Recalled:
        """What any replica has found last, without looking."""
        own = self._last
        try:
            kept = await self._diagnoses.read()
            if own is not None and (kept.last is None or kept.last.at < own.at):
                # It could not be kept when it was made, or Redis has been emptied.
                await self._diagnoses.keep(_shortened(own))
                kept = KeptDiagnoses(last=own)
        except SessionError as error:
            log.warning("what was found last cannot be read: %s", error, extra={"cause": causes(error)})
            return Recalled(last=own, of_all=False)
        since = kept.looking_since
        looks = since is not None and utc_now() - since < timedelta(seconds=self._deadline * 2)
        return Recalled(last=kept.last, looking_since=since if looks else None)

    async def mend(self, name: str, subject: str) -> Mended:
        """Mend what the check finds about the subject now. Raises a SessionError if that fails."""
        check = self._checks.get(name)
        if check is None:
            return _GONE
        async with self._mends:
            survey = self._surveyor.begin()
            try:
                return await self._mend(check, subject, survey)
            finally:
                await survey.close()

    async def _mend(self, check: Check, subject: str, survey: Survey) -> Mended:
        try:
            found = await bounded(check, survey, self._deadline)
        except TimeoutError:
            raise Unavailable(f"the check {check.name} did not end within {self._deadline:g} s") from None
        finding = next((each for each in found if each.subject == subject), None)
        if finding is None or finding.severity is Severity.OK:
            return _GONE
        if not finding.fixable:
            return Mended(Outcome.LEFT, finding.next_step)
        done = await check.mend(finding, survey)
        log.info("a finding was mended: %s", done, extra={"check": check.name, "subject": subject})
        return Mended(Outcome.FIXED, done)

    async def _look(self, run: Run) -> Diagnosis:
        noting = asyncio.create_task(self._share(self._diagnoses.begin(run.began)))
        survey = self._surveyor.begin()
        try:
            found = await run.findings(survey)
        finally:
            await survey.close()
        self._last = Diagnosis(utc_now(), found)
        await noting
        await self._share(self._diagnoses.keep(_shortened(self._last)))
        return self._last

    async def _share(self, telling: Awaitable[None]) -> None:
        """Tell other replicas. While that is not possible, the diagnosis goes on without them."""
        try:
            await telling
        except SessionError as error:
            log.warning("other replicas do not hear of a diagnosis: %s", error, extra={"cause": causes(error)})


def _shortened(found: Diagnosis) -> Diagnosis:
    """As much of it as is kept, the worst first. The last finding says how many are left out."""
    size, kept = 0, 0
    for finding in found.findings:
        size += sum(map(len, (finding.subject, finding.what, finding.meaning, finding.next_step)))
        if size > KEPT_CHARACTERS:
            break
        kept += 1
    rest = found.findings[kept:]
    if not rest:
        return found
    left_out = Finding(
        check="doctor",
        subject="others",
        severity=rest[0].severity,
        what=f"{len(rest)} more findings were too many to keep.",
        meaning="These are the worst.",
        next_step="Mend those that are shown, then look again.",
    )
    return Diagnosis(found.at, (*found.findings[:kept], left_out))
