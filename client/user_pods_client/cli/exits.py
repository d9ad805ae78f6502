"""Exit codes, which scripts rely on, and errors in words with the next step."""

import enum
import re
import shlex
from contextvars import ContextVar

from user_pods_client.cli import failures
from user_pods_client.cli.text import duration, printable
from user_pods_client.errors import (
    ClientError,
    NoAnswer,
    ServiceProblem,
    SessionFailed,
    UnexpectedAnswer,
    WaitTimeout,
    WorkspacesAddress,
)


class NotFound(ClientError):
    """No session has this id or user. `step`: what to do next, where more is known than that."""

    def __init__(self, detail: str, step: str = "") -> None:
        super().__init__(detail)
        self.step = step


class NotSignedIn(ClientError):
    """It is not known where the service is."""


class BadContexts(ClientError):
    """The file with the contexts cannot be used."""


class NoDashboard(ClientError):
    """The service has no dashboard."""


class BadArgument(ClientError):
    """An argument, or an answer on standard input, is not text."""


class NoReply(ClientError):
    """A question was asked, and standard input ended without an answer."""


class Declined(ClientError):
    """A question was asked, and the answer was not yes."""


class SignedOut(NotSignedIn):
    """The key of this context was forgotten on request."""


class ExitCode(enum.IntEnum):
    """What a script can tell apart. 1 is left to errors of the program itself."""

    DONE = 0
    USAGE = 2
    NOT_FOUND = 3
    NOT_ALLOWED = 4
    CONFLICT = 5
    TOO_MANY = 6
    UNAVAILABLE = 7
    TIMEOUT = 8
    FAILED = 9
    REFUSED = 10
    UNEXPECTED = 11
    WARNINGS = 12
    DECLINED = 13
    INTERRUPTED = 130


MEANINGS = {
    ExitCode.DONE: "done",
    ExitCode.USAGE: "wrong usage, nothing was sent",
    ExitCode.NOT_FOUND: "no such session",
    ExitCode.NOT_ALLOWED: "not signed in, or the key does not allow it",
    ExitCode.CONFLICT: "the session's state does not permit it",
    ExitCode.TOO_MANY: "too many calls or sessions, try again later",
    ExitCode.UNAVAILABLE: "the service cannot be reached, or a part of it does not work",
    ExitCode.TIMEOUT: "waited long enough",
    ExitCode.FAILED: "the session cannot become ready, or an upgrade of all has failed or was stopped",
    ExitCode.REFUSED: "the service does not accept a value",
    ExitCode.UNEXPECTED: "what answers is not the service, or its version does not fit",
    ExitCode.WARNINGS: "`doctor` has found warnings, and no errors",
    ExitCode.DECLINED: "a question was not answered with yes, nothing was done",
    ExitCode.INTERRUPTED: "interrupted by Ctrl-C",
}

_OF_KIND: tuple[tuple[type[ClientError], ExitCode], ...] = (
    (NotFound, ExitCode.NOT_FOUND),
    (NotSignedIn, ExitCode.NOT_ALLOWED),
    (BadContexts, ExitCode.USAGE),
    (BadArgument, ExitCode.USAGE),
    (NoReply, ExitCode.USAGE),
    (Declined, ExitCode.DECLINED),
    (SignedOut, ExitCode.NOT_ALLOWED),
    (NoDashboard, ExitCode.UNAVAILABLE),
    (NoAnswer, ExitCode.UNAVAILABLE),
    (WaitTimeout, ExitCode.TIMEOUT),
    (SessionFailed, ExitCode.FAILED),
    (UnexpectedAnswer, ExitCode.UNEXPECTED),
)
_OF_STATUS = {
    401: ExitCode.NOT_ALLOWED,
    403: ExitCode.NOT_ALLOWED,
    404: ExitCode.NOT_FOUND,
    409: ExitCode.CONFLICT,
    429: ExitCode.TOO_MANY,
}

given: ContextVar[str | None] = ContextVar("given", default=None)
"""The session or user that a command was called with, empty for the key's own; None before it has looked for it."""

