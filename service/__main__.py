"""Command line and composition root: the only place that builds clients."""

from service import early  # noqa: F401  # first of all: imports take a while

# isort: split
import contextlib
import json
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from aiohttp import web

from service import __version__, logs, process, settings
from service.adapters.helm.metered import MeasuredReleases
from service.adapters.helm.releases import HelmReleases, read_values
from service.adapters.kubernetes.api import KubeApi, connect
from service.adapters.kubernetes.cluster import KubeCluster
from service.adapters.kubernetes.election import KubeElection
from service.adapters.kubernetes.pod_events import KubePodEvents
from service.adapters.kubernetes.signing_keys import KubeSigningKeys
from service.adapters.kubernetes.workload_cache import KubeWorkloadCache
from service.adapters.log.journal import LogJournal
from service.adapters.prometheus.gauges import Readings
from service.adapters.prometheus.metrics import PrometheusMetrics, reference
from service.adapters.redis.client import connected
from service.adapters.redis.history import RedisHistory
from service.adapters.redis.progress import RedisProgress
from service.adapters.redis.queues import RedisQueues
from service.adapters.redis.store import RedisStore
from service.adapters.redis.tickets import RedisTickets
from service.commands import plan as planning
from service.controller.collector import Collector
from service.controller.journal_writer import JournalWriter
from service.controller.leader import Leader
from service.controller.leadership import Leadership
from service.controller.progress_writer import ProgressWriter
from service.controller.reconciler import Reconciler
from service.controller.wake_timer import WakeTimer
from service.controller.wake_tracker import WakeTracker
from service.domain.access import WorkspaceAccess
from service.domain.activity import SessionActivity
from service.domain.admission_queue import AdmissionQueue
from service.domain.health import Health
from service.domain.history import HistoryWriter
from service.domain.journal import Journal, Journals
from service.domain.keyring import Keyring
from service.domain.provisioning import Provisioner
from service.domain.queries import SessionQueries
from service.domain.recovery import Recovery
from service.domain.session_counts import count
from service.domain.supervisor import Supervisor, Work
from service.edge.connection_limits import ConnectionLimits
from service.edge.ports import PortUnusable, bind
from service.gateway.access.hosts import Hosts
from service.gateway.gateway import Gateway
from service.gateway.limits import GatewayLimits
from service.gateway.proxy.cookies import Cookies
from service.gateway.proxy.headers import Forwarding
from service.gateway.server import serving
from service.process import Life
from service.settings import Settings, SettingsError
from service.web import edge, keys, openapi
from service.web.app import Resources, make_app
from service.web.metrics import served
from service.web.server import running

