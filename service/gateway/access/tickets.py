"""How a ticket becomes a session cookie: who uses a link, and who only looks at it.

Chat and mail programs fetch every link for a preview, before its reader opens it. They must not use up its ticket, so
the link itself does so only for what a person opens, or a program that a person has started. Everything else gets
a page that does it by POST, at once where scripts run. docs/decisions/0017-entry.md has the reasons.
"""

import re
import secrets
from http import HTTPStatus

from aiohttp import hdrs, web
from multidict import CIMultiDict, istr

from service.gateway.errors import KEEP_OUT

_MODE, _DEST = istr("Sec-Fetch-Mode"), istr("Sec-Fetch-Dest")
_PURPOSES = (istr("Sec-Purpose"), istr("Purpose"), istr("X-Purpose"), istr("X-Moz"))
_AHEAD = re.compile(r"prefetch|prerender|preview", re.IGNORECASE)
_BROWSER = re.compile(r"\s*Mozilla/", re.IGNORECASE)
"""Every browser says so, and most previewers do."""
_PREVIEWER = re.compile(
    r"bot|crawl|spider|preview|unfurl|embed|link|fetch|scan|facebook|whatsapp|slack|telegram|discord|twitter|skype|teams"
    r"|opengraph|mastodon|synapse|nextcloud|google|bing|yahoo|https?:",
    re.IGNORECASE,
)
"""What those call themselves that do not; a robot gives the address of a page about it."""
_FOR_CACHES = (istr("CDN-Cache-Control"), istr("Surrogate-Control"))
_STORED = re.compile(r"public\b|immutable\b|s-maxage|max-age=\"?0*[1-9]")
"""What lets a cache that many share keep an answer."""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex"><title>Open your workspace</title>
<style nonce="{nonce}">body{{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:18vh auto;padding:0 1rem;
color-scheme:light dark}}button{{font:inherit;padding:.4rem 1rem}}</style></head>
<body><main><h1>Open your workspace</h1>
<p>This link works once, and for a short time.</p>
<form method="post"><button>Open workspace</button></form></main>
<script nonce="{nonce}">document.forms[0].submit()</script></body></html>
"""


RENEWED: web.RequestKey[str] = web.RequestKey("renewed", str)
"""A cookie that the answer to a request shall bring."""


def is_ahead(request: web.BaseRequest) -> bool:
    """Whether a browser fetches the link before its user has asked for it."""
    return any(_AHEAD.search(request.headers.get(name, "")) for name in _PURPOSES)


def is_opened(request: web.BaseRequest) -> bool:
    """Whether the request uses the link, not only looks at it."""
    if request.method == hdrs.METH_POST:
        return True
    if request.method != hdrs.METH_GET or is_ahead(request) or hdrs.RANGE in request.headers:
        return False
    mode = request.headers.get(_MODE)
    if mode is not None:
        return mode == "navigate" and request.headers.get(_DEST, "document") == "document"
    agent = request.headers.get(hdrs.USER_AGENT, "")
    return not (
        _BROWSER.match(agent) or _PREVIEWER.search(agent) or "text/html" in request.headers.get(hdrs.ACCEPT, "")
    )


def page() -> web.Response:
    """A page that opens the link it came from: by itself, or by a button where no script runs."""
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; base-uri 'none';"
        " form-action 'self'; frame-ancestors 'none'"
    )
    return web.Response(
        text=_PAGE.format(nonce=nonce),
        content_type="text/html",
        headers={**KEEP_OUT, "Content-Security-Policy": policy},
    )


def renew(request: web.BaseRequest, status: int, answer: CIMultiDict[str]) -> None:
    """Add the renewed cookie to a pod's answer, if there is one, and no cache could give it to somebody else."""
    cookie = request.get(RENEWED)
    if cookie is None or status == HTTPStatus.NOT_MODIFIED or any(name in answer for name in _FOR_CACHES):
        return
    given = {part.strip().lower() for value in answer.getall(hdrs.CACHE_CONTROL, ()) for part in value.split(",")}
    if not given & {"private", "no-store"}:
        if any(_STORED.match(each) for each in given):
            return
        answer.add(hdrs.CACHE_CONTROL, "private")
    answer.add(hdrs.SET_COOKIE, cookie)
