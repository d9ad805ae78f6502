"""Refusals of the gateway itself, where no pod can respond: a page for people, a problem document for programs."""

import logging
from collections.abc import Sequence
from enum import StrEnum

from aiohttp import hdrs, web

from service.domain import errors
from service.domain.metrics import RequestOutcome
from service.edge.faults import SLOW_HEAD, Fault
from service.edge.problems import problem, status_of

log = logging.getLogger(__name__)

OWN_HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}
"""Headers of every response that the gateway makes itself."""
# An unreadable session's own message names a command for operators.
_UNREADABLE = (
    "The service cannot read its data about this session. Your files are not affected. Ask your operator:"
    " the session's status says what to repair."
)
_CREATE_AGAIN = "Its release is gone. `POST /session/create` or `user-pods create USER` brings it back at this address."
_CREATE_AFTERWARDS = "Once that is done, `POST /session/create` or `user-pods create USER` makes a new one."
_NO_SIGNING_KEYS = "The service cannot read its signing keys yet. Try again in a moment."
NO_SUCH_WORKSPACE = (
    "No workspace has this address. Check it, or open your workspace again from the page that led you here."
)


class PageKind(StrEnum):
    """What a page says: the catalogue has a title, a text and the next step of each, `page.<kind>.title` and so on."""

    ASLEEP = "asleep"
    BROKEN = "broken"
    BUSY = "busy"
    """Too many requests, or too many that wait."""
    DELETING = "deleting"
    FAILED = "failed"
    """It could not be started."""
    FULL = "full"
    """As many are awake as may be."""
    LINK_USED = "link_used"
    NOT_AWAKE = "not_awake"
    """What was asked for needs an awake workspace."""
    NOT_FOUND = "not_found"
    """The workspace exists, but nothing at this address of the gateway."""
    NOT_OPENED = "not_opened"
    """A browser fetched a link ahead of time."""
    NOT_SIGNED_IN = "not_signed_in"
    NOT_YOURS = "not_yours"
    """The workspace is somebody else's, or there is none: nobody learns which."""
    NO_SESSION = "no_session"
    """The user has no workspace, and none may be created."""
    PAUSED = "paused"
    REFUSED = "refused"
    """Any other fault of the request."""
    REMOVED = "removed"
    REVOKED = "revoked"
    SIGN_IN_BUSY = "sign_in_busy"
    """Too many users sign in at the same time."""
    SIGN_IN_CANCELLED = "sign_in_cancelled"
    SIGN_IN_CLOCKS = "sign_in_clocks"
    SIGN_IN_DENIED = "sign_in_denied"
    """The account is none of those that are allowed."""
    SIGN_IN_EXPIRED = "sign_in_expired"
    SIGN_IN_INVALID = "sign_in_invalid"
    SIGN_IN_LOOP = "sign_in_loop"
    """Signing in again and again brings no access."""
    SIGN_IN_MISCONFIGURED = "sign_in_misconfigured"
    SIGN_IN_NAMELESS = "sign_in_nameless"
    SIGN_IN_PROVIDER = "sign_in_provider"
    """The identity provider does not answer."""
    SIGN_IN_UNVERIFIED = "sign_in_unverified"
    SIGN_IN_USED = "sign_in_used"
    SIGN_IN_UNAVAILABLE = "sign_in_unavailable"
    SLOW = "slow"
    """It did not wake in time."""
    STOPPED = "stopped"
    """Its program does not answer, or with something that is no HTTP."""
    TOO_LONG = "too_long"
    """It may not be kept awake for so long."""
    TOO_OFTEN = "too_often"
    """It was asked to wake, stay awake, sleep or restart again and again."""
    UNAVAILABLE = "unavailable"
    """Any other fault of the system."""
    UNKNOWN = "unknown"
    """No workspace has this host."""


class GatewayError(Exception):
    """`title` and `detail` are for problem documents; `page` is what a person reads instead. `detail`
    is a sentence that says what to do; `retry_after` is in seconds.

    `outcome` is how the metrics count it. By default the status decides: the client's fault, or the workspace's.
    `sign_in` is the URL where a person without access signs in, if there is one. `links`: the text's
    key in the catalogue, and the URL, of each way on.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        *,
        retry_after: int | None = None,
        outcome: RequestOutcome | None = None,
        page: PageKind | None = None,
        sign_in: str | None = None,
        links: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail
        self.retry_after = retry_after
        self.page = page or (PageKind.UNAVAILABLE if status >= 500 else PageKind.REFUSED)
        self.sign_in = sign_in
        self.links = links
        self.outcome = outcome or (RequestOutcome.FAILED if status >= 500 else RequestOutcome.REFUSED)

    def response(self, name: str | None = None) -> web.Response:
        """A problem document. `name` is the id by which the log knows the request."""
        if name is None:
            log.debug("refused: %s", self.title, extra={"status": self.status})
        response = problem(self.status, self.detail, title=self.title, request_id=name)
        response.headers.update(OWN_HEADERS)
        if self.retry_after is not None:
            response.headers[hdrs.RETRY_AFTER] = str(self.retry_after)
        return response


_TEXTS: dict[type[errors.SessionError], tuple[str, str | None, int | None, PageKind]] = {
    errors.SessionNotFound: ("No such workspace", NO_SUCH_WORKSPACE, None, PageKind.UNKNOWN),
    errors.SessionReleased: (
        "The workspace was removed", _CREATE_AGAIN, None, PageKind.REMOVED,
    ),
    errors.SessionDeleting: (
        "The workspace is being deleted", _CREATE_AFTERWARDS, None, PageKind.DELETING,
    ),
    errors.SessionBroken: ("The workspace is broken", None, None, PageKind.BROKEN),
    errors.SessionUnreadable: ("The workspace is broken", _UNREADABLE, None, PageKind.BROKEN),
    errors.SessionAsleep: ("The workspace is asleep", None, None, PageKind.NOT_AWAKE),
    errors.SessionPaused: ("The workspace is paused", None, None, PageKind.PAUSED),
    errors.AwakeLimitReached: ("No workspace can be started right now", None, 30, PageKind.FULL),
    errors.IdleTimesRefused: ("That is too long", None, None, PageKind.TOO_LONG),
    errors.SigningKeysUnavailable: (
        "Sign-in is temporarily unavailable", _NO_SIGNING_KEYS, 5, PageKind.SIGN_IN_UNAVAILABLE,
    ),
    errors.SessionError: (
        "Temporarily unavailable", "A part of the system does not answer; try again.", 2, PageKind.UNAVAILABLE,
    ),
}  # fmt: skip
"""Title, detail (None: the error's own message), Retry-After in seconds and page, for visitors."""


def of_session_error(error: errors.SessionError) -> GatewayError:
    kind = next(kind for kind in type(error).__mro__ if kind in _TEXTS)
    title, detail, retry_after, page = _TEXTS[kind]
    if kind is errors.SessionError:
        log.error("%s", error, extra={"cause": errors.causes(error)})
    row = status_of(error)
    return GatewayError(
        row.gateway_status or row.status, title, detail or str(error), retry_after=retry_after, page=page
    )


def of_fault(fault: Fault, name: str) -> web.Response | None:
    """The response to a request that no handler has seen. None for a slow one: browsers open spare connections."""
    if fault is SLOW_HEAD:
        return None
    error = GatewayError(fault.status, fault.title, fault.detail, retry_after=fault.retry_after)
    return error.response(name)
