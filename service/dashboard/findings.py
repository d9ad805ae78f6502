"""What the doctor finds, and the form that has a finding mended."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from service.dashboard import paths
from service.domain.diagnosis.diagnosis import Doctor, Recalled
from service.domain.diagnosis.finding import Diagnosis, Finding, Mended, Severity, session_of
from service.domain.diagnosis.run import Run, RunProgress
from service.web.problems import RequestRefused

_LONGEST = {"check": 40, "subject": 300}
"""Characters, as in the API."""
_UNSEEN = frozenset(
    {
        ("autoscalers", "hpas"),
        ("keda", "version"),
        ("network-policies", "enforcement"),
        ("redis-settings", "notify-keyspace-events"),
        ("storage-classes", "classes"),
    }
)
"""Check and subject of what the doctor, where it says ok, could not look at."""
_STEP = 5
"""Seconds. What takes longer is slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """`faults`: the worst first; `unseen`: what could not be looked at; `fine`: what was, and is in order."""

    at: datetime
    faults: Sequence[Finding]
    unseen: Sequence[Finding]
    fine: Sequence[Finding]
    counts: Mapping[Severity, int]

    @classmethod
    def of(cls, found: Diagnosis) -> "Findings":
        faults = [each for each in found.findings if each.severity is not Severity.OK]
        rest = [each for each in found.findings if each.severity is Severity.OK]
        unseen = [each for each in rest if (each.check, each.subject) in _UNSEEN]
        fine = [each for each in rest if each not in unseen]
        counts = Counter(each.severity for each in faults)
        return cls(at=found.at, faults=faults, unseen=unseen, fine=fine, counts=counts)


@dataclass(frozen=True, slots=True)
class Place:
    """Names a finding."""

    check: str
    subject: str

    @property
    def uuid(self) -> str | None:
        """The session that it is about, if it is about one."""
        return session_of(self.check, self.subject)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """`found`: None if nobody has looked."""

    found: Findings | None
    looking_since: datetime | None = None
    of_all: bool = True
    """Whether it is the last of all replicas; False while Redis does not answer."""

    @classmethod
    def of(cls, recalled: Recalled) -> "Shown":
        return cls(
            found=Findings.of(recalled.last) if recalled.last is not None else None,
            looking_since=recalled.looking_since,
            of_all=recalled.of_all,
        )


async def read(doctor: Doctor, *, now: bool) -> Shown:
    """What the doctor finds now, or what any replica has found last."""
    return Shown(found=Findings.of(await doctor.diagnosis())) if now else Shown.of(await doctor.recall())


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """A run that goes on. `joined`: somebody else has begun it."""

    began: datetime
    joined: bool
    progress: RunProgress

    @classmethod
    def at(cls, run: Run, *, joined: bool) -> "Looking":
        return cls(began=run.began, joined=joined, progress=run.progress)

    @property
    def seconds(self) -> int:
        """For how long, in steps, so that a page need not change each second."""
        return int(self.progress.seconds) // _STEP * _STEP


def place(given: Mapping[str, str]) -> Place:
    """Raises RequestRefused."""
    found = Place(given.get("check", ""), given.get("subject", ""))
    if not all(0 < len(getattr(found, name)) <= most for name, most in _LONGEST.items()):
        raise RequestRefused("does-not-fit", "the address names no finding; choose one from the list")
    return found


async def mend(doctor: Doctor, at: Place) -> Mended:
    return await doctor.mend(at.check, at.subject)


def mend_path(finding: Finding) -> str:
    """Where to confirm that the finding should be mended."""
    return f"{paths.MEND}?{urlencode({'check': finding.check, 'subject': finding.subject})}"


def session_path(finding: Finding) -> str | None:
    """The page of the session that the finding is about, if it is about one."""
    uuid = session_of(finding.check, finding.subject)
    return f"{paths.SESSIONS}/{uuid}" if uuid is not None else None
