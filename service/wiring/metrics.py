"""The metrics page: a collector for each part that this process runs."""

from typing import Any

from prometheus_client.registry import Collector

from service.adapters.prometheus import gauges
from service.adapters.prometheus.exposition import Exposition
from service.domain.provisioning import Provisioner
from service.domain.session_counts import SessionCounter
from service.gateway.gateway import Gateway
from service.wiring.controller import Controller
from service.wiring.core import Core
from service.wiring.upgrades import Upgrades


def build_exposition(
    core: Core,
    *,
    counter: SessionCounter,
    controller: Controller | None,
    provisioner: Provisioner | None,
    upgrades: Upgrades | None,
    gateway: Gateway | None,
) -> Exposition:
    counted: list[gauges.CountedGauges[Any]] = [gauges.SessionGauges(counter.recent)]
    collectors: list[Collector] = [
        gauges.WatchGauges(core.kubernetes.cache),
        gauges.StoreGauges(core.redis.store),
        gauges.PartGauges(core.supervisor),
    ]
    if controller is not None:
        collectors += [
            gauges.LeaderGauges(controller.leader),
            gauges.ReconcilerGauges(controller.reconciler),
            gauges.ExpirerGauges(controller.expirer),
        ]
    if provisioner is not None:
        collectors.append(gauges.AdmissionGauges(provisioner.admission))
    if upgrades is not None:
        counted.append(gauges.ReleaseGauges(upgrades.control.counts))
    if gateway is not None:
        collectors.append(gauges.GatewayGauges(gateway))
    for collector in (*collectors, *counted):
        core.metrics.registry.register(collector)
    return Exposition(core.metrics.registry, *counted)
