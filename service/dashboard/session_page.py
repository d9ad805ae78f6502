"""What the page of one session shows."""

from dataclasses import dataclass

from service.domain.history import Entry
from service.domain.names import SessionId
from service.domain.queries import SessionQueries
from service.domain.session import Session
from service.gateway.workspace_page.view import View, view


@dataclass(frozen=True, slots=True)
class SessionPage:
    """`view` is the same as on the workspace's own page, `/.user-pods/`."""

    session: Session
    view: View


async def read(queries: SessionQueries, uuid: SessionId, *, longest_extension: float) -> SessionPage:
    """Raises SessionNotFound, and as SessionQueries does."""
    session = await queries.status(uuid)
    history: list[Entry] = list(await queries.history(uuid))
    return SessionPage(session, view(session, history, longest_extension=longest_extension))
