"""An exception for each type of problem. Made by `make generated`; a test compares it with the service."""

from user_pods_client.errors import ServiceProblem


class AwakeLimitReached(ServiceProblem):
    """429: as many sessions are awake as the operator allows (AWAKE_LIMIT); try again when others have gone to
    sleep."""

    slug = "awake-limit-reached"


class BadRequest(ServiceProblem):
    """400: This is not a well-formed HTTP request."""

    slug = "bad-request"


class ChartInvalid(ServiceProblem):
    """503: the chart cannot be rendered with the configured values."""

    slug = "chart-invalid"


class CrossSite(ServiceProblem):
    """403: a page of another site may not call a service without keys."""

    slug = "cross-site"


class DoesNotFit(ServiceProblem):
    """422: the body or query is invalid; `errors` says what and where."""

    slug = "does-not-fit"


class ExpectationFailed(ServiceProblem):
    """417: Only `Expect: 100-continue` is supported. Leave `Expect` out."""

    slug = "expectation-failed"


class Forbidden(ServiceProblem):
    """403: the caller's role, or the only user whom it may act for, does not allow this."""

    slug = "forbidden"


class GatewayOff(ServiceProblem):
    """501: this service has no gateway: GATEWAY_DOMAIN is not set."""

    slug = "gateway-off"


class GroupRefused(ServiceProblem):
    """422: the session may not be put into this group."""

    slug = "group-refused"


class HelmTimeout(ServiceProblem):
    """504: helm did not finish in time."""

    slug = "helm-timeout"


class HelmUnavailable(ServiceProblem):
    """503: helm cannot be started."""

    slug = "helm-unavailable"


class HttpVersionNotSupported(ServiceProblem):
    """505: Use HTTP/1.1."""

    slug = "http-version-not-supported"


class IdentityProviderUnavailable(ServiceProblem):
    """503: the identity provider's keys cannot be read, so nobody can be recognised by a token; try again in a
    moment."""

    slug = "identity-provider-unavailable"


class IdleTimesRefused(ServiceProblem):
    """422: these idle times are not possible."""

    slug = "idle-times-refused"


class IndexIncomplete(ServiceProblem):
    """503: the sessions are being restored from the cluster; try again in a moment."""

    slug = "index-incomplete"


class InstallFailed(ServiceProblem):
    """503: helm could not install the release."""

    slug = "install-failed"


class Internal(ServiceProblem):
    """500: something went wrong in the service; its log has details under the problem's `instance`."""

    slug = "internal"


class InvalidCursor(ServiceProblem):
    """422: the cursor is not from this service."""

    slug = "invalid-cursor"


class InvalidUserId(ServiceProblem):
    """422: user_id must be 1 to 254 printable ASCII characters without spaces."""

    slug = "invalid-user-id"


class KedaUnavailable(ServiceProblem):
    """503: KEDA does not work."""

    slug = "keda-unavailable"


class KubernetesUnavailable(ServiceProblem):
    """503: the Kubernetes API does not answer."""

    slug = "kubernetes-unavailable"


class MethodNotAllowed(ServiceProblem):
    """405: the path has other methods; see `Allow`."""

    slug = "method-not-allowed"


class NoUpgrade(ServiceProblem):
    """409: no upgrade of all sessions is under way."""

    slug = "no-upgrade"


class NotAlive(ServiceProblem):
    """503: a part of this process does not recover; `part` names it; restart the process."""

    slug = "not-alive"


class NotFound(ServiceProblem):
    """404: no such path; an id has 8 characters out of a-z and 0-9."""

    slug = "not-found"


class NotImplementedProblem(ServiceProblem):
    """501: The only supported `Transfer-Encoding` is `chunked`."""

    slug = "not-implemented"


class NotJson(ServiceProblem):
    """400: the body is not JSON."""

    slug = "not-json"


class NotReady(ServiceProblem):
    """503: this process is starting or shutting down; another replica may be ready."""

    slug = "not-ready"


