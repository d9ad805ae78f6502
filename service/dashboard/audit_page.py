"""The page of the audit: who has done what."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from service.domain.audit import EVERY_ENTRY, Audit, AuditFilter, AuditPage

_LINES = 50
_LONGEST = 254
_SEARCHES = ("q", "uuid", "caller")
"""What an address may search for; the last two are in bookmarks of earlier pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditList:
    """`search` is the caller, session or user that was searched for; empty: everything."""

    page: AuditPage
    search: str

    @property
    def older(self) -> str | None:
        """The query of the next page."""
        if self.page.cursor is None:
            return None
        given = {"q": self.search, "cursor": self.page.cursor}
        return f"?{urlencode({name: value for name, value in given.items() if value})}"


async def read(audit: Audit, given: Mapping[str, str]) -> AuditList:
    """What makes no sense in an address counts as not given. Raises InvalidCursor."""
    search = next((text for name in _SEARCHES if (text := given.get(name, "").strip()[:_LONGEST])), "")
    search = search.encode("utf-8", "replace").decode()
    chosen = AuditFilter(text=search) if search else EVERY_ENTRY
    return AuditList(
        page=await audit.page(cursor=given.get("cursor") or None, limit=_LINES, chosen=chosen), search=search
    )
