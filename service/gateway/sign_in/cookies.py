"""The cookies of the gateway's own domain."""

import re
from collections.abc import Iterator, Sequence

from aiohttp import hdrs, web

USER = "__Host-user-pods-user"
"""The signed-in user."""
CHOOSE = "__Host-user-pods-choose"
"""The user has signed out, and the provider does not know: the next sign-in lets them choose an account."""
CHOOSE_SECONDS = 30 * 86_400
ASKED = "__Host-user-pods-asked"
"""The page that was asked for, for the sign-in after a sign-out: a provider leads back to one address only."""
ASKED_SECONDS = 600
_ATTEMPT = "__Host-user-pods-attempt-"
ATTEMPT_SECONDS = 3600
"""Longer than an attempt is valid: it still knows which page was asked for."""
_MOST_ATTEMPTS = 5
_MOST_BYTES = 5000
"""Of all attempts together: proxies accept headers of 8 KB, or less."""
_STATE = re.compile("[A-Za-z0-9_-]{43}")
_UNTIL = re.compile("[0-9]{1,11}")


def attempt_name(state: str) -> str | None:
    """The name of one attempt's cookie, so that several tabs can sign in at once; None for what is no state."""
    return f"{_ATTEMPT}{state[:8]}" if _STATE.fullmatch(state) else None


def read(request: web.BaseRequest, name: str) -> str:
    """The cookie's value; empty when there is none, or more than one."""
    found = [value for each, value in _all(request) if each == name]
    return found[0] if len(found) == 1 else ""


def surplus_attempts(request: web.BaseRequest, added: str) -> Sequence[str]:
    """The names of the attempts that make room for another one of that value: the oldest."""
    # Browsers send the oldest first, which decides within a second.
    attempts = sorted(_attempts(request).items(), key=lambda each: _until(each[1]))
    surplus, size = [], len(added)
    for newer, (name, value) in enumerate(reversed(attempts), 1):
        size += len(value)
        if newer >= _MOST_ATTEMPTS or size > _MOST_BYTES:
            surplus.append(name)
    return surplus


def add(response: web.StreamResponse, name: str, value: str, seconds: int) -> None:
    """Let the response set the cookie, or remove it when `seconds` is 0."""
    cookie = f"{name}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax"
    response.headers.add(hdrs.SET_COOKIE, cookie)


def _attempts(request: web.BaseRequest) -> dict[str, str]:
    """Only with names that `attempt_name` makes: they go into the response."""
    return {name: value for name, value in _all(request) if re.fullmatch(_ATTEMPT + "[A-Za-z0-9_-]{8}", name)}


def _until(value: str) -> int:
    """When the attempt ends, by its own word."""
    found = _UNTIL.match(value)
    return int(found[0]) if found else 0


def _all(request: web.BaseRequest) -> Iterator[tuple[str, str]]:
    for line in request.headers.getall(hdrs.COOKIE, ()):
        for part in line.split(";"):
            # No other space, which `strip` alone would remove: with one before the name, browsers take the prefix for a
            # part of any name, and keep the cookie for every host of the domain.
            name, _, value = part.strip(" \t").partition("=")
            yield name, value