class NotificationsRefused(ServiceProblem):
    """503: Redis sends no notifications of pushes and refuses CONFIG SET notify-keyspace-events El; pushes by other
    programs are only found by the next resync."""

    slug = "notifications-refused"


class RedisDenied(ServiceProblem):
    """503: Redis refuses the service's user, password or a command; check REDIS_URL and the rights of its user."""

    slug = "redis-denied"


class RedisFull(ServiceProblem):
    """503: Redis is full: its maxmemory is reached, so it refuses every write, while reads work; give it more memory,
    or remove data of others from it."""

    slug = "redis-full"


class RedisKeyInvalid(ServiceProblem):
    """503: one of the service's own keys in Redis has the wrong type; `redis-cli TYPE` of user-pods:users, user-
    pods:ids, user-pods:pending and user-pods:whole (hash, zset, zset, string) shows which."""

    slug = "redis-key-invalid"


class RedisReadOnly(ServiceProblem):
    """503: Redis is read-only: this server is a replica; after a failover the primary is found within seconds,
    otherwise REDIS_URL names the wrong server."""

    slug = "redis-read-only"


class RedisUnavailable(ServiceProblem):
    """503: Redis does not answer."""

    slug = "redis-unavailable"


class RedisWritesRefused(ServiceProblem):
    """503: Redis refuses writes, while reads work: it cannot save its data, or has too few replicas (MISCONF,
    NOREPLICAS); its log says which."""

    slug = "redis-writes-refused"


class RequestEntityTooLarge(ServiceProblem):
    """413: the body is too large."""

    slug = "request-entity-too-large"


class RequestHeaderFieldsTooLarge(ServiceProblem):
    """431: The headers are too large or too many. Delete this site's cookies, or send fewer headers."""

    slug = "request-header-fields-too-large"


class RequestTimeout(ServiceProblem):
    """408: the request took too long to arrive."""

    slug = "request-timeout"


class SessionAsleep(ServiceProblem):
    """409: the session is asleep; wake it first."""

    slug = "session-asleep"


class SessionAwake(ServiceProblem):
    """409: the session is awake, or about to be; an upgrade could restart its pod under its user."""

    slug = "session-awake"


class SessionBroken(ServiceProblem):
    """409: the session's release is broken."""

    slug = "session-broken"


class SessionBusy(ServiceProblem):
    """409: another operation on this session is in progress; try again in a moment."""

    slug = "session-busy"


class SessionDeleting(ServiceProblem):
    """409: the session is being deleted."""

    slug = "session-deleting"


class SessionError(ServiceProblem):
    """500: the request could not be carried out."""

    slug = "session-error"


class SessionNotFound(ServiceProblem):
    """404: there is no such session."""

    slug = "session-not-found"


class SessionPaused(ServiceProblem):
    """409: an operator has paused the session."""

    slug = "session-paused"


class SessionReleased(ServiceProblem):
    """409: the session's Helm release was removed; create the session again to bring it back."""

    slug = "session-released"


class SessionUnreadable(ServiceProblem):
    """409: the session's keys in Redis cannot be read."""

    slug = "session-unreadable"


class SigningKeysUnavailable(ServiceProblem):
    """503: the signing keys of tickets and session cookies cannot be read from Kubernetes yet; try again in a
    moment."""

    slug = "signing-keys-unavailable"


class TooManyConnections(ServiceProblem):
    """503: The connection limit is reached. Try again later."""

    slug = "too-many-connections"


class TooManyConnectionsOfAddress(ServiceProblem):
    """429: Your address has too many connections open."""

    slug = "too-many-connections-of-address"


class TooManyCreates(ServiceProblem):
    """429: too many sessions are being created; try again in a moment."""

    slug = "too-many-creates"


class TooManyRequests(ServiceProblem):
    """429: too many requests; wait for as long as `Retry-After` says."""

    slug = "too-many-requests"


class TooManyStreams(ServiceProblem):
    """503: too many streams of events are open at this replica; try again in a moment."""

    slug = "too-many-streams"


class TooManyStreamsOfSession(ServiceProblem):
    """429: too many streams of this session's events are open; close some."""

    slug = "too-many-streams-of-session"


