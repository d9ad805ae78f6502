"""Creates and deletes, by helm."""

from datetime import timedelta

from service.adapters.helm.measured_releases import MeasuredReleases
from service.adapters.helm.releases import HelmReleases, read_values
from service.domain.admission_queue import AdmissionQueue
from service.domain.metrics import ServiceMetrics
from service.domain.ports import Releases
from service.domain.provisioning import Provisioner
from service.settings import PREFIX, Settings, SettingsError
from service.wiring.core import Core


def build_releases(config: Settings, metrics: ServiceMetrics) -> Releases:
    """Raises SettingsError for chart values that cannot work."""
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
    )
    return MeasuredReleases(releases, metrics)


def build_provisioner(core: Core, releases: Releases) -> Provisioner:
    config = core.config
    return Provisioner(
        queries=core.queries,
        store=core.redis.store,
        queues=core.redis.queues,
        releases=releases,
        cluster=core.kubernetes.cluster,
        admission=AdmissionQueue(running=config.helm_processes, waiting=config.helm_queue),
        idle_times=config.idle_times,
        helm_deadline=timedelta(seconds=config.helm_timeout),
        parking=config.parking,
        limits=config.limits,
        metrics=core.metrics,
        journal=core.journal,
    )
