"""Follows the events of a session over many connections, without the sending."""

import json
import math
import random
import time

from user_pods_client.call import Answer, Call, error_of
from user_pods_client.calls import events
from user_pods_client.decoding import decode
from user_pods_client.errors import NoAnswer, ServiceProblem, UnexpectedAnswer, WaitTimeout
from user_pods_client.event_stream import EventParser
from user_pods_client.models import ProgressEvent

SILENCE = 45.0
"""Seconds without a byte after which a stream is taken for dead: three of the service's heartbeats."""
_POLL = 2.0
"""Seconds between two looks for the next wake."""
_TRANSIENT = frozenset({429, 502, 503, 504})
_MOST_FAILURES = 10
"""In a row. With the back-off, about two minutes."""


class Following:
    """The state between two connections: what was seen, and how long to wait.

    `follow`: go on after the end of a wake, with the next one. `timeout`: seconds after which it is given up, at the
    next byte or silence.
    """

    def __init__(self, uuid: str, *, follow: bool, timeout: float | None = None) -> None:
        self._uuid = uuid
        self._timeout = timeout
        self._deadline = math.inf if timeout is None else time.monotonic() + timeout
        self._follow = follow
        self._parser = EventParser()
        self._last_id: str | None = None
        self._last_phase: str | None = None
        self._failures = 0
        self._outcome: Answer | NoAnswer = NoAnswer("no connection has been tried")
        self.is_over = False
        """Whether the current stream has said its last event."""

    def call(self) -> Call[str]:
        """The next connection."""
        self._parser = EventParser()
        self.is_over = False
        return events(self._uuid, last_event_id=self._last_id)

    @property
    def silence(self) -> float:
        """Seconds without a byte after which the connection is given up."""
        return max(0.01, min(SILENCE, self._deadline - time.monotonic()))

    def feed(self, piece: bytes) -> list[ProgressEvent]:
        """The events that a piece of the stream completes."""
        found = []
        self._failures = 0
        for sent in self._parser.feed(piece):
            event = _event(sent.data)
            self.is_over = sent.id is None or _is_last(event)
            # Without a known wake, each connection gives the same phase again.
            if sent.id is not None or event.phase != self._last_phase:
                found.append(event)
            self._last_id, self._last_phase = sent.id or self._last_id, event.phase
            if self.is_over:
                break
        if not found:
            self._check_deadline()
        return found

    def end(self, outcome: Answer | NoAnswer) -> None:
        """A connection was refused, or has ended or broken."""
        self._outcome = outcome

    def delay(self) -> float | None:
        """Seconds until the next connection; None: all is said. Raises the error that ends the following."""
        outcome = self._outcome
        if self.is_over or (isinstance(outcome, Answer) and outcome.status == 204):
            return self._poll()
        self._check_deadline()
        if isinstance(outcome, NoAnswer):
            return self._delay_after_failure(outcome, None)
        if outcome.status == 200:
            # A replica that shuts down ends its streams: the next one continues.
            return self._delay_after_failure(NoAnswer("the stream of events ends again and again"), None)
        error = error_of(outcome)
        if not isinstance(error, ServiceProblem) or outcome.status not in _TRANSIENT:
            raise error
        return self._delay_after_failure(error, error.retry_after)

    def _poll(self) -> float | None:
        if not self._follow:
            return None
        self._check_deadline()
        return _POLL

    def _check_deadline(self) -> None:
        if time.monotonic() > self._deadline:
            raise WaitTimeout(f"the wake of session {self._uuid} is not over after {self._timeout:g} s")

    def _delay_after_failure(self, error: NoAnswer | ServiceProblem, asked: float | None) -> float:
        self._failures += 1
        if self._failures > _MOST_FAILURES:
            raise error
        spread = random.uniform(0.5, 1.5)  # noqa: S311 - no secret
        return max(asked or 0.0, spread * min(0.125 * float(2**self._failures), 15.0))


def _event(data: str) -> ProgressEvent:
    try:
        return decode(ProgressEvent, json.loads(data), "an event")
    except (ValueError, RecursionError):
        raise UnexpectedAnswer("the stream of events is not the service's: an event is no JSON") from None


def _is_last(event: ProgressEvent) -> bool:
    return event.phase in ("ready", "asleep") or (event.phase == "failed" and event.final)
