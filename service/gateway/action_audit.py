"""Enters in the audit what people do about their workspace at the gateway, and what a program in it does."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from service.domain.audit import DONE, Audit
from service.domain.errors import SessionError
from service.domain.names import SessionId
from service.domain.permissions import PROGRAM, Caller, CallerRole
from service.domain.wake_cause import VISIT
from service.edge.problems import status_of

_VISITOR = Caller(name=VISIT, role=CallerRole.USER)
"""Whoever has a sign-in to the workspace: its user, or whom they gave a link."""
IN_THE_POD = Caller(name=PROGRAM, role=CallerRole.USER)
"""A program in the workspace, with the rights of its user about it."""


@dataclass(slots=True)
class Entering:
    """`woke`: the action has woken a sleeping session."""

    woke: bool = False


class ActionAudit:
    """Without an `audit`, nothing is entered."""

    def __init__(self, audit: Audit | None) -> None:
        self._audit = audit

    @contextmanager
    def entering(self, operation: str, uuid: SessionId, by: Caller = _VISITOR) -> Iterator[Entering]:
        """Enter the operation, with how it ends. It is named as in the API, where that has it too."""
        entering = Entering()
        try:
            yield entering
        except SessionError as error:
            row = status_of(error)
            self._note(by, operation, uuid, row.slug, row.status)
            raise
        except Exception:
            self._note(by, operation, uuid, "internal", 500)
            raise
        self._note(by, operation, uuid, DONE, 200, woke=entering.woke)

    def _note(
        self, by: Caller, operation: str, uuid: SessionId, result: str, status: int, *, woke: bool = False
    ) -> None:
        if self._audit is not None:
            self._audit.note(by, operation, uuid=uuid, result=result, status=status, changes=True, woke=woke)
