"""Whether a companion measures a browser, as its cookies say.

The companion's script sets its cookie before the page sends anything, and renews it while it runs. What else such a
browser sends then says nothing about its user, unless they open a page: a page may load itself again for ever. Where
the gateway could not add the script to a page, it sets the other cookie, and requests of that browser count as those of
any program. So any replica can tell from the request alone. Browsers accept neither cookie from another host, and pods
see neither.
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
_NAMES = re.compile(rf"(?:^|;)[ \t]*({COMPANION}|{NO_COMPANION})=")


def is_measured(request: web.BaseRequest) -> bool:
    """Whether a companion reports the input of this browser's user."""
    names = {name for line in request.headers.getall(hdrs.COOKIE, ()) for name in _NAMES.findall(line)}
    return names == {COMPANION}


def is_by_script(request: web.BaseRequest) -> bool:
    """Whether a page of a measured browser sends this by itself, or for input that its companion reports too."""
    if not is_measured(request):
        return False
    opens_page = request.headers.get(MODE) == "navigate" and request.headers.get(DEST, "document") == "document"
    return is_by_page(request) or not (opens_page or is_navigation(request))
