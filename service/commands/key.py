"""`key new`: make an API key."""

from enum import StrEnum
from typing import Annotated

import typer

from service.domain.api_keys import KEY_ROLES, BadKeyLine, new_api_key
from service.domain.permissions import CallerRole

KeyRole = StrEnum("KeyRole", {role.name: role.value for role in KEY_ROLES})  # type: ignore[misc]

app = typer.Typer(no_args_is_help=True, help="API keys with a name and a role (docs/how-to/api-keys.md).")


@app.callback()
def options() -> None:
    """Makes `new` a subcommand although it is the only one."""


@app.command()
def new(
    name: Annotated[str, typer.Option(help="Names the key in logs and histories, for example `shop`.")],
    role: Annotated[KeyRole, typer.Option(help="What the key may do.")],
    user: Annotated[str | None, typer.Option(help="The only user whom the key is for.")] = None,
    group: Annotated[str | None, typer.Option(help="The group of every session that it creates.")] = None,
) -> None:
    """Print a new key, and the line to store, which has only its hash."""
    try:
        key, stored = new_api_key(name, CallerRole(role), user, group)
    except BadKeyLine as error:
        typer.echo(f"This key cannot be made: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo("The key, for its caller. It is shown only now:", err=True)
    typer.echo(key)
    typer.echo("The line, for the file that USER_PODS_API_KEYS_FILE names:", err=True)
    typer.echo(stored.line)
