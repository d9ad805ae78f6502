"""Which service is meant, and how to reach it."""

import os
from dataclasses import dataclass, field

import typer

import user_pods_client
from user_pods_client.cli import contexts
from user_pods_client.cli.exits import NotFound, NotSignedIn, SignedOut, given
from user_pods_client.models import Status
from user_pods_client.problems import Forbidden, SessionNotFound
from user_pods_client.problems import NotFound as NoSuchPath

URL, TOKEN = "USER_PODS_URL", "USER_PODS_TOKEN"


@dataclass(frozen=True)
class Target:
    """A service and the key for it; `source`: what named it."""

    url: str
    token: str | None = field(repr=False)
    source: str


def target(context: typer.Context) -> Target:
    """From the option --context, the environment, or the context in use. Raises NotSignedIn.

    A key goes only to the service that it was stored or given with.
    """
    named: str | None = context.obj
    url, token = os.environ.get(URL), os.environ.get(TOKEN)
    if named is None and url:
        return Target(url, token or None, f"the environment ({URL})")
    if named is None and token:
        raise NotSignedIn(f"{TOKEN} is set without {URL}, so it is not known where the key belongs")
    known = contexts.read()
    name = named or known.current
    if name is None:
        raise NotSignedIn(f"no service is known: neither {URL} is set, nor a context in use")
    found = known.find(name)
    if found.signed_out:
        raise SignedOut(f"you are signed out of the context {found.name} ({found.url})")
    return Target(found.url, found.token, f"the context {found.name}")


def connect(context: typer.Context) -> "user_pods_client.Client":
    return reach(target(context))


def reach(target: Target) -> "user_pods_client.Client":
    try:
        return user_pods_client.Client(target.url, target.token)
    except ValueError as error:
        raise NotSignedIn(f"{target.source} is wrong: {error}") from None


def is_id(who: str) -> bool:
    """Whether it can be a session's id. It can be a user's as well."""
    return len(who) == 8 and who.isascii() and who.isalnum() and who == who.lower()


def find(pods: "user_pods_client.Client", who: str) -> Status:
    """The session with this id, or of this user; of the key's own user if neither is named. Raises NotFound."""
    given.set(who)
    user = who or own_user(pods)
    if is_id(who):
        try:
            return pods.status(who)
        except SessionNotFound:
            pass
    try:
        found = pods.list_sessions(user_id=user, limit=1).sessions
    except Forbidden:
        # A key for one user: nobody learns by it whether somebody else has a session, or which ids there are.
        if pods.whoami().user_id in (None, user):
            raise
        found = []
    if not found:
        if not who:
            raise NotFound(f"{user} has no session", "`user-pods create` makes one.")
        raise NotFound(f"there is no session with the id or user {user}")
    return found[0]


def own_user(
    pods: "user_pods_client.Client", *, missing: str = "name a session or its user: your key is not for one user only"
) -> str:
    """The only user that the key may act for. Raises BadParameter that says what is `missing` otherwise."""
    try:
        user = pods.whoami().user_id
    except NoSuchPath:
        user = None
    if user is None:
        raise typer.BadParameter(missing)
    return user
