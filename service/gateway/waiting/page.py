"""The page that a person sees while the workspace wakes."""

import html
import secrets
import string
from pathlib import Path

from aiohttp import web

from service.gateway.errors import OWN_HEADERS

_PAGE = string.Template((Path(__file__).parent / "page.html").read_text())


def waiting_page(reason: str | None) -> web.Response:
    """The page. It continues to the requested URL; `reason` is what delays the pod, if anything."""
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return web.Response(
        status=503,
        text=_PAGE.substitute(nonce=nonce, reason=html.escape(reason or "")),
        content_type="text/html",
        headers={**OWN_HEADERS, "Content-Security-Policy": policy, "Retry-After": "2"},
    )
