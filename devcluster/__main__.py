"""The embedded cluster by hand: ``python -m devcluster --help``."""

import time
from pathlib import Path
from typing import Annotated

import typer

from devcluster import node, publishing, toolchain
from devcluster.cluster import Cluster
from devcluster.errors import DevclusterError
from devcluster.invocation import command
from devcluster.registry import Registry

app = typer.Typer(help="A Kubernetes cluster of real parts, without Docker and without root.", no_args_is_help=True)
State = Annotated[Path, typer.Option(help="Folder that holds everything of this cluster.")]
Node = Annotated[
    bool | None,
    typer.Option(
        "--node/--no-node", help="A real node beside the simulated ones. Default: where this machine allows one."
    ),
]
Platform = Annotated[str, typer.Option(help="For another one than this machine's, for example `linux/arm64`.")]
DEFAULT = Path(".cluster")


@app.command()
def tools(
    names: Annotated[list[str] | None, typer.Argument(help="Only these, for example `helm helmfile`.")] = None,
    extra: Annotated[bool, typer.Option(help="Also those that only tests need.")] = False,
) -> None:
    """Fetch or compile the pinned tools (once) and print where they are."""
    every = {**toolchain.CLUSTER, **toolchain.NODE, **toolchain.EXTRA}
    if unknown := set(names or ()) - set(every):
        raise DevclusterError(f"no such tool: {', '.join(sorted(unknown))}; there are {', '.join(every)}")
    wanted = {**toolchain.CLUSTER, **(toolchain.EXTRA if extra else {})}
    if not node.missing():
        wanted |= toolchain.NODE
    if names:
        wanted = {name: every[name] for name in names}
    for folder in toolchain.ensure(wanted).bins:
        print(folder)


@app.command()
def lock_tools(platform: Platform = "") -> None:
    """Compile the cluster's tools and write their digests into tools/published.json."""
    print(f"{len(publishing.Publisher(platform).lock().tools)} tools")


@app.command()
def push_tools(
    registry: Annotated[str, typer.Argument(help="For example `ghcr.io/example/user-pods/tools`.")],
    platform: Platform = "",
) -> None:
    """Compile the cluster's tools, compare them with tools/published.json, push them and print their references.

    DEVCLUSTER_REGISTRY_USER and DEVCLUSTER_REGISTRY_PASSWORD log in.
    """
    for reference in publishing.Publisher(platform).push(Registry(registry, publishing.credentials())):
        print(reference)


@app.command()
def up(
    state: State = DEFAULT,
    redis: Annotated[str | None, typer.Option(help="`system` or `wheel` (6.2). Default: whichever is there.")] = None,
    real_node: Node = None,
    keda: Annotated[bool, typer.Option(help="Run KEDA. Without it, install it into pods.")] = True,
) -> None:
    """Start the cluster. What runs already is left alone."""
    started = time.monotonic()
    cluster = Cluster(state, redis=redis)
    if cluster.up(real_node=real_node, keda=keda):
        print(f"ready after {time.monotonic() - started:.1f} s; to use it: source {state / 'env'}")
    else:
        print("the cluster is running already; nothing was changed")


@app.command()
def down(state: State = DEFAULT, purge: Annotated[bool, typer.Option(help="Remove the data too.")] = False) -> None:
    """Stop everything that `up` started, and nothing else."""
    stopped = Cluster(state).down(purge=purge)
    print(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


@app.command()
def load_image(archive: Path, state: State = DEFAULT) -> None:
    """Import the images of an archive (Docker or OCI format) into the real node."""
    Cluster(state).load_image(archive)


@app.command()
def status(state: State = DEFAULT) -> None:
    """Show what runs, and the last log lines of what died. Exits with 1 unless everything runs."""
    cluster = Cluster(state)
    states = cluster.status()
    for name, alive in states.items():
        print(f"{name:26}{'runs' if alive else 'DEAD'}")
        if not alive:
            print(cluster.tail(name))
    if not states:
        print(f"nothing was started here; `{command('devcluster', 'up', '--state', str(state))}` starts it")
    if not states or not all(states.values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    try:
        app()
    except DevclusterError as error:
        typer.echo(f"devcluster: {error}", err=True)
        raise SystemExit(1) from None
