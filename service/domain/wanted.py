"""What the creator of a session asks for."""

from dataclasses import dataclass

from service.domain.limits import NOTHING_REQUESTED, RequestedIdleTimes


@dataclass(frozen=True, slots=True)
class Wanted:
    """It is stored with the claim, so that whoever finishes an interrupted create knows it."""

    idle_times: RequestedIdleTimes = NOTHING_REQUESTED
    profile: str | None = None
    group: str | None = None


NOTHING_WANTED = Wanted()
