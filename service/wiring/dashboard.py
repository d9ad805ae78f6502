"""The dashboard, where keys or tokens guard the API."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from service.dashboard.dashboard import Dashboard
from service.dashboard.live import LiveStreams
from service.dashboard.overview import OverviewPage
from service.dashboard.pages import DashboardPages
from service.dashboard.session_list import SessionList
from service.dashboard.sign_in import SignInPages
from service.dashboard.visitors import Visitors
from service.domain.access import WorkspaceAccess
from service.domain.browser_sessions import BrowserSessions
from service.domain.identity import IdentityProvider
from service.domain.session_index import SessionIndex
from service.domain.sign_in_attempts import SignInAttempts
from service.domain.supervisor import Work
from service.gateway.proxy.headers import Forwarding
from service.wiring.callers import Callers
from service.wiring.core import Core
from service.wiring.gateway import build_keyring, home_page


@dataclass(frozen=True, kw_only=True)
class DashboardParts:
    """`tasks` run until the process ends."""

    visitors: Visitors
    dashboard: Dashboard
    tasks: Mapping[str, Work]


def build_dashboard(
    core: Core, callers: Callers | None, access: WorkspaceAccess | None, provider: IdentityProvider | None
) -> DashboardParts | None:
    """None where the dashboard is off. `provider` is None where people sign in with keys alone."""
    config, cache = core.config, core.kubernetes.cache
    if callers is None or not config.serves_dashboard:
        return None
    keyring = access.keyring if access is not None else build_keyring(core)
    sessions = BrowserSessions(
        keyring,
        callers.keys,
        stay=timedelta(seconds=config.dashboard_stay),
        recheck=timedelta(seconds=config.dashboard_recheck),
    )
    visitors = Visitors(sessions, config.dashboard_url)
    attempts = SignInAttempts(provider, keyring, core.redis.tickets, kind="dashboard-attempt") if provider else None
    start = home_page(config) if config.gateway_domain else None
    pages = DashboardPages(config.brand, start.url if start is not None else None)
    index = SessionIndex(cache)
    forwarding = Forwarding(scheme="https", trusted=config.gateway_trusted)
    return DashboardParts(
        visitors=visitors,
        dashboard=Dashboard(
            pages=pages,
            sign_in=SignInPages(pages, visitors, attempts, config.person_rule, forwarding),
            sessions=SessionList(index, core.queries),
            overview=OverviewPage(index, core.wake_times, config.prices),
            live=LiveStreams(cache, core.readiness),
            visitors=visitors,
            cache=cache,
        ),
        tasks={} if access is not None else {"signing keys": keyring.run},
    )
