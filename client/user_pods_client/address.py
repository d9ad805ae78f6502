"""Where the service is, and the token that goes there and nowhere else."""

import re
from urllib.parse import urlsplit


class Token:
    """A bearer token: a key or an OpenID Connect token. Its repr, and so a log or a traceback, does not show it.

    Raises ValueError for what no header can hold; the message does not repeat the token.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: str) -> None:
        if not re.fullmatch(r"[!-~]+", secret):
            raise ValueError("a token consists of printable ASCII characters, without spaces or line ends")
        self._secret = secret

    def header(self) -> str:
        """The value of `Authorization`."""
        return f"Bearer {self._secret}"

    def __repr__(self) -> str:
        return "Token(...)"


def base_url(url: str) -> str:
    """The service's address without a trailing slash. Raises ValueError for anything but `http(s)://host[:port][/path]`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or not re.fullmatch(r"[!-~]+", url):
        raise ValueError("the address of the service looks like https://pods.example.com")
    if "@" in parts.netloc:
        raise ValueError("leave user and password out of the address; a key goes into the token")
    if parts.query or parts.fragment:
        raise ValueError("the address of the service has no query and no fragment")
    return url.rstrip("/")
