"""What the page of one session shows."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.dashboard import actions
from service.dashboard.actions import Action
from service.domain.names import SessionId
from service.domain.phase import Phase
from service.domain.progress import Event, Stage
from service.domain.session import Session
from service.gateway.workspace_page.view import View, view
from service.web.keys import ApiParts

_SHOWN = frozenset(Stage) - {Stage.WARNING, Stage.FAILED, Stage.ASLEEP}


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPage:
    """`view` is the same as on the workspace's own page, `/.user-pods/`."""

    session: Session
    view: View
    wake: Sequence[Event]
    """The stages that the wake in progress has reached."""
    actions: Sequence[Action]
    outdated: bool
    """Whether its release lacks the chart or chart values that new ones get."""


async def read(parts: ApiParts, uuid: SessionId) -> SessionPage:
    """Raises SessionNotFound, and as SessionQueries does."""
    session = await parts.queries.status(uuid)
    history = await parts.queries.history(uuid)
    wake = await parts.progress.events(uuid) if session.phase is Phase.WAKING else ()
    longest = parts.activity.longest_extension
    return SessionPage(
        session=session,
        view=view(session, history, longest_extension=longest.total_seconds()),
        wake=[event for event in wake if event.stage in _SHOWN],
        actions=actions.offered(session, opens=parts.access is not None),
        outdated=parts.upgrades.is_outdated(session.workload),
    )
