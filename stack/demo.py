"""The whole loop as a timeline, from real timestamps: create, asleep, wake, ready, idle, asleep, delete."""

import secrets
import socket
import time
from collections.abc import Callable

from devcluster.cluster import Cluster
from devcluster.errors import DevclusterError
from stack.calls import call
from stack.stack import Stack

_SHORT = {"POLLING_INTERVAL": "1", "LEASE": "4", "COOLDOWN": "10", "LOG_LEVEL": "warning"}
_TIMEOUT = 45.0


def run(cluster: Cluster, *, report: Callable[[str], None]) -> bool:
    """Needs nothing running; what it starts of its own (a second service, a session) it also removes.

    Whether the cluster had to be started, which is left running.
    """
    if not cluster.status():
        report("starting the cluster, some seconds")
    started = cluster.up()
    stack = Stack(cluster, port=free_port(), settings=_SHORT, name="demo-service")
    stack.prepare()
    stack.start()
    try:
        _loop(stack.url, report)
    finally:
        cluster.stop("demo-service")
    return started


def _loop(url: str, report: Callable[[str], None]) -> None:
    began = time.monotonic()

    def tell(event: str) -> None:
        report(f"{time.monotonic() - began:7.2f} s  {event}")

    report(
        f"times here: poll {_SHORT['POLLING_INTERVAL']} s, lease {_SHORT['LEASE']} s, cooldown {_SHORT['COOLDOWN']} s"
    )
    tell("create a session")
    created = call("POST", f"{url}/session/create", {"user_id": f"demo-{secrets.token_hex(4)}@example.com"})
    session = f"{url}/session/{created['uuid']}"
    tell(f"created: {created['uuid']}, installed as Helm release user-{created['uuid']}")
    _until(session, "asleep", tell)
    call("POST", f"{session}/wake")
    tell("wake: a token is in the queue; the service unparks it and scales it up")
    _until(session, "waking", tell)
    _until(session, "ready", tell)
    tell("nobody calls any more: the lease runs out, then the cooldown")
    _until(session, "asleep", tell)
    call("DELETE", f"{session}?keep_data=false")
    tell("deleted: release, keys and volume are gone")


def _until(session: str, phase: str, tell: Callable[[str], None]) -> None:
    deadline = time.monotonic() + _TIMEOUT
    while time.monotonic() < deadline:
        status = call("GET", f"{session}/status")
        if status["phase"] == phase:
            tell(f"{phase}: replicas {status['replicas']}, ready {status['ready_replicas']}")
            return
        if phase == "waking" and status["phase"] == "ready":
            return
        time.sleep(0.05)
    raise DevclusterError(f"the session did not get {phase} within {_TIMEOUT:.0f} s")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
