"""What becomes of a sign-in that fails: a page that says so and leads on, and a line in the log."""

import logging

from service.domain.identity import SignInFailure, SignInRefused
from service.gateway.errors import GatewayError, PageKind

log = logging.getLogger(__name__)

SIGN_IN = "/.user-pods/sign-in"
SIGN_OUT = "/.user-pods/sign-out"
_AGAIN, _OTHER, _OWN = ("page.retry", "/"), ("page.sign_in_other", SIGN_OUT), ("page.open_workspace", "/")

_PAGES = {
    SignInFailure.CANCELLED: (403, PageKind.SIGN_IN_CANCELLED, (_AGAIN,)),
    SignInFailure.EXPIRED: (400, PageKind.SIGN_IN_EXPIRED, (_AGAIN,)),
    SignInFailure.CODE_REFUSED: (400, PageKind.SIGN_IN_USED, (_AGAIN,)),
    SignInFailure.PROVIDER_AWAY: (503, PageKind.SIGN_IN_PROVIDER, (_AGAIN,)),
    SignInFailure.BUSY: (503, PageKind.SIGN_IN_BUSY, ()),
    SignInFailure.MISCONFIGURED: (503, PageKind.SIGN_IN_MISCONFIGURED, (_AGAIN,)),
    SignInFailure.CLOCKS: (503, PageKind.SIGN_IN_CLOCKS, (_AGAIN,)),
    SignInFailure.INVALID_TOKEN: (403, PageKind.SIGN_IN_INVALID, (_AGAIN,)),
    SignInFailure.NO_USER_ID: (403, PageKind.SIGN_IN_NAMELESS, (_OTHER,)),
    SignInFailure.UNVERIFIED_EMAIL: (403, PageKind.SIGN_IN_UNVERIFIED, (_AGAIN, _OTHER)),
    SignInFailure.NOT_ALLOWED: (403, PageKind.SIGN_IN_DENIED, (_OTHER,)),
    SignInFailure.NO_SESSION: (403, PageKind.NO_SESSION, (_OTHER,)),
    SignInFailure.NOT_THEIRS: (403, PageKind.NOT_YOURS, (_OWN, _OTHER)),
    SignInFailure.REVOKED: (403, PageKind.REVOKED, (_OTHER,)),
}


def page_of(refused: SignInRefused, again: str = "/") -> GatewayError:
    """The page for a person. `again` is where they try again."""
    log.warning("sign-in refused", extra={"failure": refused.failure.value, "why": refused.reason or None})
    status, page, links = _PAGES[refused.failure]
    # Another account is for the same page.
    own = {_AGAIN: again, _OTHER: SIGN_OUT + again.removeprefix(SIGN_IN) if again.startswith(SIGN_IN) else SIGN_OUT}
    targets = [(link[0], own.get(link, link[1])) for link in links]
    retry_after = 5 if refused.failure in (SignInFailure.PROVIDER_AWAY, SignInFailure.BUSY) else None
    detail = f"The sign-in was refused: {refused.failure.value}."
    return GatewayError(status, "Sign-in refused", detail, page=page, retry_after=retry_after, links=targets)
