"""The metrics that parts of the service report; service/adapters/prometheus/metrics.py implements them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, Protocol

from service.domain.expiry import ExpiryReason
from service.domain.progress import Stage


class Creation(StrEnum):
    """How a create ended."""

    INSTALLED = "installed"
    PRESENT = "present"
    """The session already existed."""
    FAILED = "failed"
    """Rejected by the admission queue, or failed with an error."""


class HelmWork(StrEnum):
    INSTALL = "install"
    UPGRADE = "upgrade"
    ROLLBACK = "rollback"
    UNINSTALL = "uninstall"


SETTLED: Final = "settled"
"""KEDA has taken the wake over. Measured like the stages, but not an event: the progress ends earlier."""
MeasuredStage = Stage | Literal["settled"]
MEASURED: frozenset[MeasuredStage] = frozenset(
    {Stage.SCALED, Stage.UNPARKED, Stage.SCHEDULED, Stage.STARTED, Stage.READY, SETTLED}
)
"""The stages of a wake whose time since the push is measured."""


class RequestOutcome(StrEnum):
    """What became of a request to the gateway."""

    PASSED = "passed"
    """The pod answered it."""
    HELD = "held"
    """The pod answered it after a wait for the pod."""
    PAGE = "page"
    """Answered with the waiting page."""
    OWN = "own"
    """Answered by the gateway: a ticket exchange, an event stream for the waiting page, or the companion's script."""
    ASLEEP = "asleep"
    """Sent by a page on its own, so the workspace stays asleep."""
    REFUSED = "refused"
    """Rejected: no session cookie, a page of another host, or an unknown workspace."""
    BUSY = "busy"
    """Beyond a limit."""
    FAILED = "failed"
    """The workspace did not start, did not answer, or closed the connection."""
    LEFT = "left"
    """The client left before the answer."""


class Waiter(StrEnum):
    """What waits at the gateway for a pod."""

    REQUEST = "request"
    PAGE = "page"


class ActivitySource(StrEnum):
    """What counts as activity at the gateway."""

    VISIT = "visit"
    INPUT = "input"
    CONNECTION = "connection"
    BACKGROUND = "background"
    """A program that works in the pod."""


class PageScript(StrEnum):
    """Whether the companion's script was added to a page, or why not."""

    ADDED = "added"
    POLICY = "policy"
    """The page's policy forbids a script or a WebSocket of its own origin, or both."""
    SANDBOX = "sandbox"
    """The page is in a sandbox, without scripts or without an origin: nothing that it sends could count."""
    TYPE = "type"
    """XHTML, XML or SVG."""
    CODING = "coding"
    """A content coding that the gateway did not ask for."""
    CHARSET = "charset"
    """UTF-16 or another one in which ASCII is not ASCII."""
    NO_TRANSFORM = "no_transform"
    """The pod forbids changes (`Cache-Control: no-transform`)."""
    PLACE = "place"
    """No place for it in the first 64 KB or ten seconds."""


class Slow(StrEnum):
    """What a client took too long over."""

    HEAD = "head"
    """Sending the head of a request."""
    BODY = "body"
    """Sending the rest of a body."""
    ANSWER = "answer"
    """Reading the answer, or answering a ping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What is open at the gateway."""

    connections: int
    websockets: int
    held: int
    """Requests and pages that wait for a pod."""
    queued: int = 0
    """Requests that wait for earlier ones of their session."""


class GatewayMetrics(Protocol):
    """Like ServiceMetrics, for the gateway."""

    def request_ended(self, outcome: RequestOutcome) -> None:
        """The outcome of a request is known; for a request to a pod, when the pod starts its answer."""

    def wait_ended(self, who: Waiter, seconds: float) -> None:
        """A wait for a pod has ended with an answer of the pod."""

    def activity_recorded(self, activity: ActivitySource) -> None:
        """Activity was recorded, once per session and interval."""

    def page_sent(self, script: PageScript) -> None:
        """The head of a pod's page is about to be sent to a browser."""

    def slow_client_closed(self, slow: Slow) -> None:
        """A connection was closed since its client was too slow."""

    def connection_rejected(self) -> None:
        """A connection was rejected beyond the limit."""


class ServiceMetrics(Protocol):
    """Counts and measures events. Every method returns at once and never raises. Durations are in seconds."""

    def created(self, outcome: Creation, seconds: float) -> None:
        """A create has ended, including one that found the session in place."""

    def helm_ran(self, work: HelmWork, seconds: float, *, well: bool) -> None:
        """A helm process has ended."""

    def wake_reached(self, stage: MeasuredStage, seconds: float) -> None:
        """A wake that found no pod has reached the stage, `seconds` after its push."""

    def wake_unfinished(self) -> None:
        """A wake has timed out without a ready pod."""

    def pod_lost(self) -> None:
        """A pod was removed while its queue was not empty, by KEDA's late 0 or by hand. The reconciler restores it."""

    def pod_restored(self, seconds: float) -> None:
        """A pod that was lost is wanted again, `seconds` later."""

    def expired(self, reason: ExpiryReason) -> None:
        """The service has deleted a session on its own."""

    def false_sleep(self) -> None:
        """KEDA put a session to sleep before its last activity plus cooldown, and nobody had asked for it."""


class NoMetrics:
    """Discards all metrics."""

    def created(self, outcome: Creation, seconds: float) -> None: ...
    def helm_ran(self, work: HelmWork, seconds: float, *, well: bool) -> None: ...
    def wake_reached(self, stage: MeasuredStage, seconds: float) -> None: ...
    def wake_unfinished(self) -> None: ...
    def pod_lost(self) -> None: ...
    def pod_restored(self, seconds: float) -> None: ...
    def expired(self, reason: ExpiryReason) -> None: ...
    def false_sleep(self) -> None: ...
    def request_ended(self, outcome: RequestOutcome) -> None: ...
    def wait_ended(self, who: Waiter, seconds: float) -> None: ...
    def activity_recorded(self, activity: ActivitySource) -> None: ...
    def page_sent(self, script: PageScript) -> None: ...
    def slow_client_closed(self, slow: Slow) -> None: ...
    def connection_rejected(self) -> None: ...


SILENT = NoMetrics()
