"""`serve`: run the service."""

from functools import partial
from typing import Annotated

import typer

from service import logs, process, settings
from service.process import Life
from service.role import Role
from service.settings import Settings
from service.wiring.ports import Ports, bind_ports
from service.wiring.service import running_service


def serve(
    role: Annotated[Role | None, typer.Option(help="What this process runs; wins over USER_PODS_ROLE.")] = None,
) -> None:
    """Run the service; every setting is an environment variable (docs/reference/configuration.md)."""
    config = settings.load(role=role)
    logs.configure(level=config.log_level, style=config.log_format)
    settings.warn_of_removed()
    ports = bind_ports(config)
    process.run(partial(_serve, config, ports), seconds=config.drain_seconds, timeout=config.shutdown_timeout)


async def _serve(config: Settings, ports: Ports, life: Life) -> None:
    async with running_service(config, ports, life) as address:
        typer.echo(f"The service listens on {address}", err=True)
        await life.serve()
