"""Adds the companion's script to the pages that people open.

The script becomes the first of the head, so that it runs before the page's own. Nothing else of a document changes, and
nothing at all where the script cannot be added. Then the browser gets a cookie that says so.
"""

import asyncio
from http import HTTPStatus

from aiohttp import hdrs
from aiohttp.web import BaseRequest
from multidict import CIMultiDict, istr

from service.domain.metrics import GatewayMetrics, PageScript
from service.gateway.access.fetch_metadata import DEST, opens_document
from service.gateway.activity.measured import NO_COMPANION_COOKIE
from service.gateway.injection import entity_tags
from service.gateway.injection.content_coding import CODINGS, Recoder
from service.gateway.injection.content_policy import Origin, is_sandboxed
from service.gateway.injection.document import Body, Document
from service.gateway.injection.entity_tags import EntityTags
from service.gateway.injection.head_scanner import HeadScanner, charset_of, is_readable

SCRIPT_PATH = "/.user-pods/companion.js"
SOCKET_PATH = "/.user-pods/companion"
"""Where the script connects to."""
_HTML = "text/html"
_XHTML = "application/xhtml+xml"
_HTML_TYPES = frozenset({_HTML, _XHTML})
_XML = frozenset({_XHTML, "application/xml", "text/xml", "image/svg+xml"})
"""What a browser shows as a page that may run scripts, and what breaks when HTML is added to it."""
_WITHOUT_DOCUMENT = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT, HTTPStatus.PARTIAL_CONTENT})
_POLICY, _INTEGRITY_POLICY = istr("Content-Security-Policy"), istr("Integrity-Policy")
_OF_THE_BYTES = (hdrs.CONTENT_MD5, istr("Digest"), istr("Content-Digest"), istr("Repr-Digest"), hdrs.ACCEPT_RANGES)
"""Headers that are wrong once a byte has changed."""


class Injector:
    """`element` is added to pages, `version` (hexadecimal digits) names it."""

    def __init__(self, element: bytes, version: str, metrics: GatewayMetrics) -> None:
        self.element = element
        self.metrics = metrics
        self.tags = EntityTags(version)
        self.large = asyncio.Lock()

    def visit(self, request: BaseRequest, headers: CIMultiDict[str]) -> "Visit":
        """Begin with a request. Changes its `headers`, as the pod will get them."""
        if (lines := headers.getall(hdrs.IF_MATCH, ())) and (value := entity_tags.to_change(lines)):
            headers[hdrs.IF_MATCH] = value
        return PageVisit(self, headers) if opens_document(request) else Visit()


class Visit:
    """One request that opens no page: nothing is added to its response."""

    async def document(self, status: int, headers: CIMultiDict[str], body: Body) -> Document | None:
        """The document that takes the place of `body`; None when nothing changes.

        Changes `headers`, which the browser will get.
        """
        if status == HTTPStatus.OK and _media_type(headers) == _HTML:
            _vary(headers)
        return None


