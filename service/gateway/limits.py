"""What the gateway allows."""

from dataclasses import dataclass, field
from datetime import timedelta

from service.edge.connection_limits import ConnectionLimits
from service.gateway.activity.rules import ActivityMode


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayLimits:
    """Who may enter, and how many requests may be in progress or waiting."""

    closed: bool = True
    """Every request needs a session cookie."""
    activity_mode: ActivityMode = ActivityMode.INPUT
    longest_connection: timedelta = timedelta(hours=8)
    """How long an open WebSocket counts as activity, in CONNECTION mode."""
    sleep_notice: timedelta = timedelta(seconds=60)
    """How long before a sleep the pages' companions warn."""
    stay_awake: timedelta = timedelta(hours=1)
    """What "Stay awake" in that warning gives."""
    hold_timeout: timedelta = timedelta(seconds=60)
    """How long a request waits for a pod that wakes."""
    held: int = 1000
    """Requests and pages that may wait for pods, in total."""
    held_per_session: int = 64
    """How many of them may be one session's once half of all places are taken; before, `session_requests`."""
    session_requests: int = 256
    """Requests of one session that may be in progress; there may be as many WebSockets again."""
    connection_limits: ConnectionLimits = field(default_factory=ConnectionLimits)

    @property
    def queued_requests(self) -> int:
        """Further requests of one session that may queue until others have ended, for `hold_timeout` at most."""
        return 4 * self.session_requests
