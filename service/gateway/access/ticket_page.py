"""Distinguishes opening a link from previewing it.

Chat and mail programs fetch every link for a preview before its recipient opens it. They must not consume its ticket.
So a GET exchanges the ticket only for a person's navigation, or for a program that a person has started. All others get
a page that does so by POST, immediately if scripts run (docs/decisions/0017-entry.md).
"""

import re

from aiohttp import hdrs, web
from multidict import istr

from service.gateway.access.fetch_metadata import DEST, MODE

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
