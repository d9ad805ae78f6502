"""Distinguishes opening a link from previewing it.

Chat and mail programs fetch every link for a preview before its recipient opens it. They must not consume its ticket.
So a GET exchanges the ticket only for a person's navigation, or for a program that a person has started. All others get
a page that does so by POST, immediately if scripts run (docs/decisions/0017-entry.md).
"""

import re
import secrets

from aiohttp import hdrs, web
from multidict import istr

from service.gateway.access.fetch_metadata import DEST, MODE
from service.gateway.errors import OWN_HEADERS

_PURPOSES = (istr("Sec-Purpose"), istr("Purpose"), istr("X-Purpose"), istr("X-Moz"))
_PREFETCH = re.compile(r"prefetch|prerender|preview", re.IGNORECASE)
_BROWSER = re.compile(r"\s*Mozilla/", re.IGNORECASE)
"""User agent of every browser, and of most previewers."""
_PREVIEWER = re.compile(
    r"bot|crawl|spider|preview|unfurl|embed|link|fetch|scan|facebook|whatsapp|slack|telegram|discord|twitter|skype|teams"
    r"|opengraph|mastodon|synapse|nextcloud|google|bing|yahoo|https?:",
    re.IGNORECASE,
)
"""User agents of the other previewers; robots give the address of a page about them."""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex"><title>Open your workspace</title>
<style nonce="{nonce}">body{{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:18vh auto;padding:0 1rem;
color-scheme:light dark}}button{{font:inherit;padding:.4rem 1rem}}</style></head>
<body><main><h1>Open your workspace</h1>
<p>This link works only once and expires soon.</p>
<form method="post"><button>Open workspace</button></form></main>
<script nonce="{nonce}">document.forms[0].submit()</script></body></html>
"""


def is_prefetched(request: web.BaseRequest) -> bool:
    """Whether a browser loads the link before its user has opened it."""
    return any(_PREFETCH.search(request.headers.get(name, "")) for name in _PURPOSES)


def is_opened(request: web.BaseRequest) -> bool:
    """Whether the request opens the link, rather than previews it."""
    if request.method == hdrs.METH_POST:
        return True
    if request.method != hdrs.METH_GET or is_prefetched(request) or hdrs.RANGE in request.headers:
        return False
    mode = request.headers.get(MODE)
    if mode is not None:
        return mode == "navigate" and request.headers.get(DEST, "document") == "document"
    agent = request.headers.get(hdrs.USER_AGENT, "")
    return not (
        _BROWSER.match(agent) or _PREVIEWER.search(agent) or "text/html" in request.headers.get(hdrs.ACCEPT, "")
    )


def confirmation_page() -> web.Response:
    """A page that opens the link it was loaded from: automatically, or with a button if scripts are off."""
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; base-uri 'none';"
        " form-action 'self'; frame-ancestors 'none'"
    )
    return web.Response(
        text=_PAGE.format(nonce=nonce),
        content_type="text/html",
        headers={**OWN_HEADERS, "Content-Security-Policy": policy},
    )
