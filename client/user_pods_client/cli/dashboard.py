"""The command that leads to the dashboard."""

from typing import Annotated

import typer

from user_pods_client.cli import browser
from user_pods_client.cli.connection import connect
from user_pods_client.cli.exits import NoDashboard
from user_pods_client.problems import NotFound


def dashboard(
    context: typer.Context,
    start_browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open it in a browser.")] = True,
) -> None:
    """Open the dashboard of the service: print its address, and start a browser with it. It asks for a key."""
    with connect(context) as pods:
        try:
            address = pods.dashboard()
        except NotFound:
            raise NoDashboard(f"the service at {pods.url} has no dashboard") from None
    typer.echo(address)
    if start_browser and not browser.show(address):
        typer.echo("No browser could be started here: open the address in one yourself.", err=True)