class Unauthorized(ServiceProblem):
    """401: no valid key or token came with the request."""

    slug = "unauthorized"


class Unavailable(ServiceProblem):
    """503: a part of the system does not answer."""

    slug = "unavailable"


class UnknownProfile(ServiceProblem):
    """422: there is no such profile."""

    slug = "unknown-profile"


class UnsupportedMediaType(ServiceProblem):
    """415: the body must be application/json, uncompressed or with gzip or deflate."""

    slug = "unsupported-media-type"


class UpgradeConflict(ServiceProblem):
    """409: somebody has changed by hand what the upgrade would change."""

    slug = "upgrade-conflict"


class UpgradeFailed(ServiceProblem):
    """503: helm could not upgrade the release."""

    slug = "upgrade-failed"


class UpgradeRunning(ServiceProblem):
    """409: an upgrade of all sessions to another chart or other chart values is under way; stop it first."""

    slug = "upgrade-running"


class UriTooLong(ServiceProblem):
    """414: The request line is longer than allowed. Shorten it."""

    slug = "uri-too-long"


BY_SLUG: dict[str, type[ServiceProblem]] = {
    "awake-limit-reached": AwakeLimitReached,
    "bad-request": BadRequest,
    "chart-invalid": ChartInvalid,
    "cross-site": CrossSite,
    "does-not-fit": DoesNotFit,
    "expectation-failed": ExpectationFailed,
    "forbidden": Forbidden,
    "gateway-off": GatewayOff,
    "group-refused": GroupRefused,
    "helm-timeout": HelmTimeout,
    "helm-unavailable": HelmUnavailable,
    "http-version-not-supported": HttpVersionNotSupported,
    "identity-provider-unavailable": IdentityProviderUnavailable,
    "idle-times-refused": IdleTimesRefused,
    "index-incomplete": IndexIncomplete,
    "install-failed": InstallFailed,
    "internal": Internal,
    "invalid-cursor": InvalidCursor,
    "invalid-user-id": InvalidUserId,
    "keda-unavailable": KedaUnavailable,
    "kubernetes-unavailable": KubernetesUnavailable,
    "method-not-allowed": MethodNotAllowed,
    "no-upgrade": NoUpgrade,
    "not-alive": NotAlive,
    "not-found": NotFound,
    "not-implemented": NotImplementedProblem,
    "not-json": NotJson,
    "not-ready": NotReady,
    "notifications-refused": NotificationsRefused,
    "redis-denied": RedisDenied,
    "redis-full": RedisFull,
    "redis-key-invalid": RedisKeyInvalid,
    "redis-read-only": RedisReadOnly,
    "redis-unavailable": RedisUnavailable,
    "redis-writes-refused": RedisWritesRefused,
    "request-entity-too-large": RequestEntityTooLarge,
    "request-header-fields-too-large": RequestHeaderFieldsTooLarge,
    "request-timeout": RequestTimeout,
    "session-asleep": SessionAsleep,
    "session-awake": SessionAwake,
    "session-broken": SessionBroken,
    "session-busy": SessionBusy,
    "session-deleting": SessionDeleting,
    "session-error": SessionError,
    "session-not-found": SessionNotFound,
    "session-paused": SessionPaused,
    "session-released": SessionReleased,
    "session-unreadable": SessionUnreadable,
    "signing-keys-unavailable": SigningKeysUnavailable,
    "too-many-connections": TooManyConnections,
    "too-many-connections-of-address": TooManyConnectionsOfAddress,
    "too-many-creates": TooManyCreates,
    "too-many-requests": TooManyRequests,
    "too-many-streams": TooManyStreams,
    "too-many-streams-of-session": TooManyStreamsOfSession,
    "unauthorized": Unauthorized,
    "unavailable": Unavailable,
    "unknown-profile": UnknownProfile,
    "unsupported-media-type": UnsupportedMediaType,
    "upgrade-conflict": UpgradeConflict,
    "upgrade-failed": UpgradeFailed,
    "upgrade-running": UpgradeRunning,
    "uri-too-long": UriTooLong,
}
