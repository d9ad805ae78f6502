"""/health: what it checks, and what it remarks on."""

from service.domain.access import WorkspaceAccess
from service.domain.health import Health
from service.domain.ports import Releases
from service.domain.supervisor import Supervisor
from service.settings import Settings
from service.wiring.controller import Controller
from service.wiring.kubernetes import KubernetesParts
from service.wiring.redis import RedisParts


def build_health(
    config: Settings,
    redis: RedisParts,
    kubernetes: KubernetesParts,
    *,
    releases: Releases,
    supervisor: Supervisor,
    controller: Controller,
    access: WorkspaceAccess | None,
) -> Health:
    return Health(
        {
            "redis": redis.store.ping,
            "kubernetes": kubernetes.cluster.check,
            "keda": kubernetes.cluster.check_keda,
            "helm": releases.check,
        },
        remarks={
            "wakes by others": controller.leader.remark,
            "sessions": redis.store.remark,
            **({"entry": access.remark} if access else {}),
        },
        parts=supervisor.failures,
        seconds=config.health_cache,
    )
