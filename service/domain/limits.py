"""What callers may ask for: idle times of their own, within bounds that the operator sets."""

from dataclasses import dataclass
from datetime import timedelta

from service.domain.errors import IdleTimesRefused
from service.domain.idle_times import IdleTimes


def in_words(time: timedelta) -> str:
    """`8 h`, `1 h 30 min`, `90 s`, `0.5 s`: as people write it."""
    seconds = time.total_seconds()
    if seconds < 60 or seconds % 60:
        return f"{seconds:g} s"
    hours, minutes = divmod(int(seconds) // 60, 60)
    return " ".join(f"{number} {unit}" for number, unit in ((hours, "h"), (minutes, "min")) if number)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedIdleTimes:
    """Idle times that the creator of a session may choose; None means the service's default."""

    lease: timedelta | None = None
    cooldown: timedelta | None = None
    poll: timedelta | None = None
    background: timedelta | None = None


NOTHING_REQUESTED = RequestedIdleTimes()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The longest times that a caller may ask for."""

    cooldown: timedelta = timedelta(hours=24)
    lease: timedelta = timedelta(hours=1)
    extension: timedelta = timedelta(hours=8)
    background: timedelta | None = None
    """None: as long as an extension."""
    sparing: timedelta = timedelta(days=30)
    """For how long a session may be kept from deletion."""

    def idle_times(self, requested: RequestedIdleTimes, default: IdleTimes) -> IdleTimes:
        """The requested times, completed by the defaults. Raises IdleTimesRefused when they are out of bounds."""
        idle_times = IdleTimes(
            lease=requested.lease or default.lease,
            cooldown=requested.cooldown or default.cooldown,
            poll=requested.poll or default.poll,
            background=default.background if requested.background is None else requested.background,
        )
        if idle_times.lease < idle_times.shortest_lease:
            least = idle_times.shortest_lease.total_seconds()
            raise IdleTimesRefused(
                f"the lease must be at least {least:g} s: twice the poll and 2 s, or KEDA could miss it"
            )
        for name, given, most in (
            ("lease", requested.lease, self.lease),
            ("cooldown", requested.cooldown, self.cooldown),
            (
                "time for background work",
                requested.background,
                self.extension if self.background is None else self.background,
            ),
        ):
            if given is not None and given > most:
                raise IdleTimesRefused(f"the {name} may be {in_words(most)} at most")
        return idle_times

    def check_sparing(self, by: timedelta) -> None:
        """Raises IdleTimesRefused."""
        if by > self.sparing:
            most = in_words(self.sparing)
            raise IdleTimesRefused(f"a session can be kept from deletion for {most} at most, from now")

    def check_extension(self, by: timedelta) -> None:
        """Raises IdleTimesRefused."""
        if by > self.extension:
            raise IdleTimesRefused(f"a session can be kept awake for {in_words(self.extension)} at most")
