"""A session's Helm release."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ReleaseState(StrEnum):
    """Helm's own status of a release's last revision."""

    UNKNOWN = "unknown"
    DEPLOYED = "deployed"
    UNINSTALLED = "uninstalled"
    SUPERSEDED = "superseded"
    FAILED = "failed"
    UNINSTALLING = "uninstalling"
    PENDING_INSTALL = "pending-install"
    PENDING_UPGRADE = "pending-upgrade"
    PENDING_ROLLBACK = "pending-rollback"


@dataclass(frozen=True, slots=True)
class Release:
    """The newest revision of a Helm release, read from the labels of its Secret."""

    name: str
    revision: int
    state: ReleaseState
    modified_at: datetime

    @property
    def unfinished(self) -> bool:
        """The release was never installed completely, or is half removed: helm can only uninstall it."""
        return self.state in (ReleaseState.PENDING_INSTALL, ReleaseState.UNINSTALLING) or (
            self.state is ReleaseState.FAILED and self.revision == 1
        )

    @property
    def transient(self) -> bool:
        """Some helm process is working on the release, or died while it was."""
        return self.state in (
            ReleaseState.PENDING_INSTALL,
            ReleaseState.PENDING_UPGRADE,
            ReleaseState.PENDING_ROLLBACK,
            ReleaseState.UNINSTALLING,
        )
