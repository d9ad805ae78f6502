"""The whole service: builds every part, runs them, and closes them in reverse order."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from aiohttp import web

from service.adapters.kubernetes.workload_cache import KubeWorkloadCache
from service.adapters.log.journal import LogJournal
from service.adapters.prometheus.exposition import Exposition
from service.adapters.prometheus.metrics import PrometheusMetrics
from service.controller.leadership import Leadership
from service.domain.admission_queue import AdmissionQueue
from service.domain.history import HistoryWriter
from service.domain.journal import Journals
from service.domain.ports import Releases
from service.domain.provisioning import Provisioner
from service.domain.supervisor import Supervisor, Work
from service.edge.drain import Drain
from service.edge.readiness import Readiness
from service.gateway.gateway import Gateway
from service.process import Life
from service.settings import Settings
from service.web.keys import ProbeParts, SessionParts
from service.web.server import running
from service.wiring.api import build_api
from service.wiring.controller import build_controller, build_reconciler, build_tracking
from service.wiring.gateway import build_access, build_gateway, serve_gateway
from service.wiring.health import build_health
from service.wiring.helm import build_releases
from service.wiring.kubernetes import KubernetesParts, open_kubernetes
from service.wiring.metrics import build_exposition, serve_metrics
from service.wiring.ports import Ports
from service.wiring.redis import RedisParts, open_redis
from service.wiring.sessions import build_activity, build_provisioner, build_queries


@dataclass(frozen=True, kw_only=True)
class Service:
    """`tasks` run for as long as the process lives, by the names that metrics and /health give them."""

    api: web.Application
    gateway: Gateway | None
    exposition: Exposition
    provisioner: Provisioner
    supervisor: Supervisor
    tasks: Mapping[str, Work]


@asynccontextmanager
async def running_service(config: Settings, ports: Ports, life: Life) -> AsyncIterator[str]:
    """Run the service beside the context; yields the API's address.

    Raises SettingsError for chart values that cannot work.
    """
    metrics = PrometheusMetrics()
    releases = build_releases(config, metrics)
    async with open_redis(config) as redis, open_kubernetes(config) as kubernetes:
        service = build_service(config, redis, kubernetes, releases=releases, metrics=metrics, drain=life.drain)
        async with _running(config, ports, life, kubernetes.cache, service) as address:
            yield address


@asynccontextmanager
async def _running(
    config: Settings, ports: Ports, life: Life, cache: KubeWorkloadCache, service: Service
) -> AsyncIterator[str]:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(cache.running(service.supervisor))
        await stack.enter_async_context(service.supervisor.running(service.tasks))
        if ports.metrics:
            await stack.enter_async_context(serve_metrics(config, service.exposition, ports.metrics))
        if service.gateway is not None:
            await stack.enter_async_context(serve_gateway(config, service.gateway, ports.gateway, life.drain))
        stack.push_async_callback(_finish_work, life, service.provisioner)
        yield await stack.enter_async_context(
            running(service.api, ports.api, drain=life.drain, shutdown_timeout=config.shutdown_timeout)
        )


async def _finish_work(life: Life, provisioner: Provisioner) -> None:
    life.doing = "finishing creates and deletes"
    await provisioner.close()
    life.doing = "closing the gateway, metrics and clients"


def build_service(
    config: Settings,
    redis: RedisParts,
    kubernetes: KubernetesParts,
    *,
    releases: Releases,
    metrics: PrometheusMetrics,
    drain: Drain,
) -> Service:
    supervisor, leadership = Supervisor(limit=timedelta(seconds=config.failure_limit)), Leadership()
    readiness = Readiness(kubernetes.cache, drain)
    history_writer = HistoryWriter(redis.history)
    journal = Journals(LogJournal(), history_writer)
    admission = AdmissionQueue(running=config.helm_processes, waiting=config.helm_queue)
    tracking = build_tracking(config, redis, kubernetes, leadership=leadership, metrics=metrics, journal=journal)
    tracker = tracking.tracker
    reconciler = build_reconciler(config, redis, kubernetes, leadership=leadership, tracker=tracker)
    queries = build_queries(config, redis, kubernetes)
    activity = build_activity(
        config,
        redis,
        kubernetes,
        queries=queries,
        observers=(reconciler, tracker),
        journal=journal,
    )
    provisioner = build_provisioner(
        config,
        redis,
        kubernetes,
        queries=queries,
        releases=releases,
        admission=admission,
        metrics=metrics,
        journal=journal,
    )
    controller = build_controller(
        config,
        redis,
        kubernetes,
        leadership=leadership,
        reconciler=reconciler,
        tracker=tracker,
        provisioner=provisioner,
        queries=queries,
        supervisor=supervisor,
    )
    access = build_access(config, redis, kubernetes)
    gateway = None
    if access is not None:
        gateway = build_gateway(
            config,
            redis,
            kubernetes,
            access=access,
            activity=activity,
            queries=queries,
            readiness=readiness,
            metrics=metrics,
            journal=journal,
        )
    exposition = build_exposition(
        metrics,
        redis,
        kubernetes,
        supervisor=supervisor,
        controller=controller,
        admission=admission,
        gateway=gateway,
    )
    health = build_health(
        config,
        redis,
        kubernetes,
        releases=releases,
        supervisor=supervisor,
        controller=controller,
        access=access,
    )
    tasks: dict[str, Work] = {
        "progress": redis.progress.run,
        "history": history_writer.run,
        **tracking.tasks,
        **controller.tasks,
        **({"entrance": access.run} if access else {}),
    }
    return Service(
        api=build_api(
            config,
            SessionParts(
                provisioner=provisioner,
                activity=activity,
                queries=queries,
                progress=redis.progress,
                access=access,
            ),
            ProbeParts(health=health, supervisor=supervisor, readiness=readiness, exposition=exposition),
            metrics,
        ),
        gateway=gateway,
        exposition=exposition,
        provisioner=provisioner,
        supervisor=supervisor,
        tasks=tasks,
    )
