"""Renders the gateway's pages. Nothing on them comes from another host."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from aiohttp import hdrs, web
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from service.gateway.errors import OWN_HEADERS, GatewayError, PageKind
from service.gateway.pages.brand import Brand
from service.gateway.texts import catalogue

Text = Callable[..., str]
"""`text(key, **values)` is the catalogue's text in the reader's language."""

_NONE, _SELF = "'none'", "'self'"
_RETRIED = frozenset(
    {
        PageKind.BROKEN,
        PageKind.BUSY,
        PageKind.FAILED,
        PageKind.FULL,
        PageKind.NOT_OPENED,
        PageKind.PAUSED,
        PageKind.SIGN_IN_BUSY,
        PageKind.SIGN_IN_UNAVAILABLE,
        PageKind.SLOW,
        PageKind.STOPPED,
        PageKind.TOO_OFTEN,
        PageKind.UNAVAILABLE,
    }
)
"""What another try may get past, now or once an operator has done something."""
_RESTARTED = frozenset({PageKind.FAILED, PageKind.SLOW, PageKind.STOPPED})
"""What a restart of the workspace may help against."""
_WOKEN = frozenset({PageKind.ASLEEP, PageKind.NOT_AWAKE})
"""What a wake gets past."""
_OWN_PAGE: tuple[str, str] = ("page.workspace", "/.user-pods/")
_OWN_LINKS: Mapping[PageKind, tuple[str, str]] = {
    PageKind.LINK_USED: ("page.open_workspace", "/"),
    PageKind.NOT_FOUND: ("page.open_workspace", "/"),
    PageKind.REFUSED: ("page.open_workspace", "/"),
    PageKind.TOO_LONG: _OWN_PAGE,
}
"""Text and URL of the way on in the same workspace."""
_AT_HOME = frozenset({PageKind.DELETING, PageKind.REMOVED, PageKind.UNKNOWN})
"""What the start page gets past. Without one, the catalogue's `page.<kind>.ask` says whom to ask."""
_LONGEST_PATH = 2000
"""Characters of a path that a form contains."""
_SIGNED_IN_AGAIN = frozenset({PageKind.NOT_SIGNED_IN, PageKind.LINK_USED})
"""What signing in gets past."""


class Pages:
    """`brand` is on all of them."""

    def __init__(self, brand: Brand | None = None) -> None:
        self._brand = brand or Brand()
        self._templates = Environment(
            loader=FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )

    def render(
        self,
        request: web.BaseRequest,
        template: str,
        *,
        status: int = 200,
        forms: bool = False,
        form_target: str = "",
        **values: object,
    ) -> web.Response:
        """The page in the reader's language. `forms`: it has forms, which may go to this host.

        `form_target` is another origin that the answer to a form may redirect to.
        """
        nonce = secrets.token_urlsafe(16)
        language, text = language_of(request), text_for(request)
        body = self._templates.get_template(template).render(
            nonce=nonce, language=language, text=text, rich=_rich(request), brand=self._brand, **values
        )
        response = web.Response(status=status, text=body, content_type="text/html", headers=OWN_HEADERS)
        response.headers["Content-Security-Policy"] = (
            f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self';"
            f" img-src {'data:' if self._brand.logo else _NONE}; base-uri 'none';"
            f" form-action {f'{_SELF} {form_target}'.strip() if forms else _NONE}; frame-ancestors 'none'"
        )
        response.headers[hdrs.CONTENT_LANGUAGE] = language
        response.headers[hdrs.VARY] = hdrs.ACCEPT_LANGUAGE
        return response

    def refusal(
        self, request: web.BaseRequest, error: GatewayError, *, name: str, home: str | None = None
    ) -> web.Response:
        """Why the request is refused. `name` is the id by which the log knows it.

        The page links to where the reader signs in, or else to `home`, if there is one.
        """
        signs_in = error.sign_in is not None and error.page in _SIGNED_IN_AGAIN
        links = _links(error, home)
        response = self.render(
            request,
            "refusal.html",
            status=error.status,
            kind=error.page.value,
            error=error,
            reference=name,
            next="page.next.sign_in" if signs_in else next_step(error.page, home or error.sign_in),
            retry=error.page in _RETRIED or not (links or error.page in _WOKEN),
            restart=error.page in _RESTARTED,
            forms=error.page in _WOKEN,
            wakes=_path(request) if error.page in _WOKEN else None,
            links=links,
        )
        if error.page in _WOKEN:
            own_forms(response)
        if error.retry_after is not None:
            response.headers[hdrs.RETRY_AFTER] = str(error.retry_after)
            if error.page is PageKind.UNAVAILABLE and request.method == hdrs.METH_GET:
                # Nobody may be there to try again: the tab of a replaced pod has loaded by itself. Not as an element of
                # the page: checkers of accessibility refuse those.
                response.headers["Refresh"] = str(error.retry_after)
        return response


def next_step(kind: str, home: str | None) -> str:
    """The key of the text that says what to do next. `home` is the reader's start page, if there is one."""
    return f"page.{kind}.{'ask' if kind in _AT_HOME and home is None else 'next'}"


def own_forms(response: web.Response) -> None:
    """The page's forms say where they come from, also in browsers without Sec-Fetch-Site. Its address is no secret."""
    response.headers["Referrer-Policy"] = "same-origin"


def _path(request: web.BaseRequest) -> str:
    """What the request is for, if a form may name it."""
    path = request.raw_path
    return path if path.isascii() and len(path) <= _LONGEST_PATH else "/"


def _links(error: GatewayError, home: str | None) -> Sequence[tuple[str, str]]:
    """Text and URL of each way on."""
    if error.links:
        return error.links
    if error.sign_in:
        return [("page.sign_in", error.sign_in)]
    own = [_OWN_LINKS[error.page]] if error.page in _OWN_LINKS else []
    return [*own, *([("page.home", home)] if home else [])]


def language_of(request: web.BaseRequest) -> str:
    return catalogue.language(request.headers.get(hdrs.ACCEPT_LANGUAGE, ""))


def _rich(request: web.BaseRequest) -> Callable[..., Markup]:
    """Like `text_for`, for values that may be markup; all others are escaped."""
    texts = catalogue.texts(request.headers.get(hdrs.ACCEPT_LANGUAGE, ""))
    return lambda key, **values: escape(texts[key]).format(**values)


def text_for(request: web.BaseRequest) -> Text:
    texts = catalogue.texts(request.headers.get(hdrs.ACCEPT_LANGUAGE, ""))
    return lambda key, **values: texts[key].format(**values)
