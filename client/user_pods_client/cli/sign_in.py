"""Commands that sign in and out, and choose between services."""

import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from user_pods_client.address import base_url
from user_pods_client.cli import contexts, exits, output
from user_pods_client.cli.connection import Target, reach, target
from user_pods_client.cli.contexts import Context
from user_pods_client.cli.output import Format
from user_pods_client.cli.text import printable
from user_pods_client.errors import NoAnswer, UnexpectedAnswer
from user_pods_client.models import WhoAmI
from user_pods_client.problems import NotFound, Unauthorized

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


Name = Annotated[str, typer.Argument(help="The context's name.", autocompletion=contexts.beginning)]


def login(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="The service's address, for example https://pods.example.com.")
    ],
    name: Annotated[str | None, typer.Option(help="A name for this context. Default: the service's host.")] = None,
    key_file: Annotated[Path | None, typer.Option(help="Read the key from this file.")] = None,
    no_key: Annotated[
        bool, typer.Option("--no-key", help="The service has no keys: `make up` on this machine.")
    ] = False,
) -> None:
    """Sign in to a service with a key or a token, and use it from now on.

    The key is asked for, or read from standard input or a file; never write it into a command, where others can see
    it. It is stored in a file that only you can read.
    """
    try:
        address = base_url(url)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="URL") from None
    host = urlsplit(address).hostname or ""
    if address.startswith("http:") and host not in _LOOPBACK and not no_key:
        typer.echo("Warning: without https, everybody on the way can read the key.", err=True)
    key = None if no_key else _key(key_file)
    try:
        found = _check(Target(address, key, "the address or the key"))
    except (NoAnswer, UnexpectedAnswer, Unauthorized) as error:
        typer.echo(exits.explanation(error, tried=address), err=True, nl=False)
        raise typer.Exit(exits.code_of(error)) from None
    needless = found is not None and found.key_required is False
    with contexts.changing() as known:
        known.put(Context(name or host, address, None if needless else key))
    if needless:
        ignored = " Yours was not checked and is not stored." if key else ""
        typer.echo(f"The service at {address} asks for no key.{ignored} Context {name or host} is in use.")
        return
    typer.echo(f"Signed in to {address}{_as(found)}. Context {name or host} is in use.")


def logout(
    name: Annotated[
        str | None,
        typer.Argument(help="The context's name. Default: the one in use.", autocompletion=contexts.beginning),
    ] = None,
) -> None:
    """Forget a context's key. The service keeps it valid: if it is lost, have an operator revoke it."""
    with contexts.changing() as known:
        chosen = name or known.current
        found = known.find(chosen) if chosen else None
        if found and found.token:
            known.by_name[found.name] = Context(found.name, found.url, signed_out=True)
    if found is None:
        typer.echo("You are not signed in.")
    elif found.signed_out:
        typer.echo(f"You are signed out of {found.url} already.")
    elif found.token is None:
        typer.echo(f"The service at {found.url} asks for no key, so there is none to forget.")
    else:
        typer.echo(f"The key for {found.url} is forgotten. `user-pods login {found.url}` signs in again.")


def whoami(context: typer.Context, format_: output.Output = Format.TABLE) -> None:
    """Show which service is used, and who you are there: name, role, and for which user."""
    used = target(context)
    found = _check(used)
    document = {
        "url": used.url,
        "source": used.source,
        "name": found and found.name,
        "role": found and found.role,
        "user_id": found and found.user_id,
    }
    unknown = "this service does not tell; it accepts the key" if used.token else "nobody: no key is sent"
    pairs = [
        ("Service", f"{used.url}, from {used.source}"),
        ("You are", found.name if found else unknown),
        ("Role", found.role if found else ""),
        ("For", (found.user_id or "every user") if found else ""),
    ]
    output.show(
        output.rendered(
            document, format_, table=lambda: output.fields(pairs), names=lambda: [found.name] if found else []
        )
    )


context = typer.Typer(no_args_is_help=True, help="Choose between services.")


@context.command("list")
def list_(format_: output.Output = Format.TABLE) -> None:
    """List the services that you have signed in to. Keys are not shown."""
    known = contexts.read()
    rows = [
        ("*" if each.name == known.current else " ", each.name, each.url, "yes" if each.token else "no")
        for each in known.by_name.values()
    ]
    document = [
        {"name": name, "url": url, "key": key == "yes", "current": current == "*"} for current, name, url, key in rows
    ]
    output.show(
        output.rendered(
            document,
            format_,
            table=lambda: output.columns(
                ("IN USE", "NAME", "URL", "KEY"),
                rows,
                none="You are signed in nowhere: `user-pods login URL` signs in.",
            ),
            names=lambda: [each.name for each in known.by_name.values()],
        )
    )


@context.command("use")
def use(name: Name) -> None:
    """Use this context from now on."""
    with contexts.changing() as known:
        known.current = known.find(name).name
    typer.echo(f"Context {name} is in use.")


@context.command("show")
def show(name: Annotated[str | None, typer.Argument(autocompletion=contexts.beginning)] = None) -> None:
    """Show a context, by default the one in use. Its key is not shown."""
    known = contexts.read()
    if not (name or known.current):
        typer.echo("No context is in use.")
        return
    found = known.find(name or known.current or "")
    pairs = [("Name", found.name), ("Service", found.url), ("Key", "stored" if found.token else "none")]
    typer.echo(output.fields([*pairs, ("File", str(contexts.path()))]))


@context.command("delete")
def delete(name: Name) -> None:
    """Forget a context, with its key."""
    with contexts.changing() as known:
        known.delete(name)
    typer.echo(f"Context {name} is forgotten.")


def _key(file: Path | None) -> str:
    if file is not None:
        try:
            text = file.read_text()
        except (OSError, UnicodeDecodeError):
            raise typer.BadParameter(f"{file} cannot be read", param_hint="--key-file") from None
    else:
        try:
            text = _typed()
        except UnicodeDecodeError:
            raise typer.BadParameter("the key on standard input is not text; a key is printable ASCII") from None
    if not text.strip():
        raise typer.BadParameter("no key was given; --no-key is for a service without keys")
    return text.strip()


def _typed() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("Key", hide_input=True, err=True))
    return sys.stdin.readline(100_000)


def _check(target: Target) -> WhoAmI | None:
    """Who the service says that one is; None if it is too old to tell. Raises Unauthorized, among others."""
    with reach(target) as pods:
        try:
            return pods.whoami()
        except NotFound:
            pods.list_sessions(limit=1)
            return None


def _as(found: WhoAmI | None) -> str:
    if found is None:
        return ""
    return printable(f" as {found.name} ({found.role}{f', for {found.user_id}' if found.user_id else ''})")
