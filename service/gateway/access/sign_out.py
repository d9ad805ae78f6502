"""Signing out, of one workspace or of the whole domain: a cookie is removed."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from service.gateway.access.cookie_header import set_cookie
from service.gateway.access.fetch_metadata import MODE, is_navigation
from service.gateway.errors import OWN_HEADERS, GatewayError
from service.gateway.pages.pages import Pages


def is_signing_out(request: web.BaseRequest) -> bool:
    """Whether the request signs out, rather than asks for the page. Raises GatewayError for anything else."""
    if request.method == hdrs.METH_POST:
        return True
    if is_navigation(request):
        return False
    raise GatewayError(405, "Not allowed", "Sign out by POST.")


def workspace_page(pages: Pages, request: web.BaseRequest) -> web.Response:
    """A page with a button: a mere link must not sign anybody out."""
    return pages.render(request, "sign_out.html", forms=True, form=True, key="page.sign_out")


def domain_page(pages: Pages, request: web.BaseRequest, provider: str | None) -> web.Response:
    """The same for the domain. Signing out goes on to `provider`, the identity provider's page."""
    parts = urlsplit(provider or "")
    target = f"{parts.scheme}://{parts.netloc}" if provider else ""
    return pages.render(request, "sign_out.html", forms=True, form_target=target, form=True, key="page.sign_out_domain")


def domain_left(pages: Pages, request: web.BaseRequest, home: str) -> web.Response:
    """Says that the user is signed out of the domain."""
    return _left(pages, request, "page.signed_out_domain", [("page.sign_in_again", home)])


def workspace_left(pages: Pages, request: web.BaseRequest, home: str | None, everywhere: str | None) -> web.Response:
    """The response that removes the cookie: a page for people, and nothing for programs.

    The page links to `home`, to sign in again, and to `everywhere`, to sign out of the domain too.
    """
    wants_page = request.headers.get(MODE, "navigate") == "navigate"
    if wants_page and "text/html" in request.headers.get(hdrs.ACCEPT, ""):
        links = [("page.sign_in_again", home), ("page.sign_out_everywhere", everywhere)]
        response = _left(pages, request, "page.signed_out", [(key, url) for key, url in links if url])
    else:
        response = web.Response(status=204, headers=OWN_HEADERS)
    response.headers[hdrs.SET_COOKIE] = set_cookie("", 0)
    return response


def _left(pages: Pages, request: web.BaseRequest, key: str, links: Sequence[tuple[str, str]]) -> web.Response:
    return pages.render(request, "sign_out.html", form=False, key=key, links=links)
