"""The metrics that parts of the service report; service/adapters/prometheus/metrics.py implements them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, Protocol

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
    """The pod answered it, once it had been waited for."""
    PAGE = "page"
    """Answered by the page that waits."""
    OWN = "own"
    """The gateway's own: a ticket traded, or news for that page."""
    ASLEEP = "asleep"
    """It came by itself, and its workspace sleeps on."""
    REFUSED = "refused"
    """By its own fault: no pass, another host's page, no such workspace."""
    BUSY = "busy"
    """Beyond a limit."""
    FAILED = "failed"
    """The workspace did not start, did not answer or went away."""
    LEFT = "left"
    """Its client went away before there was an answer."""


class Waiter(StrEnum):
    """Who waits at the gateway for a pod."""

    REQUEST = "request"
    PAGE = "page"


class Activity(StrEnum):
    """What the gateway takes for activity."""

    VISIT = "visit"
    INPUT = "input"
    CONNECTION = "connection"


class Slow(StrEnum):
    """What a client took too long over."""

    HEAD = "head"
    """To complete a request's head."""
    BODY = "body"
    """To go on with a body."""
    ANSWER = "answer"
    """To take what it was sent, or to show that it is still there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What the gateway has open."""

    connections: int
    websockets: int
    held: int
    """Requests and pages that wait for a pod."""
    queued: int = 0
    """Requests that wait for others of their session to end."""


class GatewayMetrics(Protocol):
    """A ServiceMetrics for the gateway, by the same rules."""

    def visited(self, outcome: RequestOutcome) -> None:
        """It is known what becomes of a request; one to a pod is told when the pod answers, however long that takes."""

    def waited(self, who: Waiter, seconds: float) -> None:
        """The pod that was waited for answers."""

    def noted(self, activity: Activity) -> None:
        """Activity has been written down, which is done once per session and interval."""

    def ended(self, slow: Slow) -> None:
        """A client has been ended that took too long."""

    def turned_away(self) -> None:
        """A connection was one too many."""


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
    def false_sleep(self) -> None: ...
    def visited(self, outcome: RequestOutcome) -> None: ...
    def waited(self, who: Waiter, seconds: float) -> None: ...
    def noted(self, activity: Activity) -> None: ...
    def ended(self, slow: Slow) -> None: ...
    def turned_away(self) -> None: ...


SILENT = NoMetrics()
