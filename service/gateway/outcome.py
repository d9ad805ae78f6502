"""What becomes of one request, told to the meter once."""

import time
from typing import Protocol

from service.domain import metrics
from service.domain.metrics import GatewayMetrics, Patient

_OPEN = frozenset({metrics.Visit.PASSED, metrics.Visit.HELD, metrics.Visit.PAGE})


class Opened(Protocol):
    def __call__(self, *, asleep: bool, seconds: float) -> None:
        """A page was opened; whether of a sleeper, and how long that took."""


class Visit:
    """The first outcome that is told counts."""

    def __init__(self, told: GatewayMetrics) -> None:
        self._metrics = told
        self._is_known = False
        self._held_since: float | None = None
        self._waited: float | None = None
        self._begun = 0.0
        self._opened: Opened | None = None

    def opens(self, opened: Opened) -> None:
        """A person opens a page with it: to be told once the page is there, or the one that waits for the pod."""
        self._begun, self._opened = time.monotonic(), opened

    def ended(self, outcome: metrics.Visit) -> None:
        if not self._is_known:
            self._is_known = True
            self._metrics.visited(outcome)
            if self._opened is not None and outcome in _OPEN:
                self._opened(asleep=outcome is not metrics.Visit.PASSED, seconds=time.monotonic() - self._begun)

    def held(self) -> None:
        """It begins to wait for a pod."""
        self._held_since = self._held_since or time.monotonic()

    def served(self) -> None:
        """The pod that it waits for takes connections."""
        if self._held_since is not None:
            self._waited = time.monotonic() - self._held_since

    def answered(self) -> None:
        """The pod has answered it."""
        if self._waited is not None:
            self._metrics.waited(Patient.REQUEST, self._waited)
        self.ended(metrics.Visit.PASSED if self._waited is None else metrics.Visit.HELD)
