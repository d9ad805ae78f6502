"""The measured wakes in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from service.domain.wake_times import KEPT, MeasuredWake


@dataclass
class MemoryMeasuredWakes:
    """See `service.domain.wake_times.MeasuredWakes`."""

    kept: int = KEPT
    wakes: list[MeasuredWake] = field(default_factory=list)
    """Newest first."""

    async def append(self, wake: MeasuredWake) -> None:
        self.wakes = [wake, *self.wakes][: self.kept]

    async def last(self) -> Sequence[MeasuredWake]:
        return list(self.wakes)
