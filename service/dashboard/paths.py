"""The addresses of the pages. Access control in `service/web/access.py` knows those that need no sign-in."""

from typing import Final
from urllib.parse import quote, urlsplit

ROOT: Final = "/dashboard"
SIGN_IN: Final = "/dashboard/sign-in"
SIGN_OUT: Final = "/dashboard/sign-out"
PROVIDER: Final = "/dashboard/provider"
CALLBACK: Final = "/dashboard/callback"
ASSETS: Final = "/dashboard/assets"
SESSIONS: Final = "/dashboard/sessions"
LIVE: Final = "/dashboard/live"
OVERVIEW: Final = "/dashboard/overview"
FINDINGS: Final = "/dashboard/findings"
LOOK: Final = "/dashboard/findings/live"
MEND: Final = "/dashboard/findings/mend"
UPGRADE: Final = "/dashboard/upgrade"
AUDIT: Final = "/dashboard/audit"
_LONGEST = 1000
"""Characters of an address that a sign-in leads back to."""


def sign_in(back_to: str) -> str:
    """Where to sign in, to be led back to that page of the dashboard."""
    page = own_page(back_to)
    return SIGN_IN if page == ROOT else f"{SIGN_IN}?to={quote(page, safe='')}"


def at_provider(back_to: str) -> str:
    """Where to sign in at the identity provider, to be led back to that page of the dashboard."""
    return f"{PROVIDER}?to={quote(own_page(back_to), safe='')}"


def own_page(path: str) -> str:
    """The path, if it is one of a page of the dashboard; else that of the first page."""
    if len(path) > _LONGEST or not path.isascii() or not path.isprintable() or "\\" in path:
        return ROOT
    try:
        parts = urlsplit(path)
    except ValueError:
        return ROOT
    below = parts.path == ROOT or parts.path.startswith(f"{ROOT}/")
    signs_in = parts.path in (SIGN_IN, SIGN_OUT, PROVIDER, CALLBACK, LIVE, LOOK)
    if parts.scheme or parts.netloc or not below or ".." in parts.path or signs_in:
        return ROOT
    return path.partition("#")[0]