class PageVisit(Visit):
    """One request that opens a page. Changes its `headers`, as the pod will get them."""

    def __init__(self, injector: Injector, headers: CIMultiDict[str]) -> None:
        self._injector = injector
        self._origin = Origin(
            headers[hdrs.X_FORWARDED_PROTO], headers[hdrs.X_FORWARDED_HOST], script=SCRIPT_PATH, socket=SOCKET_PATH
        )
        if lines := headers.popall(hdrs.ACCEPT_ENCODING, ()):
            headers[hdrs.ACCEPT_ENCODING] = "gzip" if _accepts_gzip(lines) else "identity"
        self._copies = injector.tags.copies(headers.popall(hdrs.IF_NONE_MATCH, ()))
        """The pages that the browser has, but for those that it must not show."""
        if known := ", ".join(copy.own for copy in self._copies if copy.own):
            headers[hdrs.IF_NONE_MATCH] = known
        if not self._copies:
            headers.popall(hdrs.IF_MODIFIED_SINCE, None)

    async def document(self, status: int, headers: CIMultiDict[str], body: Body) -> Document | None:
        if status == HTTPStatus.NOT_MODIFIED:
            self._not_modified(headers)
        if not _is_page(status, headers):
            return None
        _vary(headers)
        reason = self._reason_against(headers)
        document: Document | None = None
        if reason is None:
            document = Document(body, _recoder(headers), self._injector.large)
            await document.read_head()
            if document.is_empty:
                return document
            reason = self._reason_against_head(document.head, headers)
        if reason is None and document is not None and (place := document.head.place) is not None:
            document.insert(self._injector.element, place)
            self._changed(headers)
        self._injector.metrics.page_sent(reason or PageScript.ADDED)
        if reason is not None:
            self._unchanged(headers, bare=reason is not PageScript.SANDBOX and _media_type(headers) in _HTML_TYPES)
        return document

    def _reason_against(self, headers: CIMultiDict[str]) -> PageScript | None:
        """Why the script is not added, if the head of the response says it."""
        if _media_type(headers) != _HTML:
            return PageScript.TYPE
        if "no-transform" in headers.get(hdrs.CACHE_CONTROL, "").lower():
            return PageScript.NO_TRANSFORM
        if not is_readable(charset_of(headers[hdrs.CONTENT_TYPE])):
            return PageScript.CHARSET
        if _coding(headers) not in CODINGS and _coding(headers) not in ("", "identity"):
            return PageScript.CODING
        if is_sandboxed(headers.getall(_POLICY, ())):
            return PageScript.SANDBOX
        is_allowed = self._origin.is_allowed_by_headers(headers.getall(_POLICY, ()))
        # A script without a hash is what an integrity policy is against.
        is_allowed &= not any("script" in value for value in headers.getall(_INTEGRITY_POLICY, ()))
        return None if is_allowed else PageScript.POLICY

    def _reason_against_head(self, head: HeadScanner, headers: CIMultiDict[str]) -> PageScript | None:
        """Why the script is not added, if the head of the document says it."""
        if head.place is None:
            return PageScript.PLACE
        if not charset_of(headers[hdrs.CONTENT_TYPE]) and not is_readable(head.charset):
            return PageScript.CHARSET
        return None if all(map(self._origin.is_allowed_by, head.policies)) else PageScript.POLICY

    def _changed(self, headers: CIMultiDict[str]) -> None:
        is_encoded = _coding(headers) in CODINGS
        for name in _OF_THE_BYTES:
            headers.popall(name, None)
        length = headers.popall(hdrs.CONTENT_LENGTH, [""])[0]
        if length.isdecimal() and not is_encoded:
            headers[hdrs.CONTENT_LENGTH] = str(int(length) + len(self._injector.element))
        if not self._mark(headers, weak=is_encoded):
            headers.popall(hdrs.ETAG, None)

    def _unchanged(self, headers: CIMultiDict[str], *, bare: bool) -> None:
        """`bare`: what such a page sends has to count."""
        self._mark(headers, bare=bare)
        if bare:
            headers.add(hdrs.SET_COOKIE, NO_COMPANION_COOKIE)

    def _mark(self, headers: CIMultiDict[str], *, weak: bool = False, bare: bool = False) -> bool:
        """Returns False if the page cannot be revalidated: its tag is malformed, or it has neither tag nor date."""
        if hdrs.ETAG not in headers and hdrs.LAST_MODIFIED not in headers:
            return False
        tag = self._injector.tags.mark(headers.get(hdrs.ETAG, ""), weak=weak, bare=bare)
        if tag is not None:
            headers[hdrs.ETAG] = tag
        return tag is not None

    def _not_modified(self, headers: CIMultiDict[str]) -> None:
        own = entity_tags.plain(headers.get(hdrs.ETAG, ""))
        same = [
            copy for copy in self._copies if entity_tags.plain(copy.own) == own or (not own and len(self._copies) == 1)
        ]
        if not same:
            return
        _vary(headers)
        for name in (*_OF_THE_BYTES, hdrs.CONTENT_LENGTH):
            headers.popall(name, None)
        headers[hdrs.ETAG] = same[0].tag
        if same[0].bare:
            headers.add(hdrs.SET_COOKIE, NO_COMPANION_COOKIE)


def _is_page(status: int, headers: CIMultiDict[str]) -> bool:
    """Whether a browser shows the response as a page that may run scripts."""
    if status in _WITHOUT_DOCUMENT or 300 <= status < 400:
        return False
    disposition = headers.get(hdrs.CONTENT_DISPOSITION, "inline").partition(";")[0].strip().lower()
    return disposition == "inline" and (_media_type(headers) == _HTML or _media_type(headers) in _XML)


def _media_type(headers: CIMultiDict[str]) -> str:
    return headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip().lower()


def _coding(headers: CIMultiDict[str]) -> str:
    return ",".join(headers.getall(hdrs.CONTENT_ENCODING, ())).strip().lower()


def _recoder(headers: CIMultiDict[str]) -> Recoder | None:
    coding = _coding(headers)
    return Recoder(coding) if coding in CODINGS else None


def _accepts_gzip(lines: list[str]) -> bool:
    for part in ",".join(lines).lower().split(","):
        name, _, quality = part.partition(";")
        if name.strip() in ("gzip", "x-gzip", "*"):
            return quality.replace(" ", "").removeprefix("q=").strip("0.") != "" or not quality
    return False


def _vary(headers: CIMultiDict[str]) -> None:
    """A browser must not show what it has got for a script or a frame as a page, nor the other way round."""
    if DEST.lower() not in (varies := ",".join(headers.getall(hdrs.VARY, ())).lower()) and varies.strip() != "*":
        headers.add(hdrs.VARY, DEST)
