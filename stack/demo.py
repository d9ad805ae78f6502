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
    """Run the loop, and return whether the cluster had to be started. The cluster keeps running afterwards.

    The second service and the session that this starts are removed.
    """
    if not cluster.status():
        report("starting the cluster, which takes some seconds")
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

    def log(event: str) -> None:
        report(f"{time.monotonic() - began:7.2f} s  {event}")

    report(
        f"this demo: poll {_SHORT['POLLING_INTERVAL']} s, lease {_SHORT['LEASE']} s, cooldown {_SHORT['COOLDOWN']} s"
    )
    log("create a session")
    created = call("POST", f"{url}/session/create", {"user_id": f"demo-{secrets.token_hex(4)}@example.com"})
    session = f"{url}/session/{created['uuid']}"
    log(f"created: {created['uuid']}, installed as Helm release user-{created['uuid']}")
    _until(session, "asleep", log)
    call("POST", f"{session}/wake")
    log("wake: a token is in the queue; the service unparks it and scales it up")
    _until(session, "waking", log)
    _until(session, "ready", log)
    log("no more calls: the lease runs out, then the cooldown")
    _until(session, "asleep", log)
    call("DELETE", f"{session}?keep_data=false")
    log("deleted: release, keys and volume are gone")


def _until(session: str, phase: str, log: Callable[[str], None]) -> None:
    deadline = time.monotonic() + _TIMEOUT
    while time.monotonic() < deadline:
        status = call("GET", f"{session}/status")
        if status["phase"] == phase:
            log(f"{phase}: replicas {status['replicas']}, ready {status['ready_replicas']}")
            return
        if phase == "waking" and status["phase"] == "ready":
            return
        time.sleep(0.05)
    raise DevclusterError(f"the session was not {phase} within {_TIMEOUT:.0f} s")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
