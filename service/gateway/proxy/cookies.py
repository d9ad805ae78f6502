"""Which cookies of a request a pod gets to see: never the pass, and those that `GATEWAY_COOKIES` lets through.

A cookie that a frontend sets for the whole domain is sent to every workspace, and a browser does not say which ones are
such. So they are told by their names.
"""

import re
from collections.abc import Sequence

COOKIE = "__Host-user-pods"
"""Name of the pass. The prefix makes browsers refuse it from any other host, and from a page without TLS."""
WITHHELD = (
    "!__Secure-*", "!_oauth2_proxy*", "!_forward_auth*", "!authelia_session*", "!authentik_*", "!CF_Authorization",
)  # fmt: skip
"""Cookies by which proxies and frontends commonly sign in for a whole domain. No editor has such names."""
_NAME = r"[!#$%&'+\-.^_`|~0-9A-Za-z]+\*?"


_PASS = re.compile(rf"(?:^|;)[ \t]*{COOKIE}=[^;]*")
_BETWEEN = "; \t"


def check(patterns: Sequence[str]) -> None:
    """Raises ValueError, naming what is wrong."""
    for pattern in patterns:
        if not re.fullmatch(_NAME, pattern.removeprefix("!")):
            raise ValueError(
                f"{pattern} is no cookie's name; write names, `*` at the end for any rest, `!` to withhold"
            )
    if len({pattern.startswith("!") for pattern in patterns}) > 1:
        raise ValueError("write either the cookies that pods see, or with `!` those that they do not see, not both")


class Cookies:
    """`patterns` are names to let through, or, with `!` in front, to withhold. None: all go through but the pass."""

    def __init__(self, patterns: Sequence[str] = WITHHELD) -> None:
        names = "|".join(_expression(pattern.removeprefix("!")) for pattern in patterns)
        start = rf"[ \t]*(?:{names})" if patterns and patterns[0].startswith("!") else rf"(?![ \t]*(?:{names}))"
        self._withheld = re.compile(rf"(?:^|;){start}[^;]*") if patterns else None

    def to_pod(self, lines: Sequence[str]) -> str:
        """The request's `Cookie` lines as one; empty when nothing is left."""
        return "; ".join(rest for line in lines if (rest := self._rest(line)))

    def _rest(self, line: str) -> str:
        rest = _PASS.sub("", line).strip(_BETWEEN)
        # Most often there is none but the pass.
        return self._withheld.sub("", rest).strip(_BETWEEN) if rest and self._withheld else rest


def _expression(pattern: str) -> str:
    # Nothing in here may be matched in two ways: whoever sends long cookies would make it look at all of them.
    if pattern.endswith("*"):
        return f"{re.escape(pattern[:-1])}[^=;]*="
    return f"{re.escape(pattern)}[ \\t]*="
