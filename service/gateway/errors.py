"""Responses of the gateway itself, where no pod can give one: a small page for people, a problem for programs."""

import html
import logging

from aiohttp import web

from service.domain import errors
from service.domain.metrics import RequestOutcome
from service.edge.faults import SLOW_HEAD, Fault
from service.edge.problems import problem, status_of

log = logging.getLogger(__name__)

_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:18vh auto;padding:0 1rem;color-scheme:light dark}"
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
OWN_HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}
"""Headers of every response that the gateway makes itself."""
# An unreadable session's own message names a command for operators.
_UNREADABLE = (
    "The service cannot read its data about this session. Your files are not affected. Ask your operator:"
    " the session's status says what to repair."
)
_NO_SIGNING_KEYS = "The service cannot read its signing keys yet. Try again in a moment."
NO_SUCH_WORKSPACE = (
    "No workspace has this address. Check it, or open your workspace again from the page that led you here."
)


class GatewayError(Exception):
    """`detail` is a sentence that says what to do; `retry_after` is in seconds.

    `outcome` is how the metrics count it. By default the status decides: the client's fault, or the workspace's.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        *,
        retry_after: int | None = None,
        outcome: RequestOutcome | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail
        self.retry_after = retry_after
        self.outcome = outcome or (RequestOutcome.FAILED if status >= 500 else RequestOutcome.REFUSED)

    def response(self, *, page: bool, name: str | None = None) -> web.Response:
        """A page or a problem document. `name` is the id by which the log knows the request."""
        headers = dict(OWN_HEADERS)
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if not page:
            if name is None:
                log.debug("refused: %s", self.title, extra={"status": self.status})
            response = problem(self.status, self.detail, title=self.title, request_id=name)
            response.headers.update(headers)
            return response
        title, detail = html.escape(self.title), html.escape(self.detail)
        headers["Content-Security-Policy"] = _POLICY
        text = (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f"<title>{title}</title><style>{_STYLE}</style><main><h1>{title}</h1><p>{detail}</p></main></html>"
        )
        return web.Response(status=self.status, text=text, content_type="text/html", headers=headers)


_TEXTS: dict[type[errors.SessionError], tuple[str, str | None, int | None]] = {
    errors.SessionNotFound: ("No such workspace", NO_SUCH_WORKSPACE, None),
    errors.SessionReleased: ("The workspace was removed", "Create it again to bring it back.", None),
    errors.SessionDeleting: (
        "The workspace is being deleted", "Wait until that is done, then create it again.", None,
    ),
    errors.SessionBroken: ("The workspace is broken", None, None),
    errors.SessionUnreadable: ("The workspace is broken", _UNREADABLE, None),
    errors.SigningKeysUnavailable: ("Sign-in is temporarily unavailable", _NO_SIGNING_KEYS, 5),
    errors.SessionError: ("Temporarily unavailable", "A part of the system does not answer; try again.", 2),
}  # fmt: skip
"""Title, detail (None: the error's own message) and Retry-After in seconds, for visitors."""


def of_session_error(error: errors.SessionError) -> GatewayError:
    kind = next(kind for kind in type(error).__mro__ if kind in _TEXTS)
    title, detail, retry_after = _TEXTS[kind]
    if kind is errors.SessionError:
        log.error("%s", error, extra={"cause": errors.causes(error)})
    row = status_of(error)
    return GatewayError(row.gateway_status or row.status, title, detail or str(error), retry_after=retry_after)


def of_fault(fault: Fault, name: str) -> web.Response | None:
    """The response to a request that no handler has seen. None for a slow one: browsers open spare connections."""
    if fault is SLOW_HEAD:
        return None
    error = GatewayError(fault.status, fault.title, fault.detail, retry_after=fault.retry_after)
    return error.response(page=False, name=name)
