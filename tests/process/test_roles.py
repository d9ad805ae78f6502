"""A process runs the parts of its role and no others."""

import json
import socket
from collections.abc import Callable

import pytest
from aiohttp.test_utils import unused_port

from tests.process.conftest import Service

Make = Callable[..., Service]
GATEWAY = {"GATEWAY_DOMAIN": "localhost", "GATEWAY_SCHEME": "http"}


def health(service: Service) -> set[str]:
    """The parts that /health names while Redis and Kubernetes are down."""
    status, body = service.get("/health")
    assert status == 503
    return set(json.loads(body)["parts"])


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("role", "api", "gateway", "controls"),
    [
        ("all", True, True, True),
        ("api", True, False, False),
        ("gateway", False, True, False),
        ("controller", False, False, True),
    ],
)
def test_a_process_runs_the_parts_of_its_role(
    service: Make, role: str, api: bool, gateway: bool, controls: bool
) -> None:
    port = unused_port()
    each = service(ROLE=role, GATEWAY_PORT=str(port), **GATEWAY).start()
    each.lives()
    assert each.status("/readyz") == 503, "nothing has been read from Kubernetes"
    assert each.status("/sessions") == (503 if api else 404)
    assert each.status("/docs") == (200 if api else 404)
    assert listens(port) == gateway
    parts = health(each)
    assert {"redis", "kubernetes", "history", "wake tracker"} <= parts
    assert ({"keda", "helm"} <= parts) == (api or controls)
    assert ({"leader", "controller", "recovery"} <= parts) == controls
    assert bool({"leader", "controller", "recovery"} & parts) == controls
    assert ("entrance" in parts) == (api or gateway)
    each.signal()
    assert each.ended(20) == 0


@pytest.mark.parametrize("create", [True, False])
def test_a_gateway_runs_helm_if_and_only_if_a_first_visit_creates_a_session(service: Make, create: bool) -> None:
    oidc = {"OIDC_ISSUER": "http://127.0.0.1:9", "OIDC_CLIENT_ID": "workspaces", "OIDC_CREATE": str(create)}
    each = service(ROLE="gateway", GATEWAY_PORT=str(unused_port()), **GATEWAY, **oidc).start()
    each.lives()
    parts = health(each)
    assert ("helm" in parts) == create
    assert "keda" not in parts
    each.signal()
    assert each.ended(20) == 0


def test_the_option_wins_over_the_setting(service: Make) -> None:
    each = service("--role", "controller", ROLE="api").start()
    each.lives()
    assert each.status("/sessions") == 404


def test_a_gateway_without_a_domain_ends_the_start_with_advice(service: Make) -> None:
    each = service(ROLE="gateway").start()
    assert each.ended(60) == 2
    assert "USER_PODS_GATEWAY_DOMAIN must be set" in each.log


def test_each_role_has_its_own_metrics(service: Make) -> None:
    port = unused_port()
    each = service(ROLE="controller", METRICS_PORT=str(port)).start()
    each.lives()
    each.port, probes = port, each.port
    page = each.get("/metrics")[1].decode()
    each.port = probes
    assert "user_pods_leader 0.0" in page
    assert "user_pods_steps_total" in page
    assert "user_pods_gateway_held " not in page
    assert each.status("/metrics") == 404