_LOGIN = "Sign in with `user-pods login URL`; `user-pods context list` shows where you have."
_ADDRESS = "`user-pods whoami` shows which address is used; check it, and that the service runs."
_WHY = "`user-pods why WHO` tells what happened to the session."
_STEPS: dict[type[ClientError], str] = {
    NotFound: "`user-pods list` shows the sessions, and `user-pods create USER` makes one.",
    Declined: "--yes answers without a question.",
    SignedOut: "`user-pods login URL` signs in again; `user-pods context use NAME` uses another one.",
    NotSignedIn: _LOGIN,
    BadContexts: "",
    BadArgument: "Write it in UTF-8.",
    NoReply: "--yes answers without a question.",
    WorkspacesAddress: "Ask your operator for the address of the API, and sign in there with `user-pods login URL`.",
    NoDashboard: "It is there only where callers need a key or a token, and where its operator has not turned it off.",
    NoAnswer: _ADDRESS,
    WaitTimeout: f"{_WHY} `--timeout 10m` waits longer.",
    UnexpectedAnswer: _ADDRESS,
}
_STEPS_OF_TYPES = {
    "unauthorized": _LOGIN,
    "forbidden": "`user-pods whoami` shows your role there. Ask an operator for a key that may do this.",
    "session-not-found": _STEPS[NotFound],
    "group-refused": "Leave --group out: it follows from your key.",
    "unknown-profile": "`user-pods profiles` lists those that you may choose.",
    "session-awake": (
        "`user-pods upgrade WHO --restart` upgrades it now. `user-pods wait WHO --for=asleep` waits until it sleeps."
    ),
    "upgrade-running": "`user-pods upgrade --status` shows it, and `user-pods upgrade --stop` stops it.",
    "no-upgrade": "`user-pods upgrade --all` starts one.",
    "session-asleep": "`user-pods wake WHO` wakes it.",
    "session-released": "`user-pods create` with its user's id installs it again, with the files that were kept.",
    "session-paused": "Only an operator can end the pause.",
    "session-broken": "`user-pods create` with its user's id repairs it.",
    "session-unreadable": "`user-pods create` with its user's id repairs it.",
    "session-deleting": "`user-pods wait WHO --for=deleted` waits until it is gone.",
    "gateway-off": "This service does not open workspaces. Ask the operator where yours is.",
}


_ARGUMENTS = {
    "/seconds": "DURATION",
    "/user_id": "USER",
    "/idle/cooldown": "--cooldown",
    "/idle/background": "--background",
    "/profile": "--profile",
    "/group": "--group",
}
"""By what names a value in a request: the argument that it came from."""
_DURATIONS = frozenset({"DURATION", "--cooldown", "--background"})
_BOUND = re.compile(r"(greater|less) than or equal to (\d+)")


def code_of(error: ClientError) -> ExitCode:
    if isinstance(error, ServiceProblem):
        other = ExitCode.UNAVAILABLE if error.status >= 500 else ExitCode.REFUSED
        return _OF_STATUS.get(error.status, other)
    return next((code for kind, code in _OF_KIND if isinstance(error, kind)), ExitCode.UNEXPECTED)


def explanation(error: ClientError, *, tried: str | None = None) -> str:
    """What happened, and what to do next; lines for stderr. `tried`: an address that no context has yet."""
    lines = [f"user-pods: {printable(_said(error))}"]
    if isinstance(error, ServiceProblem):
        lines += [f"  {printable(_wrong(pointer, detail))}" for pointer, detail in error.errors]
    step = _naming(_step(error))
    if tried is not None and isinstance(error, ServiceProblem) and error.slug == "unauthorized":
        step = "Check that the whole key was given, or ask an operator for a new one. Nothing was stored."
    if tried is not None and step == _ADDRESS:
        step = f"The address that was tried is {tried}. Check it, and that the service runs. Nothing was stored."
    lines += [step] if step else []
    if isinstance(error, ServiceProblem) and error.status >= 500 and error.instance:
        lines.append(f"The service's log has it as {printable(error.instance)}.")
    return "\n".join(lines) + "\n"


def _said(error: ClientError) -> str:
    """What happened. What the service says of its requests is for programs, so here it is in a person's words."""
    if isinstance(error, ServiceProblem):
        if error.slug == "unauthorized" and "Authorization" in error.detail:
            return "the service does not accept the key: it is missing, wrong or expired"
        if error.slug == "does-not-fit" and error.errors:
            return "the service does not accept this"
    return str(error).removesuffix("; see `errors`")


def _wrong(pointer: str, detail: str) -> str:
    """What is wrong with which argument, for what `pointer` names in the request."""
    name = _ARGUMENTS.get(pointer, pointer)
    bound = _BOUND.search(detail)
    if bound is None or name not in _DURATIONS:
        return f"{name}: {detail}"
    which, number = bound.groups()
    return f"{name}: {duration(int(number)).replace('.0 s', ' s')} at {'least' if which == 'greater' else 'most'}"


def _naming(step: str) -> str:
    """The step with the session as it was given, or without one where none is needed."""
    who = given.get()
    return step if who is None else step.replace(" WHO", f" {shlex.quote(who)}" if who else "")


def _step(error: ClientError) -> str:
    if isinstance(error, NotFound) and error.step:
        return error.step
    if isinstance(error, SessionFailed):
        why = _WHY.replace("WHO", error.uuid)
        return why if error.reason is None else f"{failures.next_step(error.uuid, error.reason)}\n{why}"
    if not isinstance(error, ServiceProblem):
        return next((step for kind, step in _STEPS.items() if isinstance(error, kind)), "")
    if error.slug in _STEPS_OF_TYPES:
        return _STEPS_OF_TYPES[error.slug]
    if error.retry_after is not None:
        return f"Try again in {error.retry_after:g} s."
    return ""
