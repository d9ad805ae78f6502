"""What can go wrong; service/edge/problems.py maps each class to an HTTP status.

Callers see the message of a SessionError. IdTaken is for the domain itself.
A cause is always chained (``raise ... from``) and logged. Its text never reaches a caller: it may contain addresses,
names of other users' objects, or credentials.
"""


class SessionError(Exception):
    """Base of all errors that a caller of the service may see."""

    message = "the request could not be carried out"

    def __init__(self, message: str | None = None, *, retry_after: int | None = None) -> None:
        """`message` is shown to callers, with the reason where the class knows none; `retry_after` is in seconds."""
        super().__init__(message or self.message)
        self.retry_after = retry_after


class InvalidUserId(SessionError):
    message = "user_id must be 1 to 254 printable ASCII characters without spaces"


class UnknownProfile(SessionError):
    message = "there is no such profile"


class InvalidCursor(SessionError):
    message = "the cursor is not from this service"


class SessionNotFound(SessionError):
    message = "there is no such session"


class SessionReleased(SessionError):
    message = "the session's Helm release was removed; create the session again to bring it back"


class SessionBroken(SessionError):
    """The release exists but cannot serve."""

    message = "the session's release is broken"


class SessionUnreadable(SessionError):
    message = "the session's keys in Redis cannot be read"


class SessionDeleting(SessionError):
    message = "the session is being deleted"


class SessionAsleep(SessionError):
    message = "the session is asleep; wake it first"


class SessionAwake(SessionError):
    message = "the session is awake, or about to be; an upgrade could restart its pod under its user"


class SessionPaused(SessionError):
    message = "an operator has paused the session"


class AwakeLimitReached(SessionError):
    message = (
        "as many sessions are awake as the operator allows (AWAKE_LIMIT); try again when others have gone to sleep"
    )

    def __init__(self, group: str | None = None) -> None:
        """`group`: the one whose own limit is reached; None: the limit of all."""
        about = f"as many sessions of the group {group} are awake as the operator allows (AWAKE_LIMITS); try again when"
        super().__init__(f"{about} others of it have gone to sleep" if group is not None else None, retry_after=30)


class GroupRefused(SessionError):
    message = "the session may not be put into this group"


class SessionInUse(SessionError):
    message = "the session is in use again, or an operator is at work on it"


class IdleTimesRefused(SessionError):
    message = "these idle times are not possible"


class GatewayOff(SessionError):
    message = "this service has no gateway: GATEWAY_DOMAIN is not set"


class SessionBusy(SessionError):
    message = "another operation on this session is in progress; try again in a moment"


class TooManyRequests(SessionError):
    message = "too many requests; wait for as long as `Retry-After` says"


class HelmQueueFull(SessionError):
    """The queue for helm is full."""

    message = "too many sessions are being created; try again in a moment"


class IndexIncomplete(SessionError):
    message = "the sessions are being restored from the cluster; try again in a moment"


class Unavailable(SessionError):
    part = "service"
    message = "a part of the system does not answer"


class RedisUnavailable(Unavailable):
    part = "redis"
    message = "Redis does not answer"


class RedisFull(RedisUnavailable):
    message = (
        "Redis is full: its maxmemory is reached, so it refuses every write, while reads work;"
        " give it more memory, or remove data of others from it"
    )


class RedisReadOnly(RedisUnavailable):
    message = (
        "Redis is read-only: this server is a replica; after a failover the primary is found within seconds,"
        " otherwise REDIS_URL names the wrong server"
    )


class RedisWritesRefused(RedisUnavailable):
    message = (
        "Redis refuses writes, while reads work: it cannot save its data, or has too few replicas"
        " (MISCONF, NOREPLICAS); its log says which"
    )


class RedisDenied(RedisUnavailable):
    message = "Redis refuses the service's user, password or a command; check REDIS_URL and the rights of its user"


class RedisKeyInvalid(RedisUnavailable):
    message = (
        "one of the service's own keys in Redis has the wrong type; `redis-cli TYPE` of user-pods:users,"
        " user-pods:ids, user-pods:pending and user-pods:whole (hash, zset, zset, string) shows which"
    )


class NotificationsRefused(RedisUnavailable):
    message = (
        "Redis sends no notifications of pushes and refuses CONFIG SET notify-keyspace-events El; pushes by"
        " other programs are only found by the next resync"
    )


class ClusterUnavailable(Unavailable):
    part = "kubernetes"
    message = "the Kubernetes API does not answer"


class SigningKeysUnavailable(ClusterUnavailable):
    message = (
        "the signing keys of tickets and session cookies cannot be read from Kubernetes yet; try again in a moment"
    )


class IdentityProviderUnavailable(Unavailable):
    part = "identity provider"
    message = (
        "the identity provider's keys cannot be read, so nobody can be recognised by a token; try again in a moment"
    )


class KedaUnavailable(Unavailable):
    part = "keda"
    message = "KEDA does not work"


class HelmUnavailable(Unavailable):
    """There is no helm binary, or it cannot be started."""

    part = "helm"
    message = "helm cannot be started"


class HelmTimeout(Unavailable):
    part = "helm"
    message = "helm did not finish in time"


class ChartInvalid(Unavailable):
    part = "chart"
    message = "the chart cannot be rendered with the configured values"


class InstallFailed(Unavailable):
    """The cluster refused what the chart rendered, or helm failed otherwise."""

    part = "helm"
    message = "helm could not install the release"


class UpgradeFailed(Unavailable):
    """The release is as it was before, unless the message says otherwise."""

    part = "helm"
    message = "helm could not upgrade the release"


class UpgradeConflict(UpgradeFailed):
    """It would change what somebody else has set, so the same upgrade fails again."""

    message = "somebody has changed by hand what the upgrade would change"

    def __init__(self, message: str | None = None, *, managers: frozenset[str] = frozenset(), step: str = "") -> None:
        """`managers`: the field managers of Kubernetes who have set it. `step`: what an operator can do."""
        super().__init__(message)
        self.managers = managers
        self.step = step


class UpgradeRunning(SessionError):
    message = "an upgrade of all sessions to another chart or other chart values is under way; stop it first"


class NoUpgrade(SessionError):
    message = "no upgrade of all sessions is under way"


class IdTaken(Exception):
    """A new id belongs to another user, or to objects that are not the service's."""


_CAUSE_LIMIT = 300


def causes(error: BaseException) -> str | None:
    """The causes of the error, for one line of a log: class and text of each, the nearest first."""
    found: list[str] = []
    cause = error.__cause__
    while cause is not None and len(found) < 5:
        found.append(f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__)
        cause = cause.__cause__
    return "; ".join(found)[:_CAUSE_LIMIT] or None
