"""Problem documents (RFC 9457), and the HTTP status of every error of the domain, for REST and gateway alike."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from service.domain import errors
from service.domain.request_context import current_request_id


@dataclass(frozen=True, slots=True)
class ErrorStatus:
    """`slug` ends the `type` of REST's problem. `gateway_status`: where the gateway's differs."""

    error: type[errors.SessionError]
    status: int
    slug: str
    gateway_status: int | None = None


ERROR_STATUSES = (
    ErrorStatus(errors.InvalidUserId, 422, "invalid-user-id"),
    ErrorStatus(errors.UnknownProfile, 422, "unknown-profile"),
    ErrorStatus(errors.GroupRefused, 422, "group-refused"),
    ErrorStatus(errors.InvalidCursor, 422, "invalid-cursor"),
    ErrorStatus(errors.SessionNotFound, 404, "session-not-found"),
    ErrorStatus(errors.SessionReleased, 409, "session-released"),
    # To a caller of REST, the session's state conflicts with the call. To a visitor, the workspace fails.
    ErrorStatus(errors.SessionBroken, 409, "session-broken", gateway_status=503),
    ErrorStatus(errors.SessionUnreadable, 409, "session-unreadable", gateway_status=503),
    ErrorStatus(errors.SessionDeleting, 409, "session-deleting"),
    ErrorStatus(errors.SessionAsleep, 409, "session-asleep"),
    ErrorStatus(errors.SessionAwake, 409, "session-awake"),
    ErrorStatus(errors.SessionPaused, 409, "session-paused"),
    # To a visitor, the workspace is out of reach for a while.
    ErrorStatus(errors.AwakeLimitReached, 429, "awake-limit-reached", gateway_status=503),
    ErrorStatus(errors.IdleTimesRefused, 422, "idle-times-refused"),
    ErrorStatus(errors.UpgradeRunning, 409, "upgrade-running"),
    ErrorStatus(errors.NoUpgrade, 409, "no-upgrade"),
    ErrorStatus(errors.GatewayOff, 501, "gateway-off"),
    ErrorStatus(errors.SessionInUse, 409, "session-busy"),
    ErrorStatus(errors.SessionBusy, 409, "session-busy"),
    ErrorStatus(errors.TooManyRequests, 429, "too-many-requests"),
    ErrorStatus(errors.HelmQueueFull, 429, "too-many-creates"),
    ErrorStatus(errors.IndexIncomplete, 503, "index-incomplete"),
    ErrorStatus(errors.NotificationsRefused, 503, "notifications-refused"),
    ErrorStatus(errors.RedisFull, 503, "redis-full"),
    ErrorStatus(errors.RedisReadOnly, 503, "redis-read-only"),
    ErrorStatus(errors.RedisWritesRefused, 503, "redis-writes-refused"),
    ErrorStatus(errors.RedisDenied, 503, "redis-denied"),
    ErrorStatus(errors.RedisKeyInvalid, 503, "redis-key-invalid"),
    ErrorStatus(errors.RedisUnavailable, 503, "redis-unavailable"),
    ErrorStatus(errors.SigningKeysUnavailable, 503, "signing-keys-unavailable"),
    ErrorStatus(errors.ClusterUnavailable, 503, "kubernetes-unavailable"),
    ErrorStatus(errors.IdentityProviderUnavailable, 503, "identity-provider-unavailable"),
    ErrorStatus(errors.KedaUnavailable, 503, "keda-unavailable"),
    ErrorStatus(errors.HelmUnavailable, 503, "helm-unavailable"),
    ErrorStatus(errors.HelmTimeout, 504, "helm-timeout"),
    ErrorStatus(errors.ChartInvalid, 503, "chart-invalid"),
    ErrorStatus(errors.InstallFailed, 503, "install-failed"),
    ErrorStatus(errors.UpgradeConflict, 409, "upgrade-conflict"),
    ErrorStatus(errors.UpgradeFailed, 503, "upgrade-failed"),
    ErrorStatus(errors.Unavailable, 503, "unavailable"),
    ErrorStatus(errors.SessionError, 500, "session-error"),
)
"""Most specific first. A test checks that every error of the domain has a row."""
_TITLES = {413: "Request Entity Too Large", 414: "Request-URI Too Long", 422: "Unprocessable Entity"}
"""Titles that clients know. Python 3.13 renamed these phrases."""


def status_of(error: errors.SessionError) -> ErrorStatus:
    return next(row for row in ERROR_STATUSES if isinstance(error, row.error))


def problem(
    status: int,
    detail: str,
    *,
    type_: str = "about:blank",
    title: str | None = None,
    request_id: str | None = None,
    part: str | None = None,
    fields: Sequence[dict[str, str]] | None = None,
) -> web.Response:
    """A problem document. By default the title is the status', and the id that of the request being served.

    `part` is the part of the system that fails; `fields` are the members of the body that do not fit.
    """
    document = {
        "type": type_,
        "title": title or _TITLES.get(status) or HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": f"urn:request:{request_id or current_request_id()}",
        "part": part,
        "errors": fields,
    }
    text = json.dumps({name: value for name, value in document.items() if value is not None})
    return web.Response(status=status, text=text, content_type="application/problem+json")
