"""/health: what it checks, and what it remarks on, in each role."""

from collections.abc import Awaitable, Callable

from service.domain.access import WorkspaceAccess
from service.domain.health import Health
from service.domain.identity import IdentityProvider
from service.domain.ports import Releases
from service.wiring.callers import Callers
from service.wiring.controller import Controller
from service.wiring.core import Core


def build_health(
    core: Core,
    *,
    releases: Releases | None,
    controller: Controller | None,
    access: WorkspaceAccess | None,
    provider: IdentityProvider | None,
    callers: Callers | None,
) -> Health:
    """`releases` is None in a process that runs no helm. KEDA does not concern a gateway.

    An identity provider that is away is only remarked on: whoever is signed in stays so.
    """
    checks: dict[str, Callable[[], Awaitable[None]]] = {
        "redis": core.redis.store.ping,
        "kubernetes": core.kubernetes.cluster.check,
    }
    if core.config.role.serves_api or core.config.role.controls:
        checks["keda"] = core.kubernetes.cluster.check_keda
    if releases is not None:
        checks["helm"] = releases.check
    remarks: dict[str, Callable[[], str | None]] = {"sessions": core.redis.store.remark}
    if controller is not None:
        remarks["wakes by others"] = controller.leader.remark
    if access is not None:
        remarks["entry"] = access.remark
    if callers is not None:
        remarks["API keys"] = callers.keys.remark
    if callers is not None and callers.people is not None:
        remarks["API tokens"] = callers.people.remark
    if provider is not None:
        remarks["sign-in"] = provider.remark
    return Health(
        checks,
        remarks=remarks,
        parts=core.supervisor.failures,
        seconds=core.config.health_cache,
    )
