"""The whole loop as a timeline, from real timestamps: create, asleep, wake, ready, idle, asleep, delete."""

import json
import secrets
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from devcluster.cluster import Cluster
from devcluster.errors import DevclusterError
from stack.stack import Stack

_SHORT = {"POLLING_INTERVAL": "1", "LEASE": "4", "COOLDOWN": "10", "LOG_LEVEL": "warning"}
_PATIENCE = 45.0


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
    created = _call("POST", f"{url}/session/create", {"user_id": f"demo-{secrets.token_hex(4)}@example.com"})
    session = f"{url}/session/{created['uuid']}"
    tell(f"created: {created['uuid']}, installed as Helm release user-{created['uuid']}")
    _until(session, "asleep", tell)
    _call("POST", f"{session}/wake")
    tell("wake: a token is in the queue; the service unparks it and scales it up")
    _until(session, "waking", tell)
    _until(session, "ready", tell)
    tell("nobody calls any more: the lease runs out, then the cooldown")
    _until(session, "asleep", tell)
    _call("DELETE", f"{session}?keep_data=false")
    tell("deleted: release, keys and volume are gone")


def invitation(url: str, user_id: str) -> tuple[str, str]:
    """The user's session, made if need be, and a link that opens its workspace."""
    uuid = _created(url, user_id)
    return uuid, str(_call("POST", f"{url}/session/{uuid}/open")["url"])


def _created(url: str, user_id: str) -> str:
    """The id of the user's session; a service that has just started fills its index first."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return str(_call("POST", f"{url}/session/create", {"user_id": user_id})["uuid"])
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 503 or time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def _until(session: str, phase: str, tell: Callable[[str], None]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        status = _call("GET", f"{session}/status")
        if status["phase"] == phase:
            tell(f"{phase}: replicas {status['replicas']}, ready {status['ready_replicas']}")
            return
        if phase == "waking" and status["phase"] == "ready":
            return
        time.sleep(0.05)
    raise DevclusterError(f"the session did not get {phase} within {_PATIENCE:.0f} s")


def _call(method: str, url: str, body: dict[str, str] | None = None) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310 - always our own loopback address
        url,
        method=method,
        data=json.dumps(body).encode() if body else None,
        headers={"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as answer:
        text = answer.read()
    parsed: dict[str, Any] = json.loads(text) if text else {}
    return parsed


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
