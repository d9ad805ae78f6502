"""When sessions are deleted without a request: some time after their creation, or after they were last awake.

No session is deleted without a warning. The warning is stored first, and the deletion waits from then on: also if an
operator sets a limit that old sessions have exceeded already, or Redis has lost everything.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class ExpiryReason(StrEnum):
    LIFETIME = "lifetime"
    """It was created `SESSION_LIFETIME` ago."""
    DORMANCY = "dormancy"
    """It was last awake `SESSION_DORMANCY` ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpiryWarning:
    """What the user of a session has been told."""

    at: datetime
    """Since when."""
    due: datetime
    """When it will be deleted, at the earliest."""
    reason: ExpiryReason


@dataclass(frozen=True, slots=True)
class Expiry:
    """`at`: when the session is deleted if nothing changes; `warn_at`: from when on its user is warned.

    `warning`: the stored one, if it announces this deletion. Without one, `at` is the earliest time that is possible.
    """

    at: datetime
    warn_at: datetime
    reason: ExpiryReason
    warning: ExpiryWarning | None = None


@dataclass(frozen=True, slots=True)
class Expired:
    """What a deletion relies on, and checks once more in its last step."""

    warning: ExpiryWarning
    """It must still be the stored one."""
    idle_since: datetime | None
    """Nobody has used it since. None: that does not matter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpiryRule:
    """How long sessions live, and how long they may sleep; None: for ever. `warning`: before a deletion, at least."""

    lifetime: timedelta | None = None
    dormancy: timedelta | None = None
    warning: timedelta = timedelta(days=3)

    def __bool__(self) -> bool:
        return self.lifetime is not None or self.dormancy is not None

    def expiry(
        self,
        now: datetime,
        *,
        created_at: datetime,
        last_awake: datetime | None,
        spared_until: datetime | None,
        warning: ExpiryWarning | None,
    ) -> Expiry | None:
        """`last_awake` is None while the session is awake. Returns None for a session that stays."""
        try:
            ends = self._ends(created_at, last_awake)
            if not ends:
                return None
            end, reason = min(ends)
            end = max(end, spared_until or end)
            warn_at = end - self.warning
            if warning is not None and not _announces(warning, reason, last_awake):
                warning = None
            return Expiry(self._due(now, end, warning), warn_at, reason, warning)
        except OverflowError:
            return None  # a time beyond the end of the calendar

    def warn(self, now: datetime, expiry: Expiry) -> ExpiryWarning:
        """The warning of that deletion, as of now: whatever was said before does not count."""
        return ExpiryWarning(at=now, due=self._due(now, expiry.warn_at + self.warning, None), reason=expiry.reason)

    def _ends(self, created_at: datetime, last_awake: datetime | None) -> list[tuple[datetime, ExpiryReason]]:
        ends = []
        if self.lifetime is not None:
            ends.append((created_at + self.lifetime, ExpiryReason.LIFETIME))
        if self.dormancy is not None and last_awake is not None:
            ends.append((last_awake + self.dormancy, ExpiryReason.DORMANCY))
        return ends

    def _due(self, now: datetime, end: datetime, warning: ExpiryWarning | None) -> datetime:
        """Never before the whole time of the warning, nor before what the user was told."""
        if warning is None:
            return max(end, now + self.warning)
        return max(end, warning.at + self.warning, warning.due)


def _announces(warning: ExpiryWarning, reason: ExpiryReason, last_awake: datetime | None) -> bool:
    """A use of the session makes a warning of its dormancy void."""
    used = reason is ExpiryReason.DORMANCY and last_awake is not None and last_awake > warning.at
    return warning.reason is reason and not used


NEVER = ExpiryRule()
