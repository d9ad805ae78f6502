"""The phases of a session's pod."""

from enum import StrEnum


class Phase(StrEnum):
    """Life of the session's pod."""

    ASLEEP = "asleep"
    WAKING = "waking"
    READY = "ready"
    FAILED = "failed"
    DELETING = "deleting"
    RELEASED = "released"
    """There is no release, and so no pod."""
