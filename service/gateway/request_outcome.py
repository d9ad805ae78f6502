"""Reports the outcome of one request to the metrics, and its visit to the journal."""

import time

from service.domain.metrics import GatewayMetrics, RequestOutcome, Waiter
from service.domain.names import SessionId
from service.gateway.activity.visits import VisitRecorder

_PAGE_SHOWN = frozenset({RequestOutcome.PASSED, RequestOutcome.HELD, RequestOutcome.PAGE})


class OutcomeRecorder:
    """Follows one request. Only the first outcome counts."""

    __slots__ = ("_ended", "_held_since", "_metrics", "_opened_at", "_session", "_visits", "_waited")

    def __init__(self, metrics: GatewayMetrics) -> None:
        self._metrics = metrics
        self._ended = False
        self._held_since: float | None = None
        self._waited: float | None = None
        self._visits: VisitRecorder | None = None
        self._session: SessionId | None = None
        self._opened_at = 0.0

    def opens_page(self, visits: VisitRecorder, uuid: SessionId) -> None:
        """A person opens a page. Once it is shown, or the waiting page is, `visits` records it."""
        self._visits, self._session, self._opened_at = visits, uuid, time.monotonic()

    def ended(self, outcome: RequestOutcome) -> None:
        if self._ended:
            return
        self._ended = True
        self._metrics.request_ended(outcome)
        if self._visits is not None and self._session is not None and outcome in _PAGE_SHOWN:
            asleep, seconds = outcome is not RequestOutcome.PASSED, time.monotonic() - self._opened_at
            self._visits.page_opened(self._session, asleep=asleep, seconds=seconds)

    def on_hold(self) -> None:
        """The request begins to wait for a pod, unless it does already."""
        self._held_since = self._held_since or time.monotonic()

    def on_pod_available(self) -> None:
        """The pod that it waits for accepts connections."""
        if self._held_since is not None:
            self._waited = time.monotonic() - self._held_since

    def on_response(self) -> None:
        """The pod has responded."""
        if self._waited is not None:
            self._metrics.wait_ended(Waiter.REQUEST, self._waited)
        self.ended(RequestOutcome.PASSED if self._waited is None else RequestOutcome.HELD)
