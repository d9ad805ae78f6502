"""The parts that gauges read, with values that a test sets."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.domain.expiry import ExpiryReason
from service.domain.lifecycle import Step
from service.domain.metrics import Traffic


@dataclass
class FakeLeader:
    leads: bool = False
    listens: bool | None = None


@dataclass
class FakeReconciler:
    done: Mapping[Step, int] = field(default_factory=dict)
    retries: int = 0


@dataclass
class FakeStore:
    unreadable: int = 0


@dataclass
class FakeExpirer:
    warned: Mapping[ExpiryReason, int] | None = None


@dataclass
class FakeGateway:
    traffic: Traffic
