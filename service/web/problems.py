"""Turns every error into an RFC 9457 problem document; the only place that knows which error has which status."""

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import ClientConnectionResetError, web
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from service.domain import errors
from service.domain.request_context import current_request_id
from service.edge.faults import FAULTS, Fault
from service.web.models import Problem, ProblemError
from service.web.request_id import HEADER

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"

TABLE: tuple[tuple[type[errors.SessionError], int, str], ...] = (
    (errors.InvalidUserId, 422, "invalid-user-id"),
    (errors.InvalidCursor, 422, "invalid-cursor"),
    (errors.SessionNotFound, 404, "session-not-found"),
    (errors.SessionReleased, 409, "session-released"),
    (errors.SessionBroken, 409, "session-broken"),
    (errors.SessionUnreadable, 409, "session-unreadable"),
    (errors.SessionDeleting, 409, "session-deleting"),
    (errors.SessionAsleep, 409, "session-asleep"),
    (errors.SessionPaused, 409, "session-paused"),
    (errors.IdleTimesRefused, 422, "idle-times-refused"),
    (errors.GatewayOff, 501, "gateway-off"),
    (errors.SessionBusy, 409, "session-busy"),
    (errors.TooManyCreates, 429, "too-many-creates"),
    (errors.IndexIncomplete, 503, "index-incomplete"),
    (errors.NotificationsRefused, 503, "notifications-refused"),
    (errors.RedisFull, 503, "redis-full"),
    (errors.RedisReadOnly, 503, "redis-read-only"),
    (errors.RedisWritesRefused, 503, "redis-writes-refused"),
    (errors.RedisDenied, 503, "redis-denied"),
    (errors.RedisKeyInvalid, 503, "redis-key-invalid"),
    (errors.RedisUnavailable, 503, "redis-unavailable"),
    (errors.SigningKeysUnavailable, 503, "signing-keys-unavailable"),
    (errors.ClusterUnavailable, 503, "kubernetes-unavailable"),
    (errors.KedaUnavailable, 503, "keda-unavailable"),
    (errors.HelmUnavailable, 503, "helm-unavailable"),
    (errors.HelmTimeout, 504, "helm-timeout"),
    (errors.ChartInvalid, 503, "chart-invalid"),
    (errors.InstallFailed, 503, "install-failed"),
    (errors.Unavailable, 503, "unavailable"),
    (errors.SessionError, 500, "session-error"),
)
"""Most specific first; a test holds that every error of the domain has a row of its own."""

_OF_THE_REQUEST = (
    ("not-json", 400, "the body is not JSON"),
    ("unauthorized", 401, "no valid key came with the request"),
    ("cross-site", 403, "a page of another site may not call a service without keys"),
    ("not-found", 404, "nothing is served under this path; an id has 8 characters out of a-z and 0-9"),
    ("method-not-allowed", 405, "the path knows other methods; see `Allow`"),
    ("request-timeout", 408, "the request took too long to arrive"),
    ("request-entity-too-large", 413, "the body is larger than any sensible one"),
    ("unsupported-media-type", 415, "the body must be application/json, plain or with gzip or deflate"),
    ("does-not-fit", 422, "body or query do not fit; `errors` tells what and where"),
    ("too-many-streams-of-session", 429, "the session's events are followed by too many; close some streams"),
    ("too-many-streams", 503, "too many streams of events are open at this replica; try again in a moment"),
    ("not-ready", 503, "this process is starting or on its way out; another one may serve"),
    ("not-alive", 503, "a part of this process does not recover; `part` names it, and a restart of the process helps"),
    ("internal", 500, "something went wrong on our side; the log knows more under the problem's instance"),
)
"""Problems that no error of the domain stands behind."""

_OF_THE_EDGE = tuple((fault.slug, fault.status, fault.detail.rstrip(".")) for fault in FAULTS)
"""Of requests that no handler sees."""

_RETRY_AFTER = 5
"""Seconds that a caller is asked to wait when the error does not know better."""


class BadRequest(Exception):
    """The request itself is wrong, found out while reading it."""

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
    known = {slug for slug, _, _ in _OF_THE_REQUEST}
    of_the_edge = (kind for kind in _OF_THE_EDGE if kind[0] not in known)
    return sorted([*_OF_THE_REQUEST, *of_the_edge, *((slug, status, kind.message) for kind, status, slug in TABLE)])


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
        raise  # the caller is gone; nobody can be answered
    except Exception:
        log.exception("unexpected error")
        return _respond(500, "internal", "something went wrong on our side; the log knows more under this instance")


def of_fault(fault: Fault, name: str) -> web.Response:
    """The problem document for a request that no handler sees; `name` is the id by which the log knows it."""
    response = _respond(fault.status, fault.slug, fault.detail, name=name)
    response.headers[HEADER] = name
    if fault.retry_after:
        response.headers["Retry-After"] = str(fault.retry_after)
    return response


def _of_request(error: BadRequest) -> web.Response:
    response = _respond(error.status, error.slug, error.detail, part=error.part, fields=error.fields)
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
    known = {slug: text for slug, _, text in _OF_THE_REQUEST}
    response = _respond(error.status, slug, known.get(slug, error.reason))
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response


def _of_domain(error: errors.SessionError) -> web.Response:
    status, slug = next((status, slug) for kind, status, slug in TABLE if isinstance(error, kind))
    part = error.part if isinstance(error, errors.Unavailable) else None
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, errors.GatewayOff):
        # Without a traceback: while a part is away, every call comes to this.
        log.error("%s", error, extra={"part": part, "cause": errors.causes(error)})
    response = _respond(status, slug, str(error), part=part)
    if status in (429, 503) or error.retry_after:
        response.headers["Retry-After"] = str(error.retry_after or _RETRY_AFTER)
    return response


def of_validation(error: ValidationError, *, source: str) -> BadRequest:
    """422 for what does not fit, 400 for a body that is no JSON at all; never repeats the caller's input."""
    details = error.errors(include_url=False, include_context=False, include_input=False)
    if any(item["type"] == "json_invalid" for item in details):
        return BadRequest(400, "not-json", "the body is not JSON")
    fields = [
        ProblemError(pointer="".join(map(_token, item["loc"])) if source == "body" else str(item["loc"][0]),
                     detail=errors.InvalidUserId.message if _is_user_id(item) else item["msg"])
        for item in details
    ]  # fmt: skip
    return BadRequest(422, "does-not-fit", f"the {source} does not fit; see `errors`", fields)


def _token(part: str | int) -> str:
    """A part of a JSON pointer (RFC 6901), no longer than any name that we know."""
    return "/" + str(part)[:64].replace("~", "~0").replace("/", "~1")


def _is_user_id(item: ErrorDetails) -> bool:
    return item["loc"] == ("user_id",) and item["type"].startswith("string_") and item["type"] != "string_type"


def _respond(
    status: int,
    slug: str,
    detail: str,
    *,
    part: str | None = None,
    fields: list[ProblemError] | None = None,
    name: str | None = None,
) -> web.Response:
    problem = Problem(
        type=f"/problems/{slug}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=f"urn:request:{name or current_request_id()}",
        part=part,
        errors=fields,
    )
    response = web.Response(status=status, text=problem.model_dump_json(exclude_none=True), content_type=CONTENT_TYPE)
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response
