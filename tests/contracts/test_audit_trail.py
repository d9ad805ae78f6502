"""What the domain relies on in the AuditTrail: in memory, on the Redis at hand, and on the oldest supported, 6.2."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis

from service.adapters.redis.audit_trail import RedisAuditTrail
from service.domain.audit import AuditEntry, AuditTrail
from service.domain.errors import InvalidCursor
from tests.contracts.conftest import Kept

FULL = AuditEntry(
    caller="shop", role="frontend", key="k3v09x1m2q", person="john@example.com", operation="delete", uuid="abc123xy",
    user_id="ann@example.com", result="done", status=204, repeats=3, request="request-1",
    at=datetime(2026, 3, 2, 9, 30, 0, 123000, tzinfo=UTC),
)  # fmt: skip
BARE = AuditEntry(caller="unknown", operation="other", result="unauthorized", status=401, at=FULL.at, request="-")


async def all_of(trail: AuditTrail, limit: int) -> list[AuditEntry | None]:
    """Page by page."""
    found: list[AuditEntry | None] = []
    cursor = None
    while batch := await trail.before(cursor, limit):
        assert len(batch) <= limit
        found += [entry for _, entry in batch]
        cursor = batch[-1][0]
    return found


async def test_entries_come_back_whole_newest_first_and_page_by_page(kept: Kept) -> None:
    assert await kept.audit.before(None, 10) == []
    entries = [replace(FULL, status=number) for number in range(200, 205)] + [BARE]
    for entry in entries:
        await kept.audit.append(entry)
    for limit in (1, 2, 6, 100):
        assert await all_of(kept.audit, limit) == entries[::-1]


async def test_the_oldest_entries_make_room(kept: Kept) -> None:
    for number in range(350):
        await kept.audit.append(replace(FULL, status=number))
    found = await all_of(kept.audit, 500)
    assert 100 <= len(found) <= 300
    assert found[0] == replace(FULL, status=349)


@pytest.mark.parametrize("cursor", ["", "x", "1", "1-", "-1-1", "1-1-1", "(1-1", "+", f"{2**64}-0", "\u0661-\u0661"])
async def test_a_cursor_of_somebody_else_is_refused(kept: Kept, cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        await kept.audit.before(cursor, 10)


async def test_an_entry_of_a_service_that_knew_no_users_of_sessions_can_be_read(redis_port: int) -> None:
    async with Redis(port=redis_port, decode_responses=True) as redis:
        await redis.flushall()
        stored = {
            "caller": "shop", "operation": "delete", "uuid": "abc123xy", "result": "done", "status": 204,
            "at": "2026-03-02T09:30:00.123+00:00", "request": "request-1",
        }  # fmt: skip
        await redis.xadd("user-pods:audit", {"entry": json.dumps(stored)})
        ((_, entry),) = await RedisAuditTrail(redis, kept=100).before(None, 10)
        assert entry == replace(FULL, role=None, key=None, person=None, user_id=None, repeats=0)


async def test_what_others_wrote_there_hides_no_entry(redis_port: int) -> None:
    async with Redis(port=redis_port, decode_responses=True) as redis:
        await redis.flushall()
        trail = RedisAuditTrail(redis, kept=100)
        await redis.set("user-pods:audit", "x")
        assert await trail.before(None, 10) == []
        await trail.append(FULL)
        for entry in ("{", '{"caller": 1}', b"\xff", "[]"):
            await redis.xadd("user-pods:audit", {"entry": entry})
        await redis.xadd("user-pods:audit", {"other": "x"})
        await trail.append(BARE)
        found = [entry for _, entry in await trail.before(None, 10)]
        assert found == [BARE, *[None] * 5, FULL]
