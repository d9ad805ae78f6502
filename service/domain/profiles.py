"""Profiles: sets of chart values that an operator defines and a caller chooses by name."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from service.domain.errors import SessionBroken, UnknownProfile
from service.domain.idle_times import IdleTimes
from service.domain.limits import Limits
from service.domain.permissions import CallerRole


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """`values` are chart values of its sessions, above the common ones."""

    name: str
    description: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    roles: frozenset[CallerRole] = frozenset(CallerRole)
    """Who may choose it."""
    cooldown: timedelta | None = None
    """The longest cooldown of its sessions; None: as for all sessions."""
    background: timedelta | None = None
    """The longest time for which a working program may keep its sessions awake; None: as for all sessions."""

    def limits(self, general: Limits) -> Limits:
        """What a creator of one of its sessions may ask for."""
        return replace(
            general,
            cooldown=general.cooldown if self.cooldown is None else min(self.cooldown, general.cooldown),
            background=general.background if self.background is None else self.background,
        )

    def idle_times(self, general: IdleTimes) -> IdleTimes:
        """The idle times of a session whose creator asks for none."""
        return replace(
            general,
            cooldown=general.cooldown if self.cooldown is None else min(self.cooldown, general.cooldown),
            background=general.background if self.background is None else min(self.background, general.background),
        )


class Profiles:
    """All profiles by name. `default`: that of a session whose creator chooses none; None: the common values alone."""

    def __init__(self, profiles: Iterable[Profile] = (), *, default: str | None = None) -> None:
        """Raises ValueError when there is no default profile of that name."""
        self._by_name = {profile.name: profile for profile in profiles}
        if default is not None and default not in self._by_name:
            raise ValueError(f"there is no profile {default}; {_listed(self._by_name)}")
        self.default = default

    def __iter__(self) -> Iterator[Profile]:
        return iter(self._by_name.values())

    def choosable(self, role: CallerRole) -> Sequence[Profile]:
        """The profiles that a caller with that role may choose."""
        return [profile for profile in self._by_name.values() if role in profile.roles]

    def check_choice(self, name: str | None, role: CallerRole) -> None:
        """Raises UnknownProfile, also for a profile that is not for that role."""
        allowed = [profile.name for profile in self.choosable(role)]
        if name is not None and name not in allowed:
            raise UnknownProfile(f"there is no such profile for you; {_listed(allowed)}")

    def find(self, name: str | None) -> Profile | None:
        """The profile of that name; None without a name. Raises SessionBroken when it is no longer defined."""
        if name is None:
            return None
        found = self._by_name.get(name)
        if found is None:
            raise SessionBroken(
                f"the session's profile {name!r:.70} is no longer defined; an operator must define it again (PROFILES),"
                " or change the label user-pods/profile of the session's Deployment"
            )
        return found

    def has(self, name: str | None) -> bool:
        return name in self._by_name


NO_PROFILES = Profiles()


def _listed(names: Iterable[str]) -> str:
    found = sorted(names)
    return f"there are: {', '.join(found)}" if found else "none is defined"
