"""What every check has in common."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from service.domain.diagnosis.finding import Finding, Severity
from service.domain.diagnosis.survey import Survey


class Check(ABC):
    """Looks for one kind of fault. What it raises becomes a finding: the others run nevertheless."""

    name: ClassVar[str]
    fine: ClassVar[str]
    """A sentence for when it finds nothing."""

    @abstractmethod
    async def findings(self, survey: Survey) -> Sequence[Finding]:
        """What is wrong, each subject once."""

    async def mend(self, finding: Finding, _survey: Survey) -> str:
        """Mend a finding that is `fixable` and was made by this survey. Returns what was done."""
        raise NotImplementedError(finding.check)

    def finding(
        self, subject: str, severity: Severity, what: str, *, meaning: str, next_step: str = "", fixable: bool = False
    ) -> Finding:
        return Finding(
            check=self.name,
            subject=subject,
            severity=severity,
            what=what,
            meaning=meaning,
            next_step=next_step,
            fixable=fixable,
        )
