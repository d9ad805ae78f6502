"""The commands. Each has its module, of which only the one in use is imported, so that every start is quick."""

import importlib
import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated

import typer

from user_pods_client import __version__
from user_pods_client.cli.exits import MEANINGS

_PANELS: Mapping[str, Mapping[str, str]] = {
    "Sign in": {
        "login": "sign_in.login",
        "logout": "sign_in.logout",
        "whoami": "sign_in.whoami",
        "context": "sign_in.context",
    },
    "Sessions": {
        "create": "sessions.create",
        "list": "sessions.list_",
        "show": "sessions.show",
        "delete": "sessions.delete",
        "profiles": "sessions.profiles",
        "dashboard": "dashboard.dashboard",
    },
    "Wake and sleep": {
        "open": "activity.open_",
        "wake": "activity.wake",
        "sleep": "activity.sleep",
        "extend": "activity.extend",
        "keep": "activity.keep",
        "wait": "activity.wait",
        "revoke": "activity.revoke",
    },
    "What happened": {
        "why": "history.why",
        "history": "history.history",
        "events": "history.events",
        "logs": "logs.logs",
    },
    "For operators": {
        "top": "top.top",
        "doctor": "doctor.doctor",
        "upgrade": "upgrade.upgrade",
        "audit": "audit.audit",
        "plan": "plan.plan",
    },
}
"""By panel of the help and by name: a module of this package, and in it a function, or a Typer with more commands."""
_PLACES = {name: (panel, place) for panel, commands in _PANELS.items() for name, place in commands.items()}
_WITH_VALUE = frozenset({"--context", "-c"})
"""Options that come before the command, and have a value."""
_EPILOG = "Exit codes: " + "; ".join(f"{code.value} {meaning}" for code, meaning in MEANINGS.items()) + "."


def build(names: Collection[str] = tuple(_PLACES)) -> typer.Typer:
    """The command line with these commands alone."""
    app = typer.Typer(
        help=(
            "Workspaces that sleep when idle: create, open and wake them, and find out why they slept.\n\n"
            "Begin with `user-pods login URL`. Scripts set USER_PODS_URL and USER_PODS_TOKEN instead."
        ),
        epilog=_EPILOG,
        no_args_is_help=True,
        context_settings={"help_option_names": ["--help", "-h"]},
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    app.callback()(_options)
    for name in names:
        panel, place = _PLACES[name]
        module, _, member = place.partition(".")
        found = getattr(importlib.import_module(f"user_pods_client.cli.{module}"), member)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name, rich_help_panel=panel)
        else:
            app.command(name, help=_unwrapped(inspect.getdoc(found) or ""), rich_help_panel=panel)(found)
    return app


def _unwrapped(text: str) -> str:
    """Each paragraph in one line: the terminal is as wide as it is, not as the source."""
    return "\n\n".join(" ".join(each.split()) for each in text.split("\n\n"))


def build_for(arguments: Sequence[str]) -> typer.Typer:
    """What these arguments need: the command that they name; or all of them, for help, completion or a typing error."""
    rest = iter(arguments)
    for each in rest:
        if each in _WITH_VALUE:
            next(rest, None)
        elif not each.startswith("-"):
            return build([each]) if each in _PLACES else build()
    return build()


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


def _contexts(incomplete: str) -> list[str]:
    found: list[str] = importlib.import_module("user_pods_client.cli.contexts").beginning(incomplete)
    return found


def _options(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Option(
            "--context", "-c", help="Use this context, whatever the environment says.", autocompletion=_contexts
        ),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    context.obj = name
