"""Decides which cookies a pod sees: never the gateway's own, and of the others those that `GATEWAY_COOKIES` allows.

A cookie that a frontend sets for the whole domain is sent to every workspace, and a browser does not mark such cookies.
So their names decide.
"""

import re
from collections.abc import Sequence

from service.gateway.access.cookie_header import COOKIE

WITHHELD = (
    "!__Secure-*", "!_oauth2_proxy*", "!_forward_auth*", "!authelia_session*", "!authentik_*", "!CF_Authorization",
)  # fmt: skip
"""Names under which proxies and frontends commonly keep sign-ins to a whole domain. No editor uses such names."""
_NAME = r"[!#$%&'+\-.^_`|~0-9A-Za-z]+\*?"
_OWN = re.compile(rf"(?:^|;)[ \t]*{COOKIE}[^=;]*=[^;]*")
"""The session cookie, and others of the gateway, whose names begin like it."""
_BETWEEN = "; \t"


def check(patterns: Sequence[str]) -> None:
    """Raises ValueError with a message for the operator."""
    for pattern in patterns:
        if not re.fullmatch(_NAME, pattern.removeprefix("!")):
            raise ValueError(
                f"{pattern} is not a cookie name; write names, `*` at the end for any rest, `!` to withhold"
            )
    if len({pattern.startswith("!") for pattern in patterns}) > 1:
        raise ValueError("write either the cookies that pods see, or with `!` those that they do not see, not both")


class Cookies:
    """`patterns`: names to allow, or, with `!` in front, to withhold. Empty: all but the gateway's own are allowed."""

    def __init__(self, patterns: Sequence[str] = WITHHELD) -> None:
        names = "|".join(_expression(pattern.removeprefix("!")) for pattern in patterns)
        start = rf"[ \t]*(?:{names})" if patterns and patterns[0].startswith("!") else rf"(?![ \t]*(?:{names}))"
        self._withheld = re.compile(rf"(?:^|;){start}[^;]*") if patterns else None

    def to_pod(self, lines: Sequence[str]) -> str:
        """The request's `Cookie` headers as one; empty when nothing is left."""
        return "; ".join(rest for line in lines if (rest := self._rest(line)))

    def _rest(self, line: str) -> str:
        rest = _OWN.sub("", line).strip(_BETWEEN)
        # Most often there is none but the session cookie.
        return self._withheld.sub("", rest).strip(_BETWEEN) if rest and self._withheld else rest


def _expression(pattern: str) -> str:
    # No part may match in two ways, or long cookies would cause exponential backtracking.
    if pattern.endswith("*"):
        return f"{re.escape(pattern[:-1])}[^=;]*="
    return f"{re.escape(pattern)}[ \\t]*="
