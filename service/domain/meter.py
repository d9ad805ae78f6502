"""What is worth measuring, named for the events of the field; service/adapters/metrics.py counts them."""

from enum import StrEnum
from typing import Protocol


class Creation(StrEnum):
    """How a create ended."""

    INSTALLED = "installed"
    PRESENT = "present"
    """The session was there already."""
    FAILED = "failed"
    """Refused for lack of a slot, or stopped by an error."""


class HelmWork(StrEnum):
    INSTALL = "install"
    UNINSTALL = "uninstall"


class Stage(StrEnum):
    """How far a wake has come; each is measured from its push."""

    SCALED = "scaled"
    """The Deployment wants a pod."""
    UNPARKED = "unparked"
    SCHEDULED = "scheduled"
    STARTED = "started"
    READY = "ready"
    SETTLED = "settled"
    """KEDA has taken the wake over."""


class Meter(Protocol):
    """Told of events as they happen; every method returns at once and never raises. Durations are in seconds."""

    def created(self, outcome: Creation, seconds: float) -> None:
        """A create has ended, those that found the session in place included."""

    def helm_ran(self, work: HelmWork, seconds: float, *, well: bool) -> None:
        """helm has worked on one session."""

    def woken(self, stage: Stage, seconds: float) -> None:
        """A wake that found no pod has come to this stage."""

    def unfinished(self) -> None:
        """A wake has not led to a ready pod for so long that nobody waits for it any more."""

    def felled(self) -> None:
        """A pod was taken away while its queue was not empty (KEDA's late 0); the keeper brings it back."""

    def healed(self, seconds: float) -> None:
        """A pod that was taken away so is wanted again."""

    def slept_early(self) -> None:
        """KEDA has sent a session to sleep before its last activity plus cooldown: a false sleep."""


class Silent:
    """A Meter that does nothing."""

    def created(self, outcome: Creation, seconds: float) -> None: ...
    def helm_ran(self, work: HelmWork, seconds: float, *, well: bool) -> None: ...
    def woken(self, stage: Stage, seconds: float) -> None: ...
    def unfinished(self) -> None: ...
    def felled(self) -> None: ...
    def healed(self, seconds: float) -> None: ...
    def slept_early(self) -> None: ...


SILENT = Silent()
