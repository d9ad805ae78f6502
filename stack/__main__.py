"""`make up` and `make demo`: ``python -m stack --help``."""

import socket
import time
from pathlib import Path
from typing import Annotated

import typer

from devcluster import node, toolchain
from devcluster.cluster import Cluster
from devcluster.errors import DevclusterError
from images import recipes
from images.recipes import Image, Name
from stack import demo as timeline
from stack import generated as making
from stack import installation, release, visitor
from stack.interruption import undone_when_interrupted
from stack.stack import GATEWAY_DOMAIN, ROOT, USERS, Stack

app = typer.Typer(
    help="The service on an embedded cluster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
STATE = Path(".cluster")
PORT = 8080
GATEWAY_PORT = 8081
State = Annotated[Path, typer.Option(help="Folder that holds everything of this cluster.")]

_NEXT = """
The stack runs: Kubernetes, KEDA, Redis, and the service on {url}
Try (or `make demo` for the whole loop in under a minute):

  source {env}
  curl -s {url}/session/create -H 'Content-Type: application/json' -d '{{"user_id": "john@example.com"}}'
  UUID=abc123xy    # the one that create answered
  curl -s -X POST {url}/session/$UUID/wake
  curl -s {url}/session/$UUID/status
  kubectl -n {users} get deployments,pods,scaledobjects
  helm -n {users} list

The same by the command line: .venv/bin/user-pods login {url} --no-key, then .venv/bin/user-pods --help
API documentation: {url}/docs      Stop everything: make down
"""
_OPEN = """A VS Code in a real pod: asleep until somebody visits it, and again when its user has left. Its home is kept.
Open it once, within an hour, in a browser on this machine that trusts `localhost` without TLS (Chromium, Firefox):

  {link}

Another link, for the same session or your own: curl -s -X POST {url}/session/{uuid}/open
"""
_SIMULATED = """All pods are simulated: they wake and sleep like real ones, but nothing runs in them. So no workspace
can be opened in a browser; a link from /open leads to the waiting page only. For real pods: {how}
"""
_STAY_SIMULATED = (
    "Made without the real node, so their pods stay simulated: {uuids}. `helm -n {users} uninstall user-$UUID` and"
    " another create move one there.\n"
)
_NEED_NODE = "Made for the real node, which does not run, so their pods do not start: {uuids}.\n"
_LONGER = {"GATEWAY_TICKET": "3600"}
"""Leaves time to read before the link is opened."""


@app.command()
def up(
    state: State = STATE,
    port: Annotated[int, typer.Option(help="Port of the service.")] = PORT,
    gateway_port: Annotated[int, typer.Option(help="Port where workspaces are opened.")] = GATEWAY_PORT,
    real_node: Annotated[
        bool | None,
        typer.Option(
            "--node/--no-node", help="A node with real pods beside the simulated ones. Default: where possible."
        ),
    ] = None,
) -> None:
    """Start cluster and service. Running parts are kept, unless the workspace image or the node has changed."""
    cluster = Cluster(state)
    _check_ports(cluster, port, gateway_port)
    with undone_when_interrupted(cluster):
        _up(cluster, port, gateway_port, real_node)


def _up(cluster: Cluster, port: int, gateway_port: int, real_node: bool | None) -> None:
    began = time.monotonic()
    started = cluster.up(real_node=real_node)
    image = _image(cluster)
    stack = Stack(cluster, port=port, gateway_port=gateway_port, image=image, volume=True, settings=_LONGER)
    started = stack.up() or started
    env = cluster.write_env(
        {
            "SERVICE_URL": stack.url,
            "USERS_NAMESPACE": USERS,
            "GATEWAY_URL": _gateway_url(gateway_port),
            "GATEWAY_DOMAIN": GATEWAY_DOMAIN,
        }
    )
    if started:
        print(f"started in {time.monotonic() - began:.1f} s")
        print(_NEXT.format(url=stack.url, env=env, users=USERS))
    else:
        print(f"everything is running already; nothing was changed (service: {stack.url}, `source {env}`)")
    if image is not None:
        invitation = visitor.invite(stack, image)
        print(_OPEN.format(link=invitation.link, url=stack.url, uuid=invitation.uuid))
    else:
        print(_SIMULATED.format(how=_how_to_have_real_pods()))
    _report_misplaced(stack)


def _check_ports(cluster: Cluster, port: int, gateway_port: int) -> None:
    """Raises DevclusterError unless the service runs on these ports already, or can."""
    known = cluster.env() if cluster.status().get("service") else {}
    serving = known.get("SERVICE_URL")
    if serving and serving != Stack(cluster, port=port).url:
        raise DevclusterError(f"the service already runs on {serving}; run `make down` first to use another port")
    if known.get("GATEWAY_URL", _gateway_url(gateway_port)) != _gateway_url(gateway_port):
        opened = known["GATEWAY_URL"]
        raise DevclusterError(f"the gateway already runs on {opened}; run `make down` first to use another port")
    for wanted, name in () if serving else ((port, "PORT"), (gateway_port, "GATEWAY_PORT")):
        if _taken(wanted):
            raise DevclusterError(
                f"port {wanted} is in use by another program; stop it, or choose another port with {name}=<port>"
            )


def _gateway_url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _how_to_have_real_pods() -> str:
    lacks = dict.fromkeys([*node.missing(), *recipes.missing(Name.WORKSPACE)])
    if lacks:
        return f'this machine lacks {", ".join(lacks)} (devcluster/README.md, "A real node"); then `make up` again.'
    return "`make up` adds a node for them, or says why it cannot."


def _report_misplaced(stack: Stack) -> None:
    """Name the sessions, except the visitor's, whose pods are not placed as a new session's would be."""
    is_real = stack.image is not None
    if not is_real and stack.cluster.has_real_node:
        return  # only the image is missing
    uuids = [uuid for uuid, placement in visitor.placements(stack).items() if placement.is_real != is_real]
    if uuids:
        print((_STAY_SIMULATED if is_real else _NEED_NODE).format(uuids=", ".join(sorted(uuids)), users=USERS))


@app.command()
def demo(state: State = STATE) -> None:
    """Run the whole loop once and print it as a timeline. It has its own service, with short times."""
    if timeline.run(Cluster(state), report=print):
        print("the cluster was started for this and keeps running; `make down` stops it")


@app.command()
def down(
    state: State = STATE,
    purge: Annotated[bool, typer.Option("--purge", help="Remove the data too: sessions, volumes, images.")] = False,
) -> None:
    """Stop everything that was started here, and nothing else. The data stays for the next start."""
    stopped = Cluster(state).down(purge=purge) if state.exists() else []
    print(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


@app.command()
def images(state: State = STATE) -> None:
    """Build the images of an installation by helmfile, load them into the cluster's real node, and name them.

    Compiles helmfile, if need be, and puts it on the PATH of the cluster's `env`. Prints the file with values for
    `helmfile -e embedded --state-values-file`.
    """
    cluster = Cluster(state, tools=toolchain.ensure({**toolchain.CLUSTER, "helmfile": toolchain.EXTRA["helmfile"]}))
    values = installation.prepare(cluster)
    cluster.write_env({})
    print(values)


@app.command()
def generated(
    check: Annotated[bool, typer.Option("--check", help="Only compare; exit with 1 if any is stale.")] = False,
) -> None:
    """Rewrite the generated files."""
    if not check:
        making.rewrite()
        return
    stale = making.stale()
    for path in stale:
        print(f"{path.relative_to(ROOT)} is stale; run `make generated`")
    if stale:
        raise typer.Exit(1)


def _image(cluster: Cluster) -> Image | None:
    """The VS Code image. None without a real node, or where it cannot be built."""
    if not cluster.has_real_node:
        return None
    if lacks := recipes.missing(Name.WORKSPACE):
        print(f"all pods are simulated: the VS Code image needs {', '.join(lacks)}")
        return None
    return recipes.build(Name.WORKSPACE)


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


@app.command()
def release_notes(tag: Annotated[str, typer.Argument(help="For example `v0.2.0`.")]) -> None:
    """Print the changelog's section of a release, if every version in this checkout is that of the tag."""
    print(release.notes(tag), end="")


@app.command()
def package_charts(
    images: Annotated[str, typer.Argument(help="Where the images are, for example `ghcr.io/example/user-pods`.")],
    target: Annotated[Path, typer.Argument(help="Folder of the packages.")] = Path("dist"),
) -> None:
    """Package the charts for a registry."""
    helm = toolchain.ensure({"helm": toolchain.CLUSTER["helm"]}).path("helm")
    for path in release.package_charts(helm, images, target):
        print(path)


if __name__ == "__main__":
    try:
        app()
    except DevclusterError as error:
        typer.echo(f"stack: {error}", err=True)
        raise SystemExit(1) from None
