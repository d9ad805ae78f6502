"""The commands, one module per noun. Operators' commands get modules of their own beside these."""

from typing import Annotated

import typer

from user_pods_client import __version__
from user_pods_client.cli import activity, audit, history, sessions, sign_in, top
from user_pods_client.cli.exits import MEANINGS

_EPILOG = "Exit codes: " + "; ".join(f"{code.value} {meaning}" for code, meaning in MEANINGS.items()) + "."

app = typer.Typer(
    help=(
        "Workspaces that sleep when idle: create, open and wake them, and find out why they slept.\n\n"
        "Begin with `user-pods login URL`. Scripts set USER_PODS_URL and USER_PODS_TOKEN instead.\n\n"
        "The logs of a workspace's pod are with Kubernetes: `kubectl -n NAMESPACE logs -l uuid=ID`."
    ),
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Option("--context", "-c", help="Use this context, whatever the environment says.")
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    context.obj = name


_SIGN_IN, _SESSIONS, _ACTIVITY, _HISTORY = "Sign in", "Sessions", "Wake and sleep", "What happened"
_OPERATE = "For operators"
for _panel, _commands in (
    (_SIGN_IN, (sign_in.login, sign_in.logout, sign_in.whoami)),
    (_SESSIONS, (sessions.create, sessions.list_, sessions.show, sessions.delete)),
    (_ACTIVITY, (activity.open_, activity.wake, activity.sleep, activity.extend, activity.wait, activity.revoke)),
    (_HISTORY, (history.why, history.history, history.events)),
    (_OPERATE, (top.top, audit.audit)),
):
    for _command in _commands:
        app.command(_command.__name__.rstrip("_"), rich_help_panel=_panel)(_command)
app.add_typer(sign_in.context, name="context", rich_help_panel=_SIGN_IN)
