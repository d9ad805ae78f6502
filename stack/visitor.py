"""The session that `make up` offers to open, and the sessions whose pods are not what a new session would get."""

import json
import subprocess
import time
import urllib.error
from dataclasses import dataclass
from typing import Any

from devcluster import node
from devcluster.errors import DevclusterError
from images.recipes import Image
from stack.calls import call
from stack.stack import USERS, Stack

USER_ID = "visitor@example.com"
_TIMEOUT = 60.0


@dataclass(frozen=True)
class Placement:
    """Image and node of a session's pod."""

    is_real: bool
    """Whether it selects the real node; all other pods are simulated."""
    image: str


@dataclass(frozen=True)
class Invitation:
    uuid: str
    link: str
    """URL that opens the workspace in a browser, once."""


def invite(stack: Stack, image: Image) -> Invitation:
    """A link to the visitor's workspace, which runs `image` on the real node.

    A session from a start without that node, or with another image, is installed again under its id. Its home is kept.
    """
    uuid = _create(stack.url)
    if placements(stack).get(uuid) != Placement(is_real=True, image=image.reference):
        _uninstall(stack, uuid)
        _create(stack.url)
    return Invitation(uuid, str(call("POST", f"{stack.url}/session/{uuid}/open")["url"]))


def placements(stack: Stack) -> dict[str, Placement]:
    """Session id -> placement, for all sessions with a release."""
    found = stack.cluster.kubectl("get", "deployments", f"--namespace={USERS}", "--selector=uuid", "--output=json")
    return {item["metadata"]["labels"]["uuid"]: _placement(item) for item in json.loads(found)["items"]}


def _placement(deployment: dict[str, Any]) -> Placement:
    pod = deployment["spec"]["template"]["spec"]
    return Placement(is_real=node.LABEL in pod.get("nodeSelector", {}), image=pod["containers"][0]["image"])


def _create(url: str) -> str:
    """The id of the visitor's session, created if needed. Retries while a new service is not ready."""
    deadline = time.monotonic() + _TIMEOUT
    while True:
        try:
            return str(call("POST", f"{url}/session/create", {"user_id": USER_ID})["uuid"])
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 503 or time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def _uninstall(stack: Stack, uuid: str) -> None:
    """Uninstall the release as an operator would, and wait until the service has noticed."""
    argv = [str(stack.cluster.tools.path("helm")), "uninstall", f"user-{uuid}", "--namespace", USERS, "--wait"]
    argv += ["--kubeconfig", str(stack.cluster.kubeconfig)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DevclusterError(f"the visitor's session {uuid} cannot be installed again: {done.stderr.strip()}")
    deadline = time.monotonic() + _TIMEOUT
    while call("GET", f"{stack.url}/session/{uuid}/status")["session"]["status"] != "released":
        if time.monotonic() > deadline:
            raise DevclusterError(f"the service has not noticed that the release user-{uuid} is gone")
        time.sleep(0.1)
