"""What becomes of one request, told to the meter once."""

import time

from service.domain import meter
from service.domain.meter import Doorkeeper, Patient


class Visit:
    """The first outcome that is told counts."""

    def __init__(self, told: Doorkeeper) -> None:
        self._meter = told
        self._is_known = False
        self._held_since: float | None = None
        self._waited: float | None = None

    def ended(self, outcome: meter.Visit) -> None:
        if not self._is_known:
            self._is_known = True
            self._meter.visited(outcome)

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
            self._meter.waited(Patient.REQUEST, self._waited)
        self.ended(meter.Visit.PASSED if self._waited is None else meter.Visit.HELD)
