"""What a browser says about a request's origin and purpose (Fetch Metadata, `Origin`)."""

from aiohttp import hdrs, web
from multidict import istr

from service.edge.addresses import authority, host_of

MODE, DEST = istr("Sec-Fetch-Mode"), istr("Sec-Fetch-Dest")
_SITE, _USER = istr("Sec-Fetch-Site"), istr("Sec-Fetch-User")
_REQUESTED_WITH = istr("X-Requested-With")
"""Libraries set it for what is no navigation."""


def is_websocket(request: web.BaseRequest) -> bool:
    wanted = request.headers.get(hdrs.UPGRADE, "")
    if wanted.lower() != "websocket" or not wanted.isascii():
        return False
    tokens = (part for value in request.headers.getall(hdrs.CONNECTION, ()) for part in value.split(","))
    return any(token.strip().lower() == "upgrade" for token in tokens)


def is_navigation(request: web.BaseRequest) -> bool:
    """Whether a person opens a page, so that another page can be shown in its place."""
    return request.method in ("GET", "HEAD") and _shows_document(request)


def is_form(request: web.BaseRequest) -> bool:
    """Whether a person submits a form whose answer they will see. Unlike a navigation, it may have effects."""
    return request.method == hdrs.METH_POST and _shows_document(request)


def _shows_document(request: web.BaseRequest) -> bool:
    if is_websocket(request):
        return False
    mode = request.headers.get(MODE)
    if mode is None:
        return _wants_html(request)
    return mode == "navigate" and request.headers.get(DEST, "document") == "document"


def is_by_page(request: web.BaseRequest) -> bool:
    """Whether a page of this very host opens the next one, or itself again, without a click or key of its user.

    Safari never says that a user did (`Sec-Fetch-User`), so there it may be by one.
    """
    return request.headers.get(_SITE) == "same-origin" and request.headers.get(_USER) != "?1"


def opens_document(request: web.BaseRequest) -> bool:
    """Whether a browser will show the response as a page of its own: not in a frame, nor as a download.

    A form may be sent by POST. A browser without Fetch Metadata does not tell frames from pages.
    """
    if request.method not in ("GET", "POST") or hdrs.RANGE in request.headers:
        return False
    mode = request.headers.get(MODE)
    if mode is not None:
        return mode == "navigate" and request.headers.get(DEST) == "document"
    by_browser = request.headers.get(hdrs.USER_AGENT, "").startswith("Mozilla/")
    return by_browser and _wants_html(request) and _REQUESTED_WITH not in request.headers


def _wants_html(request: web.BaseRequest) -> bool:
    return "text/html" in request.headers.get(hdrs.ACCEPT, "")


def is_same_origin(request: web.BaseRequest) -> bool:
    """Whether the request comes from a page of this very host, or from no page at all."""
    site = request.headers.get(_SITE)
    if site not in ("same-origin", "none", None):
        return False
    origins = request.headers.getall(hdrs.ORIGIN, ())
    if site == "same-origin" and origins == ["null"]:
        # Forms of a page without a referrer have the origin null. No page can set Sec-Fetch-Site, and a sandboxed page,
        # whose origin is null too, is "cross-site".
        return True
    return all(host_of(origin) == authority(request.host) for origin in origins)
