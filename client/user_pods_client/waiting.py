"""Waits until a session has reached a phase, without the asking."""

import time
from typing import Literal

from user_pods_client.errors import SessionFailed, WaitTimeout
from user_pods_client.models import Status

Goal = Literal["ready", "asleep", "deleted"]


class Waiting:
    """Judges one status after another. `timeout` in seconds."""

    def __init__(self, uuid: str, goal: Goal, timeout: float) -> None:
        self._uuid = uuid
        self._goal = goal
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._delay = 0.2

    def is_reached(self, status: Status | None) -> bool:
        """Whether the session is where it shall be; None: there is no such session any more.

        Raises SessionFailed when waiting is in vain.
        """
        if status is None:
            return self._goal == "deleted"
        if self._goal == "ready" and status.phase in ("deleting", "released"):
            raise SessionFailed(f"session {self._uuid} is {status.phase} and does not become ready", uuid=self._uuid)
        if self._goal == "ready" and status.phase == "failed" and status.final:
            reason = status.reason or "the reason is not known"
            raise SessionFailed(f"session {self._uuid} has failed: {reason}", uuid=self._uuid, reason=reason)
        return status.phase == self._goal

    def delay(self, status: Status | None) -> float:
        """Seconds until the next look. Raises WaitTimeout after the deadline."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            now = f"{status.phase}{f' ({status.reason})' if status.reason else ''}" if status else "gone"
            raise WaitTimeout(f"session {self._uuid} is not {self._goal} after {self._timeout:g} s; it is {now}")
        delay, self._delay = self._delay, min(self._delay * 1.5, 1.0)
        return min(delay, left)
