"""What can only be seen from outside of the service: DNS, the certificate, clocks, and the version of this client."""

import queue
import secrets
import socket
import ssl
import string
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Literal
from urllib.parse import urlsplit

from user_pods_client import __version__
from user_pods_client.models import Diagnosis, Finding

Resolve = Callable[[str, int], set[str]]
_TIMEOUT = 10.0
"""Seconds for one look at DNS or at a certificate."""
_EXPIRES_SOON = timedelta(days=14)
_CLOCKS_APART = timedelta(seconds=15)
_EXAMPLE = "00000000"
"""The id in the URL that the service gives."""
_ID = string.ascii_lowercase + string.digits
_GUIDE = "docs/how-to/dns-and-tls.md has the steps"


def findings(
    diagnosis: Diagnosis, *, now: datetime, resolve: Resolve | None = None, trust: ssl.SSLContext | None = None
) -> Sequence[Finding]:
    """`now`: when the diagnosis arrived."""
    found = [_version(diagnosis), _clock(diagnosis, now)]
    if diagnosis.workspace_url is None:
        return [*found, _finding("dns", "gateway", "ok", "The service has no gateway, so DNS and TLS are not its own.")]
    return [*found, *_workspaces(diagnosis.workspace_url, now, resolve or addresses, trust)]


def addresses(host: str, port: int) -> set[str]:
    """The addresses of a host. Raises OSError; the resolver itself may take minutes, which nobody waits for."""
    answers: queue.SimpleQueue[set[str] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put({str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})
        except (OSError, UnicodeError) as error:
            answers.put(error if isinstance(error, OSError) else OSError(str(error)))

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=_TIMEOUT)
    except queue.Empty:
        raise OSError("no answer in time") from None
    if isinstance(answer, OSError):
        raise answer
    return answer


def _version(diagnosis: Diagnosis) -> Finding:
    if diagnosis.version == __version__:
        return _finding("version", "client", "ok", f"Client and service have the same version, {__version__}.")
    return _finding(
        "version",
        "client",
        "warning",
        f"This client has version {__version__}, the service {diagnosis.version}.",
        meaning="Commands that one of them does not know fail.",
        next_step="Install the client of the service's version: docs/how-to/command-line.md.",
    )


def _clock(diagnosis: Diagnosis, now: datetime) -> Finding:
    apart = abs(now - diagnosis.at)
    if apart < _CLOCKS_APART:
        return _finding("clock", "client", "ok", "The clocks of this machine and of the service agree.")
    return _finding(
        "clock",
        "client",
        "warning",
        f"The clocks of this machine and of the service are {apart.total_seconds():.0f} s apart.",
        meaning="Links and tokens may expire at once, and times that are shown here are wrong.",
        next_step="Synchronise both, for example by chrony; `date -u` shows this machine's time.",
    )


def _workspaces(url: str, now: datetime, resolve: Resolve, trust: ssl.SSLContext | None) -> Sequence[Finding]:
    """Whether browsers reach workspaces of any id."""
    try:
        example = urlsplit(url)
        host, port = example.hostname or "", example.port or (443 if example.scheme == "https" else 80)
    except ValueError:
        return [
            _finding(
                "dns",
                "gateway",
                "error",
                f"What the service gives as a workspace's address is none: {url}.",
                meaning="Links to workspaces lead nowhere.",
                next_step="Set GATEWAY_DOMAIN to a domain's name.",
            )
        ]
    if host.endswith("localhost"):
        return [_finding("dns", host, "ok", f"Browsers resolve {host} without DNS, to this machine.")]
    some, others = (host.replace(_EXAMPLE, _new_id(), 1) for _ in range(2))
    try:
        found = {name: resolve(name, port) for name in (some, others)}
    except OSError as error:
        return [
            _finding(
                "dns",
                host,
                "error",
                f"A workspace's name, {some}, does not resolve: {error.strerror or error}.",
                meaning="Browsers find no workspace, unless they ask another DNS server than this machine.",
                next_step=f"Point the wildcard record *.{host.partition('.')[2]} to the ingress; {_GUIDE}.",
            )
        ]
    dns = _same_place(host, found[some], found[others])
    return [dns, _certificate(some, port, now, trust)] if example.scheme == "https" else [dns]


def _same_place(host: str, some: set[str], others: set[str]) -> Finding:
    if some & others:
        return _finding("dns", host, "ok", f"Workspaces' names resolve to {', '.join(sorted(some))}.")
    return _finding(
        "dns",
        host,
        "warning",
        f"Two workspaces' names lead to different places: {', '.join(sorted(some))} and {', '.join(sorted(others))}.",
        meaning="Some browsers reach workspaces, others do not, unless a load balancer just changes its addresses.",
        next_step=f"Look for more than one wildcard record; {_GUIDE}.",
    )


def _certificate(host: str, port: int, now: datetime, trust: ssl.SSLContext | None) -> Finding:
    fails = partial(
        _finding,
        "certificate",
        "wildcard",
        "error",
        meaning="Browsers warn of the workspaces, or do not open them.",
        next_step=f"Look at the ingress and its certificate; {_GUIDE}.",
    )
    try:
        with (
            socket.create_connection((host, port), timeout=_TIMEOUT) as connection,
            (trust or ssl.create_default_context()).wrap_socket(connection, server_hostname=host) as secured,
        ):
            certificate = secured.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        return fails(f"The certificate for {host} is not valid: {error.verify_message}.")
    except OSError as error:
        return fails(f"Nothing speaks TLS at {host}:{port}: {error.strerror or error}.")
    left = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC) - now
    if left > _EXPIRES_SOON:
        return _finding("certificate", "wildcard", "ok", f"The wildcard certificate is valid for {left.days} days.")
    return _finding(
        "certificate",
        "wildcard",
        "warning",
        f"The certificate of the workspaces expires in {left.days} days.",
        meaning="From then on browsers refuse to open workspaces.",
        next_step=f"Renew it: `kubectl get certificate` shows what cert-manager says; {_GUIDE}.",
    )


def _new_id() -> str:
    return "".join(secrets.choice(_ID) for _ in range(len(_EXAMPLE)))


def _finding(
    check: str,
    subject: str,
    severity: Literal["ok", "warning", "error"],
    what: str,
    *,
    meaning: str = "",
    next_step: str = "",
) -> Finding:
    return Finding(
        check=check,
        subject=subject,
        severity=severity,
        what=what,
        meaning=meaning,
        next_step=next_step,
        fixable=False,
    )
