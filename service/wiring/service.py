"""The whole service: builds the parts of its role, runs them, and closes them in reverse order."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from service.adapters.log.audit import LogAudit
from service.adapters.prometheus.exposition import Exposition
from service.adapters.prometheus.metrics import PrometheusMetrics
from service.domain.audit import Audit
from service.domain.capacity import ClusterCapacity
from service.domain.identity import IdentityProvider
from service.domain.names import EXAMPLE_ID
from service.domain.ports import Releases
from service.domain.provisioning import Provisioner
from service.domain.session_counts import SessionCounter
from service.domain.supervisor import Work
from service.gateway.gateway import Gateway
from service.gateway.server import serving
from service.process import Life
from service.settings import Settings
from service.web.keys import ApiParts, ProbeParts
from service.web.metrics import make_metrics
from service.web.server import running
from service.wiring.activity import build_activity, build_tracking
from service.wiring.api import build_api
from service.wiring.callers import Callers, build_gate, open_callers
from service.wiring.controller import build_controller
from service.wiring.core import Core, build_core
from service.wiring.dashboard import build_dashboard
from service.wiring.diagnosis import build_doctor
from service.wiring.gateway import build_access, build_gateway, build_revocation
from service.wiring.health import build_health
from service.wiring.kubernetes import open_kubernetes
from service.wiring.metrics import build_exposition
from service.wiring.oidc import build_sign_in, open_dashboard_oidc, open_oidc
from service.wiring.ports import Ports
from service.wiring.provisioning import build_provisioner, load_profiles, open_releases
from service.wiring.redis import open_redis
from service.wiring.upgrades import Upgrades, build_upgrades


@dataclass(frozen=True, kw_only=True)
class Service:
    """The parts of one role. `api` serves only the probes in roles without the REST API.

    `tasks` run until the process ends, by the names that metrics and /health give them.
    """

    api: web.Application
    gateway: Gateway | None
    exposition: Exposition
    provisioner: Provisioner | None
    upgrades: Upgrades | None
    tasks: Mapping[str, Work]


@asynccontextmanager
async def running_service(config: Settings, ports: Ports, life: Life) -> AsyncIterator[str]:
    """Run the service beside the context; yields the API's address.

    Raises SettingsError for chart values that cannot work.
    """
    metrics = PrometheusMetrics()
    profiles = load_profiles(config)
    releases = await open_releases(config, metrics, profiles) if config.runs_helm else None
    async with (
        open_callers(config) as callers,
        open_redis(config) as redis,
        open_kubernetes(config) as kubernetes,
        open_oidc(config) as provider,
        open_dashboard_oidc(config) as dashboard_provider,
    ):
        core = build_core(config, redis, kubernetes, metrics, drain=life.drain, profiles=profiles)
        built = build_service(core, releases, provider, callers, dashboard_provider)
        async with _running(core, ports, life, built) as address:
            yield address


@asynccontextmanager
async def _running(core: Core, ports: Ports, life: Life, service: Service) -> AsyncIterator[str]:
    config, supervisor, timeout = core.config, core.supervisor, core.config.shutdown_timeout
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(core.kubernetes.cache.running(supervisor))
        if service.upgrades is not None:
            stack.push_async_callback(service.upgrades.releases.close)  # what the leader leaves behind when it ends
        await stack.enter_async_context(supervisor.running(service.tasks))
        if ports.metrics:
            metrics = make_metrics(service.exposition, header_limit=config.header_limit)
            await stack.enter_async_context(running(metrics, ports.metrics, shutdown_timeout=timeout))
        if service.gateway is not None:
            spread = min(config.gateway_close_spread, timeout / 2)
            await stack.enter_async_context(
                serving(service.gateway, ports.gateway, drain=life.drain, spread=spread, shutdown_timeout=timeout)
            )
        if service.provisioner is not None and service.upgrades is not None:
            stack.push_async_callback(_finish_work, life, service.provisioner, service.upgrades)
        yield await stack.enter_async_context(running(service.api, ports.api, shutdown_timeout=timeout))


async def _finish_work(life: Life, provisioner: Provisioner, upgrades: Upgrades) -> None:
    life.enter("finishing creates, upgrades and deletes")
    await provisioner.close()
    await upgrades.releases.close()
    life.enter("closing the gateway, metrics and clients")


def build_service(
    core: Core,
    releases: Releases | None,
    provider: IdentityProvider | None,
    callers: Callers | None,
    dashboard_provider: IdentityProvider | None = None,
) -> Service:
    """Build the parts of the configured role.

    `releases` is None in a role that runs no helm, `provider` unless users sign in at one, `callers` where those
    of the API need neither key nor token. `dashboard_provider` is that provider as the dashboard calls it.
    """
    role, (tracker, tracking) = core.config.role, build_tracking(core)
    audit = Audit(core.redis.audit_trail, LogAudit(), core.kubernetes.cache)
    provisioner = build_provisioner(core, releases, audit) if releases is not None else None
    upgrades = build_upgrades(core, releases, provisioner) if releases is not None and provisioner is not None else None
    controller = None
    if provisioner is not None and upgrades is not None and role.controls:
        controller = build_controller(core, provisioner, upgrades, tracker)
    observers = (controller.reconciler, tracker) if controller is not None else (tracker,)
    activity = build_activity(core, observers)
    access = build_access(core) if role.serves_api or role.serves_gateway else None
    sign_in = build_sign_in(core, provider, access, provisioner) if provider and access else None
    gateway = None
    if access is not None and role.serves_gateway:
        gateway = build_gateway(core, access, activity, sign_in, audit)
    counter = SessionCounter(core.kubernetes.cache, core.redis.queues, core.redis.store)
    exposition = build_exposition(
        core, counter=counter, controller=controller, provisioner=provisioner, upgrades=upgrades, gateway=gateway
    )
    probes = ProbeParts(
        health=build_health(
            core, releases=releases, controller=controller, access=access, provider=provider, callers=callers
        ),
        supervisor=core.supervisor,
        readiness=core.readiness,
    )
    pages = build_dashboard(core, callers, access, dashboard_provider)
    gate, guarding = build_gate(core, callers, pages.visitors if pages is not None else None)
    parts = None
    if provisioner is not None and releases is not None and upgrades is not None and role.serves_api:
        parts = ApiParts(
            provisioner=provisioner,
            upgrades=upgrades.releases,
            rollouts=upgrades.control,
            activity=activity,
            revocation=build_revocation(core),
            queries=core.queries,
            profiles=core.profiles,
            progress=core.redis.progress,
            access=access,
            audit=audit,
            counter=counter,
            wake_times=core.wake_times,
            awake_limits=core.config.limits_on_awake,
            capacity=ClusterCapacity(core.kubernetes.facts, core.kubernetes.cache),
            users_namespace=core.config.namespace,
            exposition=exposition,
            doctor=build_doctor(
                core,
                health=probes.health,
                releases=releases,
                provisioner=provisioner,
                upgrades=upgrades.releases,
            ),
            example_url=core.config.origin(EXAMPLE_ID) if core.config.gateway_domain else None,
        )
    return Service(
        api=build_api(
            core.config, parts, probes, core.metrics, gate=gate, pages=pages.dashboard if pages is not None else None
        ),
        gateway=gateway,
        exposition=exposition,
        provisioner=provisioner,
        upgrades=upgrades,
        tasks={
            "history": core.history_writer.run,
            **tracking,
            **(controller.tasks if controller is not None else {}),
            **({"progress": core.redis.progress.run} if role.serves_api or role.serves_gateway else {}),
            **({"sign-outs": core.redis.sign_outs.run} if gateway is not None else {}),
            **guarding,
            **(pages.tasks if pages is not None else {}),
            **({"audit": audit.run} if parts is not None or gateway is not None or controller is not None else {}),
            **({"entrance": access.run} if access is not None else {}),
        },
    )
