"""The use cases."""

from collections.abc import Sequence
from datetime import timedelta

from service.domain.activity import SessionActivity
from service.domain.admission_queue import AdmissionQueue
from service.domain.journal import Journal
from service.domain.metrics import ServiceMetrics
from service.domain.observers import WakeObserver
from service.domain.ports import Releases
from service.domain.provisioning import Provisioner
from service.domain.queries import SessionQueries
from service.settings import Settings
from service.wiring.kubernetes import KubernetesParts
from service.wiring.redis import RedisParts


def build_queries(config: Settings, redis: RedisParts, kubernetes: KubernetesParts) -> SessionQueries:
    return SessionQueries(
        store=redis.store,
        history=redis.history,
        cluster=kubernetes.cluster,
        cache=kubernetes.cache,
        idle_times=config.idle_times,
    )


def build_activity(
    config: Settings,
    redis: RedisParts,
    kubernetes: KubernetesParts,
    *,
    queries: SessionQueries,
    observers: Sequence[WakeObserver],
    journal: Journal,
) -> SessionActivity:
    return SessionActivity(
        queries=queries,
        queues=redis.queues,
        progress=redis.progress,
        cluster=kubernetes.cluster,
        cache=kubernetes.cache,
        limits=config.limits,
        observers=observers,
        journal=journal,
    )


def build_provisioner(
    config: Settings,
    redis: RedisParts,
    kubernetes: KubernetesParts,
    *,
    queries: SessionQueries,
    releases: Releases,
    admission: AdmissionQueue,
    metrics: ServiceMetrics,
    journal: Journal,
) -> Provisioner:
    return Provisioner(
        queries=queries,
        store=redis.store,
        queues=redis.queues,
        releases=releases,
        cluster=kubernetes.cluster,
        admission=admission,
        idle_times=config.idle_times,
        helm_deadline=timedelta(seconds=config.helm_timeout),
        parking=config.parking,
        limits=config.limits,
        metrics=metrics,
        journal=journal,
    )
