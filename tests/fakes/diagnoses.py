"""The Diagnoses in memory."""

from dataclasses import dataclass, field, replace
from datetime import datetime

from service.domain.diagnosis.finding import Diagnosis
from service.domain.diagnosis.ports import KeptDiagnoses


@dataclass
class MemoryDiagnoses:
    """See `service.domain.diagnosis.ports.Diagnoses`."""

    kept: KeptDiagnoses = field(default_factory=KeptDiagnoses)

    async def read(self) -> KeptDiagnoses:
        return self.kept

    async def begin(self, at: datetime) -> None:
        self.kept = replace(self.kept, looking_since=at)

    async def keep(self, diagnosis: Diagnosis) -> None:
        self.kept = KeptDiagnoses(last=diagnosis)
