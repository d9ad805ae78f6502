"""What every role needs."""

from dataclasses import dataclass
from datetime import timedelta

from service.adapters.log.journal import LogJournal
from service.adapters.prometheus.metrics import PrometheusMetrics
from service.controller.leadership import Leadership
from service.domain.history import HistoryWriter
from service.domain.journal import Journal, Journals
from service.domain.profiles import Profiles
from service.domain.queries import SessionQueries
from service.domain.supervisor import Supervisor
from service.domain.wake_times import WakeTimes
from service.edge.drain import Drain
from service.edge.readiness import Readiness
from service.settings import Settings
from service.wiring.kubernetes import KubernetesParts
from service.wiring.redis import RedisParts


@dataclass(frozen=True, kw_only=True)
class Core:
    config: Settings
    redis: RedisParts
    kubernetes: KubernetesParts
    metrics: PrometheusMetrics
    supervisor: Supervisor
    readiness: Readiness
    history_writer: HistoryWriter
    journal: Journal
    queries: SessionQueries
    wake_times: WakeTimes
    profiles: Profiles
    leadership: Leadership
    """Always free in a process without the controller role."""


def build_core(
    config: Settings,
    redis: RedisParts,
    kubernetes: KubernetesParts,
    metrics: PrometheusMetrics,
    *,
    drain: Drain,
    profiles: Profiles,
) -> Core:
    history_writer = HistoryWriter(redis.history)
    return Core(
        config=config,
        redis=redis,
        kubernetes=kubernetes,
        metrics=metrics,
        supervisor=Supervisor(limit=timedelta(seconds=config.failure_limit)),
        readiness=Readiness(kubernetes.cache, drain),
        history_writer=history_writer,
        journal=Journals(LogJournal(), history_writer),
        queries=SessionQueries(
            store=redis.store,
            history=redis.history,
            cluster=kubernetes.cluster,
            cache=kubernetes.cache,
            idle_times=config.idle_times,
            expiry_rule=config.expiry_rule,
        ),
        wake_times=WakeTimes(redis.measured_wakes),
        profiles=profiles,
        leadership=Leadership(),
    )
