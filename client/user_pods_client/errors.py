"""What can go wrong with a call. Every exception of this package is a ClientError."""

from collections.abc import Sequence
from typing import ClassVar


class ClientError(Exception):
    """The base of all errors. Its text is a sentence for people."""


class NoAnswer(ClientError):
    """No answer came: the service cannot be reached, the connection broke, or time ran out."""


_UNKNOWN_NAME = frozenset({"NameResolutionError", "ClientConnectorDNSError"})
_NO_CONNECTION = frozenset({"NewConnectionError", "ClientConnectorError"})
"""Exceptions of urllib3 and of aiohttp."""


def no_answer(url: str, kind: str, *, late: bool, insecure: bool) -> NoAnswer:
    """The error in words, in place of an HTTP library's: its exceptions name its objects, and may hold the request
    with its token. `kind`: that exception's name."""
    if late:
        return NoAnswer(f"{url} does not answer in time")
    if insecure:
        return NoAnswer(f"the certificate of {url} is not trusted, or it does not speak TLS")
    if kind in _UNKNOWN_NAME:
        return NoAnswer(f"{url} cannot be reached: no address is known for its name")
    if kind in _NO_CONNECTION:
        return NoAnswer(f"{url} cannot be reached: nothing listens there, or no network leads to it")
    return NoAnswer(f"the connection to {url} broke")


class UnexpectedAnswer(ClientError):
    """What answered is not this service, or a version that does not fit: a redirect, no JSON, a member is missing."""


class WorkspacesAddress(UnexpectedAnswer):
    """What answers is the service's gateway, where workspaces are opened. The API has another address."""


class WaitTimeout(ClientError):
    """The session did not reach the phase in time."""


class SessionFailed(ClientError):
    """The session cannot become ready: waiting longer does not help."""

    def __init__(self, message: str, *, uuid: str, reason: str | None = None) -> None:
        """`reason`: why its pod fails, as Kubernetes says it; None if it has no pod to fail."""
        super().__init__(message)
        self.uuid = uuid
        self.reason = reason


class ServiceProblem(ClientError):
    """The service answered with a problem document (RFC 9457). There is a subclass for each type.

    A type that this version of the client does not know is a ServiceProblem itself.
    """

    slug: ClassVar[str] = ""
    """What ends the type's URI, for example `session-not-found`."""

    def __init__(
        self,
        detail: str,
        *,
        type_: str,
        status: int,
        title: str = "",
        instance: str = "",
        part: str | None = None,
        errors: Sequence[tuple[str, str]] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.type = type_
        self.status = status
        self.title = title
        self.instance = instance
        """Names the occurrence in the service's log."""
        self.part = part
        """For 503: the part of the system that fails."""
        self.errors = tuple(errors)
        """For 422: JSON pointer or parameter, and what is wrong with it."""
        self.retry_after = retry_after
        """Seconds after which the service asks to try again."""
