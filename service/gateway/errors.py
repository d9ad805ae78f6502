"""Answers of the gateway itself, when no pod can give one: a small page for people, a problem document for programs."""

import html
import json
import logging

from aiohttp import web

from service.domain.metrics import Visit
from service.domain.request_context import current_request_id
from service.edge.faults import SLOW_HEAD, Fault

log = logging.getLogger(__name__)

_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:18vh auto;padding:0 1rem;color-scheme:light dark}"
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
KEEP_OUT = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}
"""Headers of every answer that the gateway makes itself."""


class GatewayError(Exception):
    """`detail` is a sentence that says what to do; `retry_after` is in seconds.

    `outcome` is how it counts; without, by its status: the fault of who asks, or of the workspace.
    """

    def __init__(
        self, status: int, title: str, detail: str, *, retry_after: int | None = None, outcome: Visit | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail
        self.retry_after = retry_after
        self.outcome = outcome or (Visit.FAILED if status >= 500 else Visit.REFUSED)

    def answer(self, *, page: bool, name: str | None = None) -> web.Response:
        """`name` is the id by which the log knows the request."""
        headers = dict(KEEP_OUT)
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if not page:
            if name is None:
                name = current_request_id()
                log.debug("refused: %s", self.title, extra={"status": self.status})
            problem = {
                "type": "about:blank",
                "title": self.title,
                "status": self.status,
                "detail": self.detail,
                "instance": f"urn:request:{name}",
            }
            return web.Response(
                status=self.status, text=json.dumps(problem), content_type="application/problem+json", headers=headers
            )
        title, detail = html.escape(self.title), html.escape(self.detail)
        headers["Content-Security-Policy"] = _POLICY
        text = (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f"<title>{title}</title><style>{_STYLE}</style><main><h1>{title}</h1><p>{detail}</p></main></html>"
        )
        return web.Response(status=self.status, text=text, content_type="text/html", headers=headers)


def of_fault(fault: Fault, name: str) -> web.Response | None:
    """The answer to a request that no handler has seen. None, to a slow one: a browser's spare connection has none."""
    if fault is SLOW_HEAD:
        return None
    refusal = GatewayError(fault.status, fault.title, fault.detail, retry_after=fault.retry_after)
    return refusal.answer(page=False, name=name)
