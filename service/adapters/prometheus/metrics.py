"""Counts events with prometheus-client, in a registry of its own.

No label may grow with users: its values are those of an enumeration, or names of the code.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector, disable_created_metrics

from service import __version__
from service.adapters.prometheus.gauges import PREFIX
from service.domain.expiry import ExpiryReason
from service.domain.metrics import (
    MEASURED,
    ActivitySource,
    Creation,
    HelmWork,
    MeasuredStage,
    PageScript,
    RequestOutcome,
    Slow,
    Waiter,
)

# They would add a third more series, which nobody uses.
disable_created_metrics()  # type: ignore[no-untyped-call]

_WAKE = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60, 120, 300)
_WORK = (0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30, 60)
_HTTP = (0.001, 0.0025, 0.005, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60)
_HELM_OUTCOMES = {True: "ok", False: "failed"}
M = TypeVar("M", Counter, Histogram)


class PrometheusMetrics:
    """See `ServiceMetrics` and `GatewayMetrics` in service/domain/metrics.py. Gauges join its `registry`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._create = self._histogram(
            "create_seconds", "Duration of creates, by outcome; refused ones count as failed.", _WORK, outcome=Creation
        )
        self._helm = self._histogram(
            "helm_seconds",
            "Duration of helm's work on one session, by work and outcome.",
            _WORK,
            work=HelmWork,
            outcome=_HELM_OUTCOMES.values(),
        )
        self._wake = self._histogram(
            "wake_seconds",
            "Time from a push that found no pod to each stage of its wake; reported by the accepting replica.",
            _WAKE,
            stage=MEASURED,
        )
        self._heal = self._histogram(
            "heal_seconds",
            "Time until a session that lost its pod with a non-empty queue had one again; reported by the leader.",
            _WAKE,
        )
        self._http = self._histogram(
            "http_request_seconds",
            "Duration of requests, by operation and status class.",
            _HTTP,
            operation=(),
            status=(),
        )
        self._unfinished = self._counter("wakes_unfinished", "Wakes that had no ready pod after ten minutes.")
        self._felled = self._counter(
            "felled",
            "Pods removed while their queue was not empty, by KEDA's late 0 or by hand; reported by the leader.",
        )
        self._early = self._counter(
            "false_sleeps",
            "Sessions that KEDA put to sleep before last activity plus cooldown; reported by the leader.",
        )
        self._expired = self._counter(
            "sessions_expired",
            "Sessions deleted by `SESSION_LIFETIME` or `SESSION_DORMANCY`, by which; reported by the leader.",
            reason=ExpiryReason,
        )
        requests = self._counter("gateway_requests", "Requests to the gateway, by outcome.", outcome=RequestOutcome)
        self._visits = {outcome: requests.labels(outcome) for outcome in RequestOutcome}
        self._waits = self._histogram(
            "gateway_wait_seconds",
            "Time that a held request, or a visible waiting page, waited until the pod accepted connections.",
            _WAKE,
            who=Waiter,
        )
        self._notes = self._counter(
            "gateway_activity",
            "Recorded activity, at most once per session and five seconds, by source.",
            source=ActivitySource,
        )
        self._pages = self._counter(
            "gateway_pages",
            "Pages of workspaces sent to browsers, by whether the companion's script was added, or why not.",
            script=PageScript,
        )
        self._slow = self._counter(
            "gateway_slow", "Clients disconnected because they were too slow, by what was slow.", over=Slow
        )
        self._away = self._counter("gateway_turned_away", "Connections refused beyond `GATEWAY_CONNECTIONS`.")
        Info(f"{PREFIX}build", "The service's version.", registry=self.registry).info({"version": __version__})
        ProcessCollector(registry=self.registry)

    def _histogram(self, name: str, about: str, buckets: Sequence[float], **labels: Iterable[str]) -> Histogram:
        return _begun(Histogram(f"{PREFIX}{name}", about, labels, buckets=buckets, registry=self.registry), labels)

    def _counter(self, name: str, about: str, **labels: Iterable[str]) -> Counter:
        return _begun(Counter(f"{PREFIX}{name}", about, labels, registry=self.registry), labels)

    # --- the ServiceMetrics ---

    def created(self, outcome: Creation, seconds: float) -> None:
        self._create.labels(outcome).observe(seconds)

    def helm_ran(self, work: HelmWork, seconds: float, *, well: bool) -> None:
        self._helm.labels(work, _HELM_OUTCOMES[well]).observe(seconds)

    def wake_reached(self, stage: MeasuredStage, seconds: float) -> None:
        self._wake.labels(stage).observe(seconds)

    def wake_unfinished(self) -> None:
        self._unfinished.inc()

    def pod_lost(self) -> None:
        self._felled.inc()

    def pod_restored(self, seconds: float) -> None:
        self._heal.observe(seconds)

    def false_sleep(self) -> None:
        self._early.inc()

    def expired(self, reason: ExpiryReason) -> None:
        self._expired.labels(reason).inc()

    # --- the GatewayMetrics ---

    def request_ended(self, outcome: RequestOutcome) -> None:
        self._visits[outcome].inc()

    def wait_ended(self, who: Waiter, seconds: float) -> None:
        self._waits.labels(who).observe(seconds)

    def activity_recorded(self, activity: ActivitySource) -> None:
        self._notes.labels(activity).inc()

    def page_sent(self, script: PageScript) -> None:
        self._pages.labels(script).inc()

    def slow_client_closed(self, slow: Slow) -> None:
        self._slow.labels(slow).inc()

    def connection_rejected(self) -> None:
        self._away.inc()

    # --- the API ---

    def answered(self, operation: str, status: int, seconds: float) -> None:
        """A request has been answered; `operation` is one of the API's, or `other`."""
        self._http.labels(operation, f"{status // 100}xx").observe(seconds)


def _begun(metric: M, labels: Mapping[str, Iterable[str]]) -> M:
    """Start every series at 0, if its labels' values are known: `rate()` misses the first event of one that begins."""
    for values in product(*labels.values()) if labels else ():
        metric.labels(*values)
    return metric
