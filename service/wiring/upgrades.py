"""Upgrades of releases: one by one, and all of them."""

from dataclasses import dataclass
from datetime import timedelta

from service.domain.ports import Releases
from service.domain.provisioning import Provisioner
from service.domain.rollouts import RolloutControl
from service.domain.upgrading import ReleaseUpgrades
from service.wiring.core import Core


@dataclass(frozen=True, kw_only=True)
class Upgrades:
    releases: ReleaseUpgrades
    control: RolloutControl


def build_upgrades(core: Core, releases: Releases, provisioner: Provisioner) -> Upgrades:
    upgrades = ReleaseUpgrades(
        store=core.redis.store,
        releases=releases,
        cluster=core.kubernetes.cluster,
        admission=provisioner.admission,
        helm_deadline=timedelta(seconds=core.config.helm_timeout),
        journal=core.journal,
    )
    control = RolloutControl(rollouts=core.redis.rollouts, upgrades=upgrades, cache=core.kubernetes.cache)
    return Upgrades(releases=upgrades, control=control)
