"""The cookies of the gateway's own domain."""

import re

from aiohttp import hdrs, web

USER = "__Host-user-pods-user"
"""The signed-in user."""
_ATTEMPT = "__Host-user-pods-attempt-"
_STATE = re.compile("[A-Za-z0-9_-]{43}")


def attempt_name(state: str) -> str | None:
    """The name of one attempt's cookie, so that several tabs can sign in at once; None for what is no state."""
    return f"{_ATTEMPT}{state[:8]}" if _STATE.fullmatch(state) else None


def read(request: web.BaseRequest, name: str) -> str:
    """The cookie's value; empty when there is none, or more than one."""
    found = [
        value
        for line in request.headers.getall(hdrs.COOKIE, ())
        for each, _, value in (part.strip().partition("=") for part in line.split(";"))
        if each == name
    ]
    return found[0] if len(found) == 1 else ""


def add(response: web.StreamResponse, name: str, value: str, seconds: int) -> None:
    """Let the response set the cookie, or remove it when `seconds` is 0."""
    cookie = f"{name}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax"
    response.headers.add(hdrs.SET_COOKIE, cookie)
