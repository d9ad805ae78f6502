"""What a number of sessions requires of KEDA, Redis, the API server and the service, from measured constants."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from user_pods_client.cli import measured as m
from user_pods_client.cli.measured import Measured

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


def needs(load: Load) -> list[Need]:
    """Every need, in the order of the parts."""
    polls = (load.awake / load.poll, m.KEDA_REQUESTS_PER_POLL)
    calls = load.awake * load.calls_per_minute / 60 + load.wakes
    replicas = max(2, math.ceil(calls / (m.STATUS_PER_SECOND.value * _BUSY)))
    qps = _need(
        "KEDA", "--kube-api-qps", f"2 x (awake / poll of {load.poll:g} s + wakes/s x requests per wake)",
        polls, (load.wakes, m.KEDA_REQUESTS_PER_WAKE), times=_SPARE, step=20,
    )  # fmt: skip
    return [
        qps,
        Need("KEDA", "--kube-api-burst", 2 * qps.amount, "2 x qps"),
        _need(
            "KEDA", "KEDA_SCALEDOBJECT_CTRL_MAX_RECONCILES",
            "2 x (unparks/s + parks/s) x seconds of one, 5 (KEDA's default) or more",
            (2 * load.wakes, m.KEDA_RECONCILE), times=_SPARE, step=1, least=5,
        ),
        _need(
            "KEDA", "memory, MB", "base + asleep x MB + awake x MB",
            (1, m.KEDA_MEMORY), (load.asleep, m.KEDA_MEMORY_PARKED), (load.awake, m.KEDA_MEMORY_AWAKE),
        ),
        _need(
            "Redis", "maxclients", f"awake x connections + replicas x {_POOL} + {_OTHERS} for others",
            (load.awake, m.REDIS_CONNECTIONS_PER_AWAKE), base=replicas * _POOL + _OTHERS, step=100,
        ),
        _need(
            "Redis", "memory, MB", "2 x (2 + sessions x MB), for the copy while it saves",
            (load.sessions, m.REDIS_DATA), (load.sessions, m.REDIS_HISTORY), base=2, times=_SPARE,
        ),
        _need(
            "API server", "requests per second", f"awake / poll of {load.poll:g} s + wakes/s x requests per wake",
            polls, (load.wakes, m.API_REQUESTS_PER_WAKE), step=1,
        ),
        _need(
            "API server", "memory, MB", "base + sessions x MB",
            (1, m.API_MEMORY), (load.sessions, m.API_MEMORY_PARKED),
        ),
        Need(
            "service", "replicas", replicas,
            f"calls/s / (calls per second of one core x {_BUSY:g}), 2 or more so that one may go",
            (m.STATUS_PER_SECOND,),
        ),
        _need(
            "service", "memory of each, MB", "base + sessions x MB",
            (1, m.SERVICE_MEMORY), (load.sessions, m.SERVICE_MEMORY_PARKED),
        ),
        Need(
            "service", "minutes to create all", _round_up(load.sessions / m.CREATES_PER_SECOND.value / 60, 1),
            "sessions / creates per second", (m.CREATES_PER_SECOND,),
        ),
    ]  # fmt: skip


def _need(
    part: str,
    what: str,
    formula: str,
    *terms: tuple[float, Measured],
    base: float = 0,
    times: float = 1,
    step: int = 10,
    least: int = 1,
) -> Need:
    """A need for `times` the sum of `base` and of each number times its constant, rounded up."""
    total = base + sum(number * constant.value for number, constant in terms)
    amount = max(least, _round_up(times * total, step))
    steps = f", in steps of {step}" if step > 1 else ""
    return Need(part, what, amount, formula + steps, [constant for _, constant in terms])


def _round_up(number: float, step: int) -> int:
    """To the next multiple of `step`, at least one."""
    return max(1, math.ceil(number / step)) * step
