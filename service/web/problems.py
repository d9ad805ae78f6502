"""Turns every error of a call into a problem document."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from aiohttp import ClientConnectionResetError, web
from aiohttp.typedefs import Handler
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from service.domain import errors
from service.edge.faults import FAULTS, Fault
from service.edge.problems import ERROR_STATUSES, problem, status_of
from service.web.request_id import HEADER

log = logging.getLogger(__name__)

PROBLEM = web.ResponseKey("problem", str)
"""The slug of the problem that an answer is."""

KINDS = {
    **{fault.slug: (fault.status, fault.detail.rstrip(".")) for fault in FAULTS},
    "not-json": (400, "the body is not JSON"),
    "unauthorized": (401, "no valid key or token came with the request"),
    "forbidden": (403, "the caller's role, or the only user whom it may act for, does not allow this"),
    "cross-site": (403, "a page of another site may not call a service without keys"),
    "not-found": (404, "no such path; an id has 8 characters out of a-z and 0-9"),
    "method-not-allowed": (405, "the path has other methods; see `Allow`"),
    "request-timeout": (408, "the request took too long to arrive"),
    "request-entity-too-large": (413, "the body is too large"),
    "unsupported-media-type": (415, "the body must be application/json, uncompressed or with gzip or deflate"),
    "does-not-fit": (422, "the body or query is invalid; `errors` says what and where"),
    "too-many-streams-of-session": (429, "too many streams of this session's events are open; close some"),
    "too-many-streams": (503, "too many streams of events are open at this replica; try again in a moment"),
    "not-ready": (503, "this process is starting or shutting down; another replica may be ready"),
    "not-alive": (503, "a part of this process does not recover; `part` names it; restart the process"),
    "internal": (500, "something went wrong in the service; its log has details under the problem's `instance`"),
    **{row.slug: (row.status, row.error.message) for row in ERROR_STATUSES},
}
"""Every kind of problem, by the slug that ends its `type`: its status, and what it means."""
_OF_HTTP = {404: "not-found", 405: "method-not-allowed", 413: "request-entity-too-large"}
"""What aiohttp itself answers with, by status."""
_RETRY_AFTER = 5
"""Seconds in `Retry-After`, unless the error says otherwise."""
_LASTING = frozenset({"upgrade-failed"})
"""The call was carried out, and a repetition would most likely fail for the same reason: no `Retry-After`."""


@dataclass(eq=False)
class RequestRefused(Exception):
    """The request itself is wrong: the `slug` of one of KINDS, and members of the body that do not fit."""

    slug: str
    detail: str
    fields: Sequence[dict[str, str]] | None = None
    part: str | None = None


def kinds() -> list[tuple[str, int, str]]:
    """Every kind of problem: the slug that ends its `type`, its status, and what it means."""
    return sorted((slug, status, meaning) for slug, (status, meaning) in KINDS.items())


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _of_http(error)
    except RequestRefused as error:
        return _of_request(error)
    except errors.SessionError as error:
        return _of_domain(error)
    except ClientConnectionResetError:
        raise  # the caller is gone
    except Exception:
        log.exception("unexpected error")
        return _response("internal", "something went wrong in the service; its log has details under this instance")


def of_fault(fault: Fault, name: str) -> web.Response:
    """The problem of a request that no handler sees; `name` is its id in the log."""
    response = _response(fault.slug, fault.detail, retry_after=fault.retry_after, request_id=name)
    response.headers[HEADER] = name
    return response


def _response(slug: str, detail: str, *, retry_after: int | None = None, **members: Any) -> web.Response:
    status, _ = KINDS[slug]
    response = problem(status, detail, type_=f"/problems/{slug}", **members)
    response[PROBLEM] = slug
    if retry_after or (status in (429, 503) and slug not in _LASTING):
        response.headers["Retry-After"] = str(retry_after or _RETRY_AFTER)
    return response


def _of_request(error: RequestRefused) -> web.Response:
    response = _response(error.slug, error.detail, part=error.part, fields=error.fields)
    if error.slug == "unauthorized":
        response.headers["WWW-Authenticate"] = "Bearer"
    if error.slug in ("request-timeout", "bad-request"):
        response.force_close()  # the rest of its body may still come, and where it ends is not certain
    if error.slug == "unsupported-media-type":
        response.headers["Accept-Encoding"] = "gzip, deflate"
    return response


def _of_http(error: web.HTTPException) -> web.Response:
    if error.status < HTTPStatus.BAD_REQUEST:
        raise error
    slug = _OF_HTTP.get(error.status, "bad-request")
    response = _response(slug, KINDS[slug][1])
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response


def _of_domain(error: errors.SessionError) -> web.Response:
    row = status_of(error)
    part = error.part if isinstance(error, errors.Unavailable) else None
    if row.status >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, errors.GatewayOff):
        # Without a traceback: while a part is unavailable, every call ends here.
        log.error("%s", error, extra={"part": part, "cause": errors.causes(error)})
    return _response(row.slug, str(error), part=part, retry_after=error.retry_after)


def of_validation(error: ValidationError, *, source: str) -> RequestRefused:
    """422 for what does not fit, 400 for a body that is not JSON. Never repeats the caller's input."""
    details = error.errors(include_url=False, include_context=False, include_input=False)
    if any(item["type"] == "json_invalid" for item in details):
        return RequestRefused("not-json", "the body is not JSON")
    fields = [
        {
            "pointer": "".join(map(_token, item["loc"])) if source == "body" else str(item["loc"][0]),
            "detail": errors.InvalidUserId.message if _is_user_id(item) else item["msg"],
        }
        for item in details
    ]
    return RequestRefused("does-not-fit", f"the {source} is invalid; see `errors`", fields)


def _token(part: str | int) -> str:
    """A part of a JSON pointer (RFC 6901), cut to a sensible length."""
    return "/" + str(part)[:64].replace("~", "~0").replace("/", "~1")


def _is_user_id(item: ErrorDetails) -> bool:
    return item["loc"] == ("user_id",) and item["type"].startswith("string_") and item["type"] != "string_type"
