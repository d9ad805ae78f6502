"""What a number of sessions requires of KEDA, Redis, the API server and the service, from measured constants."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from service.commands import measured as m
from service.commands.measured import Measured

_SPARE = 2
"""Everything that is a rate is planned for twice its mean."""
_POOL = 34
"""Redis connections of one replica at most: its pool, and two that listen."""
_OTHERS = 100
"""Redis connections left to operators and exporters."""
_BUSY = 0.5
"""Share of a core up to which a replica is planned to be busy."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is planned for. `calls_per_minute`: status calls and heartbeats of one awake user; `poll` in seconds."""

    sessions: int
    awake: int
    wakes_per_minute: float
    calls_per_minute: float = 12
    poll: float = 5

    @property
    def wakes(self) -> float:
        """Per second."""
        return self.wakes_per_minute / 60

    @property
    def asleep(self) -> int:
        return max(0, self.sessions - self.awake)


@dataclass(frozen=True)
class Need:
    """One line of the plan: what `part` needs, the sum that it follows from, and the constants in it."""

    part: str
    what: str
    amount: float
    formula: str
    constants: Sequence[Measured] = ()


def plan(load: Load) -> list[Need]:
    """Every need, in the order of the parts."""
    return [*_keda(load), *_redis(load), *_api(load), *_service(load)]


def _keda(load: Load) -> Iterator[Need]:
    polls = load.awake / load.poll * m.KEDA_REQUESTS_PER_POLL.value
    qps = _round(_SPARE * (polls + load.wakes * m.KEDA_REQUESTS_PER_WAKE.value), 20)
    yield Need(
        "KEDA", "--kube-api-qps", qps, "2 x (awake / poll + wakes/s x requests per wake), 20 or more",
        (m.KEDA_REQUESTS_PER_POLL, m.KEDA_REQUESTS_PER_WAKE),
    )  # fmt: skip
    yield Need("KEDA", "--kube-api-burst", 2 * qps, "2 x qps")
    reconciles = max(5, math.ceil(_SPARE * 2 * load.wakes * m.KEDA_RECONCILE.value))
    yield Need(
        "KEDA", "KEDA_SCALEDOBJECT_CTRL_MAX_RECONCILES", reconciles,
        "2 x (unparks/s + parks/s) x seconds of one, 5 (KEDA's default) or more", (m.KEDA_RECONCILE,),
    )  # fmt: skip
    yield Need(
        "KEDA", "memory, MB",
        _round(
            m.KEDA_MEMORY.value
            + load.asleep * m.KEDA_MEMORY_PARKED.value
            + load.awake * m.KEDA_MEMORY_AWAKE.value
        ),
        "base + asleep x MB + awake x MB", (m.KEDA_MEMORY, m.KEDA_MEMORY_PARKED, m.KEDA_MEMORY_AWAKE),
    )  # fmt: skip


def _redis(load: Load) -> Iterator[Need]:
    yield Need(
        "Redis", "maxclients",
        _round(load.awake * m.REDIS_CONNECTIONS_PER_AWAKE.value + _replicas(load) * _POOL + _OTHERS, 100),
        f"awake x connections + replicas x {_POOL} + {_OTHERS} for others", (m.REDIS_CONNECTIONS_PER_AWAKE,),
    )  # fmt: skip
    yield Need(
        "Redis", "memory, MB", _round(_SPARE * (2 + load.sessions * (m.REDIS_DATA.value + m.REDIS_HISTORY.value)), 10),
        "2 x (2 + sessions x MB), for the copy while it saves", (m.REDIS_DATA, m.REDIS_HISTORY),
    )  # fmt: skip


def _api(load: Load) -> Iterator[Need]:
    polls = load.awake / load.poll * m.KEDA_REQUESTS_PER_POLL.value
    yield Need(
        "API server", "requests per second", _round(polls + load.wakes * m.API_REQUESTS_PER_WAKE.value, 1),
        "awake / poll + wakes/s x requests per wake", (m.KEDA_REQUESTS_PER_POLL, m.API_REQUESTS_PER_WAKE),
    )  # fmt: skip
    yield Need(
        "API server", "memory, MB", _round(m.API_MEMORY.value + load.sessions * m.API_MEMORY_PARKED.value),
        "base + sessions x MB", (m.API_MEMORY, m.API_MEMORY_PARKED),
    )  # fmt: skip


def _service(load: Load) -> Iterator[Need]:
    yield Need(
        "service", "replicas", _replicas(load),
        f"calls/s / (calls per second of one core x {_BUSY:g}), 2 or more so that one may go", (m.STATUS_PER_SECOND,),
    )  # fmt: skip
    yield Need(
        "service", "memory of each, MB",
        _round(m.SERVICE_MEMORY.value + load.sessions * m.SERVICE_MEMORY_PARKED.value),
        "base + sessions x MB", (m.SERVICE_MEMORY, m.SERVICE_MEMORY_PARKED),
    )  # fmt: skip
    yield Need(
        "service", "minutes to create all", _round(load.sessions / m.CREATES_PER_SECOND.value / 60, 1),
        "sessions / creates per second", (m.CREATES_PER_SECOND,),
    )  # fmt: skip


def _replicas(load: Load) -> int:
    calls = load.awake * load.calls_per_minute / 60 + load.wakes
    return max(2, math.ceil(calls / (m.STATUS_PER_SECOND.value * _BUSY)))


def _round(number: float, step: float = 10) -> float:
    """Up to the next multiple of `step`, at least one."""
    return max(1, math.ceil(number / step)) * step


def table(load: Load) -> str:
    """The plan for people."""
    rows = [(need.part, need.what, f"{need.amount:g}", need.formula) for need in plan(load)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        f"{part:<{widths[0]}}  {what:<{widths[1]}}  {amount:>{widths[2]}}  {formula}"
        for part, what, amount, formula in rows
    ]
    constants = dict.fromkeys(constant for need in plan(load) for constant in need.constants)
    sources = [f"{constant.value:g} {constant.unit}: {constant.line}" for constant in constants]
    return "\n".join(
        [*lines, "", "Measured constants, and where they come from in docs/explanation/scale.md:", *sources]
    )


def document(load: Load) -> dict[str, Any]:
    """The plan for programs."""
    return {
        "load": asdict(load),
        "needs": [asdict(need) | {"constants": [each._asdict() for each in need.constants]} for need in plan(load)],
    }
