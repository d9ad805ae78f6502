"""Whether a companion measures a browser, as its cookies say.

The companion's script sets its cookie before the page sends anything, and renews it while it runs. It names the
browser. What such a browser sends wakes nobody, and counts only if no companion of it is connected (`presence.py`),
unless its user opens a page: a page may load itself again for ever. Where the gateway could not add the script to a
page, it sets the other cookie, and requests of that browser count as those of any program. Browsers accept neither
cookie from another host, and pods see neither.
"""

import re

from aiohttp import hdrs, web

from service.gateway.access.cookie_header import COOKIE
from service.gateway.access.fetch_metadata import DEST, MODE, is_by_page, is_navigation

COMPANION = f"{COOKIE}-companion"
"""Set by the script."""
NO_COMPANION = f"{COOKIE}-no-companion"
"""Set by the gateway; takes precedence, for the browser may have pages of both kinds open."""
NO_COMPANION_COOKIE = f"{NO_COMPANION}=1; Path=/; Max-Age=43200; Secure; HttpOnly; SameSite=Lax"
"""The `Set-Cookie` value for a page without the script: for twelve hours, as nobody knows when it will be closed."""
_COOKIES = re.compile(rf"(?:^|;)[ \t]*({COMPANION}|{NO_COMPANION})=(\w{{1,32}})")


def browser_of(request: web.BaseRequest) -> str | None:
    """The name of the browser, if a companion of it should report its user's input."""
    found = dict(each for line in request.headers.getall(hdrs.COOKIE, ()) for each in _COOKIES.findall(line))
    return None if NO_COMPANION in found else found.get(COMPANION)


def browser_by_itself(request: web.BaseRequest) -> str | None:
    """The same, if a page sends this by itself, or for input that its companion reports too."""
    opens_page = request.headers.get(MODE) == "navigate" and request.headers.get(DEST, "document") == "document"
    by_user = (opens_page or is_navigation(request)) and not is_by_page(request)
    return None if by_user else browser_of(request)
