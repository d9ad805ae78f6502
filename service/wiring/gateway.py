"""The gateway, and access to workspaces, which the API needs too for its links."""

from datetime import timedelta

from service.domain.access import WorkspaceAccess
from service.domain.activity import SessionActivity
from service.domain.audit import Audit
from service.domain.keyring import Keyring
from service.domain.revocation import Revocation
from service.domain.sign_in import SignIn
from service.edge.connection_limits import ConnectionLimits
from service.gateway.access.home import Home
from service.gateway.access.hosts import Hosts
from service.gateway.companion.script import CompanionScript
from service.gateway.gateway import Gateway
from service.gateway.limits import GatewayLimits
from service.gateway.pages.pages import Pages
from service.gateway.proxy.cookies import Cookies
from service.gateway.proxy.headers import Forwarding
from service.gateway.sign_in.failures import SIGN_IN, SIGN_OUT
from service.gateway.sign_in.portal import SignInPortal
from service.settings import Settings
from service.wiring.core import Core

_STAY_AWAKE = 3600
"""Seconds that "Stay awake" in a page gives, unless `EXTENSION_LIMIT` is shorter."""


def build_keyring(core: Core) -> Keyring:
    """The keys that seal everything."""
    config = core.config
    return Keyring(
        core.kubernetes.signing_keys,
        rotate=timedelta(seconds=config.gateway_keys_age),
        keep=timedelta(seconds=max(config.gateway_stay_limit, config.dashboard_stay)),
    )


def build_access(core: Core) -> WorkspaceAccess | None:
    """None without a gateway."""
    config = core.config
    if not config.gateway_domain:
        return None
    limit = timedelta(seconds=config.gateway_stay_limit)
    return WorkspaceAccess(
        core.redis.tickets,
        build_keyring(core),
        core.kubernetes.cache,
        origin=config.origin,
        ticket=timedelta(seconds=config.gateway_ticket),
        stay=timedelta(seconds=config.gateway_stay),
        limit=limit,
    )


def build_revocation(core: Core) -> Revocation:
    return Revocation(
        queries=core.queries, cluster=core.kubernetes.cluster, cache=core.kubernetes.cache, journal=core.journal
    )


def build_gateway(
    core: Core, access: WorkspaceAccess, activity: SessionActivity, sign_in: SignIn | None, audit: Audit
) -> Gateway:
    """`sign_in` is None unless users sign in at an identity provider."""
    config = core.config
    hosts, pages = Hosts(config.gateway_domain, config.gateway_prefix), Pages(config.brand)
    forwarding = Forwarding(
        scheme=config.gateway_scheme,
        trusted=config.gateway_trusted,
        cookies=Cookies(config.gateway_cookies),
        cache=core.kubernetes.cache,
    )
    return Gateway(
        hosts=hosts,
        access=access,
        activity=activity,
        queries=core.queries,
        progress=core.redis.progress,
        companions=core.redis.companions,
        cache=core.kubernetes.cache,
        sign_outs=core.redis.sign_outs,
        forwarding=forwarding,
        limits=_limits(config),
        script=CompanionScript() if config.gateway_companion else None,
        pages=pages,
        home=home_page(config),
        portal=SignInPortal(sign_in, hosts, config.origin, pages, forwarding) if sign_in is not None else None,
        metrics=core.metrics,
        ready=core.readiness.is_ready,
        journal=core.journal,
        audit=audit,
    )


def home_page(config: Settings) -> Home | None:
    """Where browsers without access sign in: at the gateway's own domain, or at the operator's frontend."""
    if config.oidc_issuer:
        return Home(config.domain_origin + SIGN_IN, config.origin, sign_out_url=config.domain_origin + SIGN_OUT)
    return Home(config.gateway_home_url, config.origin) if config.gateway_home_url else None


def _limits(config: Settings) -> GatewayLimits:
    return GatewayLimits(
        closed=not config.gateway_open,
        activity_mode=config.gateway_activity,
        longest_connection=timedelta(seconds=config.gateway_connection_limit),
        sleep_notice=timedelta(seconds=config.gateway_sleep_notice),
        stay_awake=timedelta(seconds=min(_STAY_AWAKE, config.extension_limit)),
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
