"""Faults of connections, and of requests that no handler sees.

The sentences are fixed: they repeat nothing of the request, any part of which may be a credential.
"""

from dataclasses import dataclass

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web

from service.edge.aiohttp_internals.server import ContentEncodingError, is_too_large


@dataclass(frozen=True, slots=True)
class Fault:
    """`slug` identifies the kind for programs, `detail` says what to do; `retry_after` is in seconds."""

    status: int
    slug: str
    title: str
    detail: str
    retry_after: int | None = None


BAD_REQUEST = Fault(400, "bad-request", "Bad request", "This is not a well-formed HTTP request.")
BAD_FRAMING = Fault(
    400,
    "bad-request",
    "Bad request",
    "The length of the body is ambiguous. Send `Content-Length` or chunked encoding, not both.",
)
SLOW_HEAD = Fault(408, "request-timeout", "Request timeout", "The headers took too long to arrive.")
TARGET_TOO_LONG = Fault(414, "uri-too-long", "URI too long", "The request line is longer than allowed. Shorten it.")
UNKNOWN_CODING = Fault(
    415, "unsupported-media-type", "Unsupported media type", "The body's `Content-Encoding` is not supported."
)
EXPECTATION = Fault(
    417, "expectation-failed", "Expectation failed", "Only `Expect: 100-continue` is supported. Leave `Expect` out."
)
HEADERS_TOO_LARGE = Fault(
    431,
    "request-header-fields-too-large",
    "Request header fields too large",
    "The headers are too large or too many. Delete this site's cookies, or send fewer headers.",
)
UNEXPECTED = Fault(500, "internal", "Internal error", "Something went wrong. The log has details under this instance.")
UNKNOWN_TRANSFER = Fault(
    501, "not-implemented", "Not implemented", "The only supported `Transfer-Encoding` is `chunked`."
)
CROWDED = Fault(
    503, "too-many-connections", "Too many connections", "The connection limit is reached. Try again later.", 5
)
CROWDED_HEADS = Fault(503, "too-many-connections", "Too many connections", "Too many requests arrive. Try again.", 5)
CROWDED_ADDRESS = Fault(
    429, "too-many-connections-of-address", "Too many connections", "Your address has too many connections open.", 5
)
VERSION = Fault(505, "http-version-not-supported", "HTTP version not supported", "Use HTTP/1.1.")

FAULTS = (
    BAD_REQUEST, SLOW_HEAD, TARGET_TOO_LONG, UNKNOWN_CODING, EXPECTATION, HEADERS_TOO_LARGE, UNEXPECTED,
    UNKNOWN_TRANSFER, CROWDED, CROWDED_ADDRESS, VERSION,
)  # fmt: skip
"""One of each kind."""


_VERSIONS = (HttpVersion11, HttpVersion10)


def of_parser(error: BaseException) -> Fault:
    """The fault that the parser has found. Its own text may contain parts of the request."""
    if isinstance(error, ContentEncodingError):
        return UNKNOWN_CODING
    return HEADERS_TOO_LARGE if is_too_large(error) else BAD_REQUEST


def of_request(request: web.BaseRequest) -> Fault | None:
    """What the parser accepts, but a program behind might read in another way; None for a plain request."""
    version, headers = request.version, request.headers
    if version is not HttpVersion11 and version not in _VERSIONS:
        return VERSION
    if hdrs.TRANSFER_ENCODING in headers:
        return _of_coding(request)
    if hdrs.EXPECT in headers and any(each.lower() != "100-continue" for each in headers.getall(hdrs.EXPECT)):
        return EXPECTATION
    return None


def _of_coding(request: web.BaseRequest) -> Fault | None:
    if request.version != HttpVersion11 or hdrs.CONTENT_LENGTH in request.headers:
        return BAD_FRAMING
    codings = request.headers.getall(hdrs.TRANSFER_ENCODING)
    if codings != ["chunked"] and [each.lower() for each in codings if each.isascii()] != ["chunked"]:
        return UNKNOWN_TRANSFER
    return None
