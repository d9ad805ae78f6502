"""The page of the audit: who has done what."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from service.domain.audit import Audit, AuditPage
from service.domain.names import is_session_id

_LINES = 50
_LONGEST = 254


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditList:
    """`uuid` and `caller` are what was searched for; empty: everything."""

    page: AuditPage
    uuid: str
    caller: str

    @property
    def older(self) -> str | None:
        """The query of the next page."""
        if self.page.cursor is None:
            return None
        given = {"uuid": self.uuid, "caller": self.caller, "cursor": self.page.cursor}
        return f"?{urlencode({name: value for name, value in given.items() if value})}"


async def read(audit: Audit, given: Mapping[str, str]) -> AuditList:
    """What makes no sense in an address counts as not given. Raises InvalidCursor."""
    uuid, by = given.get("uuid", "").strip(), given.get("caller", "").strip()[:_LONGEST]
    uuid, by = uuid if is_session_id(uuid) else "", by.encode("utf-8", "replace").decode()
    cursor = given.get("cursor") or None
    page = await audit.page(cursor=cursor, limit=_LINES, uuid=uuid or None, caller=by or None)
    return AuditList(page=page, uuid=uuid, caller=by)
