"""docs/reference/metrics.md, made from what is registered."""

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from service.adapters.prometheus import gauges
from service.adapters.prometheus.metrics import PrometheusMetrics
from service.domain.admission_queue import AdmissionQueue
from service.domain.expiry import ExpiryReason
from service.domain.lifecycle import Step
from service.domain.metrics import Traffic
from service.domain.rollout import counts
from service.domain.session_counts import SessionCounts
from service.domain.supervisor import PartState


class _Sample:
    """Every part at once, with one value for each label: a family shows its labels with its first series."""

    leads, listens = False, True
    breaks: Mapping[str, int] = {"lost": 0}
    unreadable = 0
    restarts: Mapping[str, int] = {"leader": 0}
    done: Mapping[Step, int] = {}
    retries = 0
    warned: Mapping[ExpiryReason, int] = {}
    traffic = Traffic(connections=0, websockets=0, held=0)

    def behind(self) -> timedelta | None:
        return None

    def states(self) -> Mapping[str, PartState]:
        return {"leader": PartState(None, "", ended=False)}


async def _count() -> Any:
    return None


def every_metric() -> PrometheusMetrics:
    """Metrics with the gauges of every part."""
    metrics, part = PrometheusMetrics(), _Sample()
    metrics.answered("status", 200, 0)
    for collector in (
        gauges.LeaderGauges(part),
        gauges.WatchGauges(part),
        gauges.StoreGauges(part),
        gauges.AdmissionGauges(AdmissionQueue(running=1, waiting=0)),
        gauges.PartGauges(part),
        gauges.ReconcilerGauges(part),
        gauges.ExpirerGauges(part),
        gauges.ReleaseGauges(_count, counts(Counter(), failed=0)),
        gauges.GatewayGauges(part),
        gauges.SessionGauges(_count, SessionCounts()),
    ):
        metrics.registry.register(collector)
    return metrics


def reference() -> str:
    """The page."""
    lines = [
        "# Metrics",
        "",
        "All metrics of `/metrics`; [Monitor](../how-to/monitor.md) says how to use them. Names end in their unit",
        "(`_seconds`, `_bytes`); a name without one counts things. A process has the gauges of the parts that its",
        "role runs. `make generated` writes this page; a test holds it to the code.",
        "",
        "| metric | type | labels | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for family in every_metric().registry.collect():
        labels = sorted({name for sample in family.samples for name in sample.labels} - {"le"})
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        lines.append(f"| `{family.name}{suffix}` | {family.type} | {', '.join(labels)} | {family.documentation} |")
    return "\n".join([*lines, ""])
