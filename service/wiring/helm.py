"""Helm, measured, and the chart values of every release."""

from datetime import timedelta

from service.adapters.helm.metered import MeasuredReleases
from service.adapters.helm.releases import HelmReleases, read_values
from service.domain.metrics import ServiceMetrics
from service.settings import PREFIX, Settings, SettingsError


def build_releases(config: Settings, metrics: ServiceMetrics) -> MeasuredReleases:
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
        deadline=timedelta(seconds=config.helm_timeout),
    )
    return MeasuredReleases(releases, metrics)
