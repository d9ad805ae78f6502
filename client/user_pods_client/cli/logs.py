"""The command that tells how to read the log of a workspace."""

import shlex
from typing import Annotated

import typer

from user_pods_client import problems
from user_pods_client.cli import arguments, output
from user_pods_client.cli.connection import connect, find
from user_pods_client.models import Status

_UNKNOWN = "NAMESPACE"


def logs(
    context: typer.Context,
    who: arguments.Who = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines.")] = False,
    tail: Annotated[int, typer.Option(min=0, help="The last lines.")] = 100,
    previous: Annotated[bool, typer.Option("--previous", "-p", help="Of the container before it restarted.")] = False,
) -> None:
    """Print the kubectl command that reads the log of a workspace's container.

    The service itself may not read what people print in their shells. Your own rights in the cluster decide. Run it at
    once by: sh -c "$(user-pods logs WHO)"
    """
    with connect(context) as pods:
        found = find(pods, who)
        try:
            namespace = pods.summary().users_namespace
        except (problems.Forbidden, problems.NotFound):
            namespace = _UNKNOWN
    command = ["kubectl", "-n", namespace, "logs", "-l", f"uuid={found.uuid}", "-c", "workspace", f"--tail={tail}"]
    command += ["-f"] if follow else []
    command += ["--previous"] if previous else []
    for remark in _remarks(found, namespace):
        output.say(remark, err=True)
    output.say(shlex.join(command))


def _remarks(status: Status, namespace: str) -> list[str]:
    remarks = []
    if not status.replicas:
        remarks.append(f"Session {status.uuid} is {status.phase} and has no pod, so there is no log now.")
    if namespace == _UNKNOWN:
        remarks.append(f"Your key does not show the users' namespace: ask an operator what to write for {_UNKNOWN}.")
    return remarks
