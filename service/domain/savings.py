"""What sleeping saves: the CPU and memory that pods do not request while their sessions sleep."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from service.domain.session_index import IndexedSession

_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Of an hour, in any currency; 0: unknown."""

    cpu: float = 0
    """Of one CPU."""
    memory: float = 0
    """Of one GiB."""
    currency: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Savings:
    """Of the sessions that sleep now. How long they slept before they were last awake is not known, and not counted."""

    sessions: int
    """Those whose requests are known."""
    cpu: float
    """CPUs that they would request, if all of them were awake."""
    memory: float
    """GiB."""
    cpu_hours: float
    """Within the last day."""
    memory_hours: float
    """GiB times hours."""

    @classmethod
    def of(cls, sessions: Iterable[IndexedSession], now: datetime) -> "Savings":
        count, cpu, memory, cpu_hours, memory_hours = 0, 0.0, 0.0, 0.0, 0.0
        for each in sessions:
            if each.asleep_since is None or each.requests is None:
                continue
            hours = min(max(now - each.asleep_since, timedelta(0)), _DAY) / _HOUR
            count, cpu, memory = count + 1, cpu + each.requests.cpu, memory + each.requests.memory
            cpu_hours += each.requests.cpu * hours
            memory_hours += each.requests.memory * hours
        return cls(sessions=count, cpu=cpu, memory=memory, cpu_hours=cpu_hours, memory_hours=memory_hours)

    def price(self, prices: Prices) -> float | None:
        """What these hours cost; None without prices."""
        if not prices.cpu and not prices.memory:
            return None
        return self.cpu_hours * prices.cpu + self.memory_hours * prices.memory
