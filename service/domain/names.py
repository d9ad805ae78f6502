"""The one place that makes the names which callers, operators and other programs rely on.

The longest, ``user-<uuid>-scaler``, has 20 characters: far below helm's limit of 53 for a release and DNS's 63.
"""

import hashlib
import re
import secrets
import string
from typing import NewType

from service.domain.errors import SessionNotFound

SessionId = NewType("SessionId", str)
"""8 characters out of a-z and 0-9, which are 41 bits: among 10,000 ids, two collide with a probability of 0.002 %."""

SESSION_ID_PATTERN = "[a-z0-9]{8}"
EXAMPLE_ID = SessionId("00000000")
"""An id for trials, which belongs to nobody."""
USER_ID_PATTERN = "[!-~]{1,254}"
"""Printable ASCII without spaces: safe in a header, a log line, an annotation and a terminal."""

GROUP_PATTERN = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
"""A DNS label, as the names of profiles are."""

HOST_PREFIX = "vs-code-"
CHART_NAME = "user-pod"
FIELD_MANAGER = "user-pods"
"""The service's field manager, which distinguishes its changes of objects from those of others."""
CONTAINER = "workspace"
"""The name of the user's container in the chart; a reservation must use it too (docs/decisions/0002-replicas.md)."""

UUID_LABEL = "uuid"
USER_ANNOTATION = "user-pods/user-id"
USER_HASH_LABEL = "user-pods/user-hash"
"""An e-mail address is not a valid label value, so the label has a hash and the annotation the address."""
PROFILE_LABEL = "user-pods/profile"
"""On the Deployment and the volume: the name of the session's profile."""
IDLE_TIMES_ANNOTATION = "user-pods/idle-times"
"""On the Deployment: the idle times that the session was created with, for a repair of its ScaledObject."""
REVISION_ANNOTATION = "user-pods/revision"
"""On the Deployment: the chart and the chart values that the release was made from. Rendered by the chart."""
GROUP_LABEL = "user-pods/group"
"""On the Deployment and the volume: the group whose quota the session counts for."""
LEASE_ANNOTATION = "user-pods/lease"
"""On the ScaledObject, beside KEDA's own times: seconds that one wake keeps the queue non-empty."""

BACKGROUND_ANNOTATION = "user-pods/background"
"""On the ScaledObject: seconds after the last activity for which a working program may keep the pod awake."""
PARKED_ANNOTATION = "user-pods/parked"
"""On the ScaledObject, beside KEDA's `paused`: the service has set `paused`, not an operator."""

REVOKED_ANNOTATION = "user-pods/revoked-at"
"""On the Deployment: sign-ins to the workspace from before this time are refused. The chart never renders it."""

_ALPHABET = string.ascii_lowercase + string.digits
_SESSION_ID = re.compile(SESSION_ID_PATTERN)
_USER_ID = re.compile(USER_ID_PATTERN)
_DNS_LABEL = re.compile(GROUP_PATTERN)


def new_session_id() -> SessionId:
    return SessionId("".join(secrets.choice(_ALPHABET) for _ in range(8)))


def parse_session_id(text: str) -> SessionId:
    """Return `text` as an id. Raises SessionNotFound when it is malformed, since no session can have it."""
    if not _SESSION_ID.fullmatch(text):
        raise SessionNotFound
    return SessionId(text)


def is_session_id(text: str) -> bool:
    """Whether the text is a well-formed id. Anybody may write a key that begins like ours."""
    return _SESSION_ID.fullmatch(text) is not None


def is_user_id(text: str) -> bool:
    return _USER_ID.fullmatch(text) is not None


def is_dns_label(text: str) -> bool:
    return _DNS_LABEL.fullmatch(text) is not None


def release_name(uuid: SessionId) -> str:
    """The name of the Helm release, the Deployment and the Service."""
    return f"user-{uuid}"


def scaler_name(uuid: SessionId) -> str:
    return f"user-{uuid}-scaler"


def autoscaler_name(uuid: SessionId) -> str:
    """The HorizontalPodAutoscaler that KEDA makes while it polls the session's queue."""
    return f"keda-hpa-{scaler_name(uuid)}"


def session_key(uuid: SessionId) -> str:
    return f"session:{uuid}"


def queue_key(uuid: SessionId) -> str:
    return f"queue:{uuid}"


def public_host(uuid: SessionId, domain: str, prefix: str = HOST_PREFIX) -> str:
    return f"{prefix}{uuid}.{domain}"


def user_hash(user_id: str) -> str:
    """40 hexadecimal digits (160 bits) of SHA-256; the chart computes the same (`sha256sum | trunc 40`)."""
    return hashlib.sha256(user_id.encode()).hexdigest()[:40]


def selector_labels(uuid: SessionId) -> dict[str, str]:
    """The Deployment's immutable selector, as the chart renders it."""
    return {"app.kubernetes.io/name": CHART_NAME, "app.kubernetes.io/instance": release_name(uuid)}
