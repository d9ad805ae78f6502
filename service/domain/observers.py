"""Observers of wakes and of the reconciler's steps, passed to the constructors of the parts that notify them.

Observers are called in the event loop's thread and must return at once. One that fails must harm neither the wake nor
the others, so each is called by `isolated`.
"""

import logging
from collections.abc import Callable
from typing import ParamSpec, Protocol

from service.domain.lifecycle import Step
from service.domain.names import SessionId

log = logging.getLogger(__name__)

P = ParamSpec("P")


class WakeObserver(Protocol):
    def on_wake(self, uuid: SessionId) -> None:
        """This replica has pushed a wake to the session's queue."""


class StepObserver(Protocol):
    def on_step_started(self, uuid: SessionId, step: Step) -> None:
        """The reconciler is about to carry out the step."""

    def on_step_done(self, uuid: SessionId, step: Step) -> None:
        """The reconciler has carried out the step; a step that fails is started again later instead."""


def isolated(observe: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """Call an observer; a failure is logged and goes no further."""
    try:
        observe(*args, **kwargs)
    except Exception:
        log.exception("an observer failed")
