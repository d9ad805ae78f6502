"""The gateway, and access to workspaces, which the API needs too for its links."""

from datetime import timedelta

from service.domain.access import WorkspaceAccess
from service.domain.activity import SessionActivity
from service.domain.keyring import Keyring
from service.edge.connection_limits import ConnectionLimits
from service.gateway.access.hosts import Hosts
from service.gateway.companion.script import CompanionScript
from service.gateway.gateway import Gateway
from service.gateway.limits import GatewayLimits
from service.gateway.pages.pages import Pages
from service.gateway.proxy.cookies import Cookies
from service.gateway.proxy.headers import Forwarding
from service.settings import Settings
from service.wiring.core import Core


def build_access(core: Core) -> WorkspaceAccess | None:
    """None without a gateway."""
    config = core.config
    if not config.gateway_domain:
        return None
    limit = timedelta(seconds=config.gateway_stay_limit)
    keyring = Keyring(core.kubernetes.signing_keys, rotate=timedelta(seconds=config.gateway_keys_age), keep=limit)
    return WorkspaceAccess(
        core.redis.tickets,
        keyring,
        origin=config.origin,
        ticket=timedelta(seconds=config.gateway_ticket),
        stay=timedelta(seconds=config.gateway_stay),
        limit=limit,
    )


def build_gateway(core: Core, access: WorkspaceAccess, activity: SessionActivity) -> Gateway:
    config = core.config
    return Gateway(
        hosts=Hosts(config.gateway_domain, config.gateway_prefix),
        access=access,
        activity=activity,
        queries=core.queries,
        progress=core.redis.progress,
        cache=core.kubernetes.cache,
        forwarding=Forwarding(
            scheme=config.gateway_scheme, trusted=config.gateway_trusted, cookies=Cookies(config.gateway_cookies)
        ),
        limits=_limits(config),
        pages=Pages(config.brand),
        script=CompanionScript() if config.gateway_companion else None,
        metrics=core.metrics,
        ready=core.readiness.is_ready,
        journal=core.journal,
    )


def _limits(config: Settings) -> GatewayLimits:
    return GatewayLimits(
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
    )
