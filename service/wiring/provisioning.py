"""Creates and deletes, by helm."""

import logging
from datetime import timedelta

from service.adapters.files.profiles import read_profiles
from service.adapters.helm.measured_releases import MeasuredReleases
from service.adapters.helm.releases import HelmReleases
from service.adapters.helm.values import read_values
from service.domain.admission_queue import AdmissionQueue
from service.domain.audit import Audit
from service.domain.errors import ChartInvalid, Unavailable, causes
from service.domain.expiry_notes import ExpiryNotes
from service.domain.metrics import ServiceMetrics
from service.domain.ports import Releases
from service.domain.profiles import Profile, Profiles
from service.domain.provisioning import Provisioner
from service.settings import PREFIX, Settings, SettingsError
from service.wiring.core import Core

log = logging.getLogger(__name__)


def load_profiles(config: Settings) -> Profiles:
    """The profiles of the configured file. Raises SettingsError."""
    try:
        return Profiles(read_profiles(config.profiles) if config.profiles else (), default=config.default_profile)
    except ValueError as error:
        raise SettingsError(f"{PREFIX}PROFILES: {error}") from None


async def open_releases(config: Settings, metrics: ServiceMetrics, profiles: Profiles) -> Releases:
    """Raises SettingsError for chart values, common or of a profile, that cannot work."""
    try:
        values = config.values(read_values(config.chart_values) if config.chart_values else {})
    except ValueError as error:
        raise SettingsError(f"{PREFIX}CHART_VALUES: {error}") from None
    releases = HelmReleases(
        helm=config.helm,
        chart=config.chart,
        values=values,
        namespace=config.namespace,
        kubeconfig=config.kubeconfig,
        timeout=timedelta(seconds=config.helm_timeout),
        profiles=profiles,
    )
    for profile in profiles:
        await _check_profile(releases, profile)
    return MeasuredReleases(releases, metrics)


async def _check_profile(releases: HelmReleases, profile: Profile) -> None:
    try:
        await releases.check_profile(profile)
    except ChartInvalid as error:
        raise SettingsError(
            f"{PREFIX}PROFILES: the chart cannot be rendered with the profile {profile.name}: {causes(error)}"
        ) from None
    except Unavailable as error:
        log.warning("the profile was not checked: %s", error, extra={"profile": profile.name, "cause": causes(error)})


def build_provisioner(core: Core, releases: Releases, audit: Audit) -> Provisioner:
    config = core.config
    return Provisioner(
        queries=core.queries,
        store=core.redis.store,
        queues=core.redis.queues,
        releases=releases,
        cluster=core.kubernetes.cluster,
        admission=AdmissionQueue(running=config.helm_processes, waiting=config.helm_queue),
        idle_times=config.idle_times,
        profiles=core.profiles,
        helm_deadline=timedelta(seconds=config.helm_timeout),
        parking=config.parking,
        limits=config.limits,
        metrics=core.metrics,
        journal=core.journal,
        expiries=ExpiryNotes(audit, core.metrics),
    )
