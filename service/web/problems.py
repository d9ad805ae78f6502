"""Turns every error of a call into a problem document."""

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import ClientConnectionResetError, web
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from service.domain import errors
from service.edge.faults import FAULTS, Fault
from service.edge.problems import ERROR_STATUSES, problem, status_of
from service.web.models import ProblemError
from service.web.request_id import HEADER

log = logging.getLogger(__name__)

_REQUEST_PROBLEMS = (
    ("not-json", 400, "the body is not JSON"),
    ("unauthorized", 401, "no valid key came with the request"),
    ("cross-site", 403, "a page of another site may not call a service without keys"),
    ("not-found", 404, "no such path; an id has 8 characters out of a-z and 0-9"),
    ("method-not-allowed", 405, "the path has other methods; see `Allow`"),
    ("request-timeout", 408, "the request took too long to arrive"),
    ("request-entity-too-large", 413, "the body is too large"),
    ("unsupported-media-type", 415, "the body must be application/json, uncompressed or with gzip or deflate"),
    ("does-not-fit", 422, "the body or query is invalid; `errors` says what and where"),
    ("too-many-streams-of-session", 429, "too many streams of this session's events are open; close some"),
    ("too-many-streams", 503, "too many streams of events are open at this replica; try again in a moment"),
    ("not-ready", 503, "this process is starting or shutting down; another replica may be ready"),
    ("not-alive", 503, "a part of this process does not recover; `part` names it; restart the process"),
    ("internal", 500, "something went wrong in the service; its log has details under the problem's `instance`"),
)
"""Problems without an error of the domain."""

_EDGE_PROBLEMS = tuple((fault.slug, fault.status, fault.detail.rstrip(".")) for fault in FAULTS)
"""Problems of requests that no handler sees."""

_RETRY_AFTER = 5
"""Seconds in `Retry-After`, unless the error says otherwise."""


class BadRequest(Exception):
    """The request itself is wrong."""

    def __init__(
        self,
        status: int,
        slug: str,
        detail: str,
        fields: list[ProblemError] | None = None,
        *,
        part: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.part = part
        self.status = status
        self.slug = slug
        self.detail = detail
        self.fields = fields


def kinds() -> list[tuple[str, int, str]]:
    """Every kind of problem: the slug that ends its `type`, its status, and what it means."""
    known = {slug for slug, _, _ in _REQUEST_PROBLEMS}
    edge_problems = (kind for kind in _EDGE_PROBLEMS if kind[0] not in known)
    return sorted(
        [*_REQUEST_PROBLEMS, *edge_problems, *((row.slug, row.status, row.error.message) for row in ERROR_STATUSES)]
    )


@web.middleware
async def middleware(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _of_http(error)
    except BadRequest as error:
        return _of_request(error)
    except errors.SessionError as error:
        return _of_domain(error)
    except ClientConnectionResetError:
        raise  # the caller is gone
    except Exception:
        log.exception("unexpected error")
        return problem(
            500, "something went wrong in the service; its log has details under this instance", type_=_type("internal")
        )


def of_fault(fault: Fault, name: str) -> web.Response:
    """The problem of a request that no handler sees; `name` is its id in the log."""
    response = problem(fault.status, fault.detail, type_=_type(fault.slug), request_id=name)
    response.headers[HEADER] = name
    if fault.retry_after:
        response.headers["Retry-After"] = str(fault.retry_after)
    return response


def _of_request(error: BadRequest) -> web.Response:
    fields = [each.model_dump() for each in error.fields] if error.fields else None
    response = problem(error.status, error.detail, type_=_type(error.slug), part=error.part, fields=fields)
    if error.status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    if error.status in (429, 503):
        response.headers["Retry-After"] = str(_RETRY_AFTER)
    if error.status == HTTPStatus.REQUEST_TIMEOUT or error.slug == "bad-request":
        response.force_close()  # the rest of its body may still come, and where it ends is not certain
    if error.status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
        response.headers["Accept-Encoding"] = "gzip, deflate"
    return response


def _of_http(error: web.HTTPException) -> web.Response:
    if error.status < HTTPStatus.BAD_REQUEST:
        raise error
    slug = HTTPStatus(error.status).phrase.lower().replace(" ", "-")
    known = {slug: text for slug, _, text in _REQUEST_PROBLEMS}
    response = problem(error.status, known.get(slug, error.reason), type_=_type(slug))
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response


def _of_domain(error: errors.SessionError) -> web.Response:
    row = status_of(error)
    part = error.part if isinstance(error, errors.Unavailable) else None
    if row.status >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, errors.GatewayOff):
        # Without a traceback: while a part is unavailable, every call ends here.
        log.error("%s", error, extra={"part": part, "cause": errors.causes(error)})
    response = problem(row.status, str(error), type_=_type(row.slug), part=part)
    if row.status in (429, 503) or error.retry_after:
        response.headers["Retry-After"] = str(error.retry_after or _RETRY_AFTER)
    return response


def of_validation(error: ValidationError, *, source: str) -> BadRequest:
    """422 for what does not fit, 400 for a body that is not JSON. Never repeats the caller's input."""
    details = error.errors(include_url=False, include_context=False, include_input=False)
    if any(item["type"] == "json_invalid" for item in details):
        return BadRequest(400, "not-json", "the body is not JSON")
    fields = [
        ProblemError(pointer="".join(map(_token, item["loc"])) if source == "body" else str(item["loc"][0]),
                     detail=errors.InvalidUserId.message if _is_user_id(item) else item["msg"])
        for item in details
    ]  # fmt: skip
    return BadRequest(422, "does-not-fit", f"the {source} is invalid; see `errors`", fields)


def _token(part: str | int) -> str:
    """A part of a JSON pointer (RFC 6901), cut to a sensible length."""
    return "/" + str(part)[:64].replace("~", "~0").replace("/", "~1")


def _is_user_id(item: ErrorDetails) -> bool:
    return item["loc"] == ("user_id",) and item["type"].startswith("string_") and item["type"] != "string_type"


def _type(slug: str) -> str:
    return f"/problems/{slug}"
