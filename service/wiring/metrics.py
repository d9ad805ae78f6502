"""The metrics page: a collector for each part that this process runs."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from socket import socket

from prometheus_client.registry import Collector

from service.adapters.prometheus import gauges
from service.adapters.prometheus.exposition import Exposition
from service.adapters.prometheus.metrics import PrometheusMetrics
from service.domain.admission_queue import AdmissionQueue
from service.domain.session_counts import SessionCounter
from service.domain.supervisor import Supervisor
from service.gateway.gateway import Gateway
from service.settings import Settings
from service.web.metrics import served
from service.wiring.controller import Controller
from service.wiring.kubernetes import KubernetesParts
from service.wiring.redis import RedisParts


def build_exposition(
    metrics: PrometheusMetrics,
    redis: RedisParts,
    kubernetes: KubernetesParts,
    *,
    supervisor: Supervisor,
    controller: Controller,
    admission: AdmissionQueue,
    gateway: Gateway | None,
) -> Exposition:
    sessions = gauges.SessionGauges(SessionCounter(kubernetes.cache, redis.queues))
    collectors: list[Collector] = [
        gauges.LeaderGauges(controller.leader),
        gauges.WatchGauges(kubernetes.cache),
        gauges.StoreGauges(redis.store),
        gauges.AdmissionGauges(admission),
        gauges.PartGauges(supervisor),
        gauges.ReconcilerGauges(controller.reconciler),
    ]
    if gateway is not None:
        collectors.append(gauges.GatewayGauges(gateway))
    for collector in (*collectors, sessions):
        metrics.registry.register(collector)
    return Exposition(metrics.registry, sessions)


def serve_metrics(
    config: Settings, exposition: Exposition, sockets: Sequence[socket]
) -> AbstractAsyncContextManager[None]:
    return served(exposition, config.host, config.metrics_port, header_limit=config.header_limit, sockets=sockets)
