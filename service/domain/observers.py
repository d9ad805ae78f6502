"""Observers of wakes and of the reconciler's steps, passed to the constructors of the parts that notify them.

Observers are called in the event loop's thread, must return at once and must not raise.
"""

from typing import Protocol

from service.domain.lifecycle import Step
from service.domain.names import SessionId


class WakeObserver(Protocol):
    def on_wake(self, uuid: SessionId) -> None:
        """This replica has pushed a wake to the session's queue."""


class StepObserver(Protocol):
    def on_step_started(self, uuid: SessionId, step: Step) -> None:
        """The reconciler is about to carry out the step."""

    def on_step_done(self, uuid: SessionId, step: Step) -> None:
        """The reconciler has carried out the step; a step that fails is started again later instead."""