app = typer.Typer(
    help="An own pod for every user, that sleeps when idle and wakes when its user returns.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_PENDING = timedelta(seconds=1)
"""How often wakes that are not served yet are looked at: more often than the shortest lease needs."""


@dataclass(frozen=True)
class Ports:
    """The bound sockets of each port that is configured."""

    api: Sequence[socket.socket]
    metrics: Sequence[socket.socket]
    gateway: Sequence[socket.socket]

    @classmethod
    def bound(cls, config: Settings) -> "Ports":
        """Raises PortUnusable."""

        def bound(name: str, port: int, *, wanted: bool = True) -> list[socket.socket]:
            return bind(f"{settings.PREFIX}{name}", config.host, port) if wanted else []

        return cls(
            bound("PORT", config.port),
            bound("METRICS_PORT", config.metrics_port, wanted=bool(config.metrics_port)),
            bound("GATEWAY_PORT", config.gateway_port, wanted=bool(config.gateway_domain)),
        )


def resources(config: Settings, metrics: PrometheusMetrics, ports: Ports, life: Life) -> Resources:
    """Opens everything the application works with. Raises SettingsError for what cannot ever work."""
    try:
        values = config.values(read_values(config.chart_values) if config.chart_values else {})
    except ValueError as error:
        raise SettingsError(f"{settings.PREFIX}CHART_VALUES: {error}") from None

    @asynccontextmanager
    async def opened(application: web.Application) -> AsyncIterator[None]:
        supervisor = Supervisor(limit=timedelta(seconds=config.failure_limit))
        redis_url = config.redis_url.get_secret_value()
        async with (
            connected(redis_url, deadline=config.redis_timeout) as redis,
            await connect(config.kubeconfig) as api,
        ):
            kube = KubeApi(api, timeout=config.kube_timeout)
            schedule_timeout = timedelta(seconds=config.schedule_timeout)
            store, queues = RedisStore(redis), RedisQueues(redis)
            progress, history = RedisProgress(redis), RedisHistory(redis)
            history_writer = HistoryWriter(history)
            journal = Journals(LogJournal(), history_writer)
            cache = KubeWorkloadCache(kube, namespace=config.namespace, schedule_timeout=schedule_timeout)
            cluster = KubeCluster(
                kube,
                namespace=config.namespace,
                keda_namespace=config.keda_namespace or None,
                schedule_timeout=schedule_timeout,
            )
            deadline = timedelta(seconds=config.helm_timeout)
            helm = HelmReleases(
                helm=config.helm,
                chart=config.chart,
                values=values,
                namespace=config.namespace,
                kubeconfig=config.kubeconfig,
                deadline=deadline,
            )
            releases = MeasuredReleases(helm, metrics)
            slots = AdmissionQueue(running=config.helm_processes, waiting=config.helm_queue)
            leadership = Leadership()
            progress_writer = ProgressWriter(progress=progress, queues=queues, cache=cache)
            journal_writer = JournalWriter(
                store=store,
                history=history,
                metrics=metrics,
                journal=journal,
                idle_times=config.idle_times,
                leadership=leadership,
            )
            wake_tracker = WakeTracker(
                cache=cache,
                pod_events=KubePodEvents(kube, namespace=config.namespace),
                leadership=leadership,
                timer=WakeTimer(metrics),
                progress=progress_writer,
                transitions=journal_writer,
            )
            reconciler = Reconciler(
                queues=queues,
                cluster=cluster,
                cache=cache,
                idle_times=config.idle_times,
                parking=config.parking,
                parks_per_second=config.parks_per_second,
                leadership=leadership,
                observers=[wake_tracker],
            )
            queries = SessionQueries(
                store=store, history=history, cluster=cluster, cache=cache, idle_times=config.idle_times
            )
            activity = SessionActivity(
                queries=queries,
                queues=queues,
                progress=progress,
                cluster=cluster,
                cache=cache,
                limits=config.limits,
                observers=(reconciler, wake_tracker),
                journal=journal,
            )
            provisioner = Provisioner(
                queries=queries,
                store=store,
                queues=queues,
                releases=releases,
                cluster=cluster,
                admission=slots,
                idle_times=config.idle_times,
                helm_deadline=deadline,
                parking=config.parking,
                limits=config.limits,
                metrics=metrics,
                journal=journal,
            )
            election = KubeElection(
                kube,
                namespace=config.namespace,
                identity=f"{socket.gethostname()}-{secrets.token_hex(4)}",
                lease_duration=timedelta(seconds=config.leader_term),
            )
            leader = Leader(
                election=election,
                leadership=leadership,
                reconciler=reconciler,
                queues=queues,
                cache=cache,
                resync_interval=timedelta(seconds=config.sweep_interval),
                pending_interval=_PENDING,
                duties={
                    "pod events": wake_tracker.lead,
                    "collector": Collector(
                        provisioner=provisioner, queries=queries, retention=timedelta(seconds=config.retention)
                    ).lead,
                },
                supervisor=supervisor,
            )

            access = _access(config, RedisTickets(redis), kube)
            application[keys.PROVISIONER] = provisioner
            _serve_with(
                application,
                provisioner=provisioner,
                activity=activity,
                queries=queries,
                progress=progress,
                access=access,
                cache=cache,
                metrics=metrics,
            )
            gateway = (
                _gateway(
                    config,
                    access,
                    activity=activity,
                    queries=queries,
                    progress=progress,
                    cache=cache,
                    metrics=metrics,
                    journal=journal,
                    readiness=application[keys.READINESS],
                )
                if access
                else None
            )
            metrics.read(
                Readings(
                    session_counts=partial(count, cache, queues),
                    behind=cache.behind,
                    breaks=lambda: cache.breaks,
                    leads=lambda: leader.leads,
                    listens=lambda: leader.listens,
                    steps=lambda: reconciler.done,
                    retries=lambda: reconciler.retries,
                    line=lambda: slots.admitted,
                    refused=lambda: slots.refused,
                    unreadable=lambda: store.unreadable,
                    traffic=lambda: gateway.traffic if gateway else None,
                    parts=supervisor.states,
                    restarts=lambda: supervisor.restarts,
                )
            )
            application[keys.HEALTH] = Health(
                {
                    "redis": store.ping,
                    "kubernetes": cluster.check,
                    "keda": cluster.check_keda,
                    "helm": releases.check,
                },
                remarks={
                    "wakes by others": leader.remark,
                    "sessions": store.remark,
                    **({"entry": access.remark} if access else {}),
                },
                parts=supervisor.failures,
                seconds=config.health_cache,
            )
            application[keys.SUPERVISOR] = supervisor
            recovery = Recovery(provisioner=provisioner, store=store, cluster=cluster)
            parts: dict[str, Work] = {
                "recovery": lambda: recovery.run_forever(config.recovery_interval),
                "progress": progress.run,
                "controller": _when_filled(cache, reconciler.run),
                "wake tracker": _when_filled(cache, wake_tracker.run),
                "progress writer": _when_filled(cache, progress_writer.run),
                "journal writer": journal_writer.run,
                "history": history_writer.run,
                "leader": _when_filled(cache, leader.run),
                **({"entrance": access.run} if access else {}),
            }
            async with (
                cache.running(supervisor),
                supervisor.running(parts),
                served(
                    metrics.exposition,
                    config.host,
                    config.metrics_port,
                    header_limit=config.header_limit,
                    sockets=ports.metrics,
                )
                if config.metrics_port
                else contextlib.nullcontext(),
                serving(
                    gateway,
                    config.host,
                    config.gateway_port,
                    sockets=ports.gateway,
                    drain=life.drain,
                    spread=min(config.gateway_close_spread, config.shutdown_timeout / 2),
                    shutdown_timeout=config.shutdown_timeout,
                )
                if gateway
                else contextlib.nullcontext(),
            ):
                try:
                    yield
                finally:
                    life.doing = "finishing creates and deletes"
                    await provisioner.close()
                    life.doing = "closing the gateway, metrics and clients"

    return opened


def _serve_with(
    application: web.Application,
    *,
    provisioner: Provisioner,
    activity: SessionActivity,
    queries: SessionQueries,
    progress: RedisProgress,
    access: WorkspaceAccess | None,
    cache: KubeWorkloadCache,
    metrics: PrometheusMetrics,
) -> None:
    application[keys.PROVISIONER] = provisioner
    application[keys.ACTIVITY] = activity
    application[keys.QUERIES] = queries
    application[keys.PROGRESS] = progress
    application[keys.ACCESS] = access
    application[keys.READINESS] = keys.Readiness(lambda: cache.has_synced)
    application[keys.EXPOSITION] = metrics.exposition


def _access(config: Settings, tickets: RedisTickets, kube: KubeApi) -> WorkspaceAccess | None:
    """The way in to workspaces; None where no gateway is."""
    if not config.gateway_domain:
        return None
    namespace = config.gateway_keys_namespace or config.namespace
    stored = KubeSigningKeys(kube, namespace=namespace, name=config.gateway_keys_secret)
    limit = timedelta(seconds=config.gateway_stay_limit)
    return WorkspaceAccess(
        tickets,
        Keyring(stored, rotate=timedelta(seconds=config.gateway_keys_age), keep=limit),
        origin=config.origin,
        ticket=timedelta(seconds=config.gateway_ticket),
        stay=timedelta(seconds=config.gateway_stay),
        limit=limit,
    )


def _gateway(
    config: Settings,
    access: WorkspaceAccess,
    *,
    activity: SessionActivity,
    queries: SessionQueries,
    progress: RedisProgress,
    cache: KubeWorkloadCache,
    metrics: PrometheusMetrics,
    readiness: keys.Readiness,
    journal: Journal,
) -> Gateway:
    return Gateway(
        hosts=Hosts(config.gateway_domain, config.gateway_prefix),
        access=access,
        activity=activity,
        queries=queries,
        progress=progress,
        cache=cache,
        forwarding=Forwarding(
            scheme=config.gateway_scheme, trusted=config.gateway_trusted, cookies=Cookies(config.gateway_cookies)
        ),
        limits=GatewayLimits(
            closed=not config.gateway_open,
            activity_mode=config.gateway_activity,
            longest_connection=timedelta(seconds=config.gateway_connection_limit),
            hold_timeout=timedelta(seconds=config.gateway_patience),
            held=config.gateway_held,
            session_requests=config.gateway_session_requests,
            connection_limits=ConnectionLimits(
                connections=config.gateway_connections,
                per_address=config.gateway_connections_per_address,
                uncounted=config.gateway_trusted,
                head_bytes=config.header_limit,
                elsewhere=config.connections,
            ),
        ),
        metrics=metrics,
        ready=lambda: readiness.ready,
        journal=journal,
    )


def _when_filled(cache: KubeWorkloadCache, work: Work) -> Work:
    """For parts that need a cache that is filled: what is not in it would count as not there."""

    async def run() -> None:
        await cache.wait_synced()
        await work()

    return run


def _terms(config: Settings) -> edge.Terms:
    return edge.Terms(
        connection_limits=ConnectionLimits(
            connections=config.connections,
            per_address=config.connections_per_address,
            uncounted=config.gateway_trusted,
            head_bytes=config.header_limit,
        ),
        body=config.body_timeout,
        streams=config.streams,
        streams_per_session=config.streams_per_session,
    )


@app.command()
def serve() -> None:
    """Run the service; every setting is an environment variable (docs/reference/configuration.md)."""
    config = settings.load()
    logs.configure(level=config.log_level, style=config.log_format)
    settings.warn_of_removed()
    ports, metrics = Ports.bound(config), PrometheusMetrics()

    async def main(life: Life) -> None:
        application = make_app(
            resources(config, metrics, ports, life),
            keys=[key.get_secret_value() for key in config.api_keys],
            answered=metrics.answered,
            terms=_terms(config),
            limits=config.limits,
        )
        async with running(
            application, ports.api, drain=life.drain, shutdown_timeout=config.shutdown_timeout
        ) as address:
            typer.echo(f"The service listens on {address}", err=True)
            await life.serve()

    process.run(main, seconds=config.drain_seconds, timeout=config.shutdown_timeout)


@app.command()
def plan(
    sessions: Annotated[int, typer.Option(min=1, help="Sessions in all.")],
    awake: Annotated[int, typer.Option(min=0, help="Of these awake at the same time.")],
    wakes_per_minute: Annotated[float, typer.Option(min=0, help="Wakes of sleepers.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Tell what so many sessions need of KEDA, Redis, the API server and the service, and why."""
    load = planning.Load(sessions=sessions, awake=awake, wakes_per_minute=wakes_per_minute)
    typer.echo(json.dumps(planning.document(load), indent=2) if as_json else planning.table(load))


@app.command()
def generate(
    root: Annotated[Path, typer.Option(help="The checkout to write into.")] = Path(),
    check: Annotated[bool, typer.Option("--check", help="Only compare; exit with 1 if any is stale.")] = False,
) -> None:
    """Rewrite what is made from the code: the OpenAPI document; settings and metrics in docs/reference."""
    stale = {root / path: text for path, text in generated().items() if not _holds(root / path, text)}
    for path, text in stale.items():
        if check:
            typer.echo(f"{path} is stale; run `make generated`", err=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if check and stale:
        raise typer.Exit(1)


def _holds(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


def generated() -> dict[str, str]:
    """Path below the checkout -> content, of every file that is made from the code."""
    document = openapi.document()
    return {
        "service/web/static/openapi.json": json.dumps(document, indent=2) + "\n",
        "docs/reference/configuration.md": settings.reference(),
        "docs/reference/metrics.md": reference(),
    }


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    try:
        app()
    except SettingsError as error:
        sys.stderr.write(f"user-pods: the settings cannot be used\n{error}\n")
        raise SystemExit(2) from None
    except PortUnusable as error:
        sys.stderr.write(f"user-pods: cannot listen\n{error}\n")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
