"""Completes sessions of which a part is missing, as their users' next creates would."""

from service.domain.errors import IdTaken, SessionBroken
from service.domain.names import SessionId
from service.domain.ports import Store
from service.domain.provisioning import Provisioner
from service.domain.session import Session

UNKNOWN_USER = "unknown"
"""The user of a session whose record and objects do not say who that is."""

_TAKEN = "the session's id belongs to another user by now"


class Repairs:
    def __init__(self, provisioner: Provisioner, store: Store) -> None:
        self._provisioner = provisioner
        self._store = store

    async def complete(self, session: Session) -> None:
        """Complete a session that has a record. Raises SessionBusy while another process works on it."""
        await self._finish(session.record.uuid, session.user_id)

    async def adopt(self, uuid: SessionId, user_id: str) -> None:
        """Give the session its record again. Raises SessionBroken if the user has another session."""
        try:
            if await self._store.claim(user_id, uuid) != uuid:
                raise SessionBroken("the user has another session, so this one stays as it is")
        except IdTaken as taken:
            raise SessionBroken(_TAKEN) from taken
        await self._finish(uuid, user_id)

    async def _finish(self, uuid: SessionId, user_id: str) -> None:
        try:
            await self._provisioner.finish(uuid, user_id, wait=False)
        except IdTaken as taken:
            raise SessionBroken(_TAKEN) from taken
