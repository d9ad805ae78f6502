"""The list of all sessions: searched, filtered, sorted, in pages. All from memory, but for the records of one page."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from service.dashboard import reasons
from service.dashboard.reasons import Group
from service.domain.errors import Unavailable
from service.domain.names import SessionId, is_session_id, is_user_id
from service.domain.phase import Phase
from service.domain.queries import SessionQueries
from service.domain.session import Session
from service.domain.session_index import IndexedSession, SessionIndex

PAGE = 50
_LONGEST = 254
"""Characters of a search: those of a user id."""
_ORDER = list(Phase)
_SORTS: Mapping[str, Callable[[IndexedSession], Any]] = {
    "user": lambda each: each.searched,
    "id": lambda each: each.uuid,
    "state": lambda each: (_ORDER.index(each.phase), each.searched),
    "created": lambda each: (each.created_at, each.uuid),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """What to show. Whatever makes no sense in an address counts as not given."""

    search: str = ""
    phase: Phase | None = None
    reason: str = ""
    sort: str = "user"
    descending: bool = False
    page: int = 1

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> "ListQuery":
        search = given.get("q", "")[:_LONGEST].strip()
        phase, reason, sort, page = (given.get(name, "") for name in ("phase", "reason", "sort", "page"))
        return cls(
            search=search.encode("utf-8", "replace").decode(),
            phase=Phase(phase) if phase in list(Phase) else None,
            reason=reason if reasons.is_name(reason) else "",
            sort=sort.removeprefix("-") if sort.removeprefix("-") in _SORTS else "user",
            descending=sort.startswith("-"),
            page=int(page) if page.isascii() and page.isdigit() and 0 < len(page) < 7 else 1,
        )

    @property
    def order(self) -> str:
        return f"-{self.sort}" if self.descending else self.sort

    def href(self, **changes: object) -> str:
        """The query of the same list with changes; it begins at its first page, unless they name another."""
        other = replace(self, **{"page": 1, **changes})  # type: ignore[arg-type]
        given = {
            "q": other.search,
            "phase": other.phase.value if other.phase else "",
            "reason": other.reason,
            "sort": other.order if other.order != "user" else "",
            "page": str(other.page) if other.page > 1 else "",
        }
        return f"?{urlencode({name: value for name, value in given.items() if value})}"

    def sorted_by(self, sort: str) -> str:
        """The query that sorts by it, or the other way around if that is how it is sorted."""
        return self.href(sort=sort, descending=self.sort == sort and not self.descending)


@dataclass(frozen=True, slots=True)
class Row:
    """`session` is None when only the cluster knows it: Redis does not answer, or a create is in progress."""

    indexed: IndexedSession
    session: Session | None

    @property
    def phase(self) -> Phase:
        return self.session.phase if self.session is not None else self.indexed.phase

    @property
    def reason(self) -> str | None:
        return (self.session.reason or self.session.warning) if self.session is not None else self.indexed.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPage:
    query: ListQuery
    rows: Sequence[Row]
    found: int
    total: int
    phases: Mapping[Phase, int]
    """How many sessions there are of each."""
    reasons: Sequence[Group]
    pages: int
    records_missing: bool
    """Redis did not answer, so the rows have only what the cluster knows."""


class SessionList:
    def __init__(self, index: SessionIndex, queries: SessionQueries) -> None:
        self._index = index
        self._queries = queries

    async def page(self, query: ListQuery) -> ListPage:
        every = self._index.sessions()
        found = sorted(filter(_filter(query), every), key=_SORTS[query.sort], reverse=query.descending)
        pages = max(1, -(-len(found) // PAGE))
        query = replace(query, page=min(query.page, pages))
        shown = found[(query.page - 1) * PAGE : query.page * PAGE]
        rows, missing = await self._rows(shown)
        if not found and query.search and not missing:
            rows = await self._of_redis(query.search)
        return ListPage(
            query=query,
            rows=rows,
            found=len(found) or len(rows),
            total=len(every),
            phases=Counter(each.phase for each in every),
            reasons=reasons.groups(each.reason for each in every if each.reason is not None),
            pages=pages,
            records_missing=missing,
        )

    async def rows(self, uuids: Sequence[SessionId]) -> Sequence[Row]:
        """The rows of those sessions that the cluster still has."""
        return (await self._rows(self._index.some(uuids)))[0]

    async def _rows(self, shown: Sequence[IndexedSession]) -> tuple[Sequence[Row], bool]:
        try:
            known = {each.record.uuid: each for each in await self._queries.sessions([each.uuid for each in shown])}
        except Unavailable:
            return [Row(each, None) for each in shown], True
        return [Row(each, known.get(each.uuid)) for each in shown], False

    async def _of_redis(self, search: str) -> Sequence[Row]:
        """The session with exactly that id or user id, of which the cluster has nothing any more."""
        uuid = SessionId(search) if is_session_id(search) else None
        if uuid is None and is_user_id(search):
            uuid = await self._queries.session_of(search)
        return [Row(_indexed(each), each) for each in await self._queries.sessions([uuid] if uuid else [])]


def _indexed(session: Session) -> IndexedSession:
    record = session.record
    return IndexedSession(
        record.uuid,
        session.user_id,
        session.phase,
        session.reason,
        record.created_at,
        awake=session.awake,
        group=session.workload.assignment.group,
        asleep_since=None,
        requests=None,
        searched="",
    )


def _filter(query: ListQuery) -> Callable[[IndexedSession], bool]:
    wanted, phase, reason = query.search.lower(), query.phase, query.reason

    def fits(each: IndexedSession) -> bool:
        return (
            wanted in each.searched
            and phase in (None, each.phase)
            and (not reason or (each.reason is not None and reasons.name_of(each.reason) == reason))
        )

    return fits
