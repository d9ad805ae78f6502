"""Words, times and durations as people read and write them."""

import re
from datetime import datetime, timedelta, tzinfo

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s?)?", re.ASCII)


def printable(text: str) -> str:
    """Without control characters, which could take over a terminal: some texts come from pods and users."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else " " if each.isspace() else "\N{REPLACEMENT CHARACTER}" for each in text
    )


def lines(text: str) -> str:
    """The same for a text of several lines."""
    return "\n".join(map(printable, text.split("\n")))


def is_utf8(text: str) -> bool:
    """Whether it can be sent and printed: bytes of an argument that are no UTF-8 become lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def seconds(text: str) -> int:
    """Seconds of `90`, `90s`, `30m`, `2h`, `1h30m` or `1d`. Raises ValueError."""
    found = _DURATION.fullmatch(text.strip().lower())
    if not text.strip() or found is None:
        raise ValueError("write a duration as 90s, 30m, 2h or 1h30m")
    return sum(int(number) * unit for number, unit in zip(found.groups(default="0"), _UNITS.values(), strict=True))


def duration(value: float) -> str:
    """`4.2 s`, `2 min 5 s`, `3 h 10 min`, `2 d 4 h`."""
    whole = round(value)
    if value < 10:
        return f"{value:.1f} s"
    for unit, name, below, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            rest = whole % unit // below
            return f"{whole // unit} {name}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def roughly(value: float) -> str:
    """`a minute`, `12 min`, `3 h`: for what nobody knows better."""
    minutes = round(value / 60)
    if minutes < 2:
        return "a minute"
    return f"{minutes} min" if minutes < 90 else f"{round(value / 3600)} h"


def count(number: int, noun: str) -> str:
    """`1 session`, `2 sessions`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def clock(at: datetime, now: datetime, zone: tzinfo | None) -> str:
    """The time of day, with the date if that is not today's. `zone` None: this machine's."""
    local, today = at.astimezone(zone), now.astimezone(zone).date()
    return local.strftime("%H:%M:%S" if local.date() == today else "%Y-%m-%d %H:%M:%S")


def ago(at: datetime | None, now: datetime) -> str:
    """`3 min ago`, `in 2 min`, or nothing."""
    if at is None:
        return ""
    passed = (now - at) / timedelta(seconds=1)
    rough = duration(max(1, round(abs(passed)))).removesuffix(".0 s")
    rough = rough if rough.endswith(("s", "n", "h", "d")) else f"{rough} s"
    return f"{rough} ago" if passed >= 0 else f"in {rough}"
