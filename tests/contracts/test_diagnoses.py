"""What the domain relies on in the Diagnoses: in memory, on the Redis at hand, and on the oldest supported, 6.2."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis

from service.adapters.redis.diagnoses import RedisDiagnoses
from service.domain.diagnosis.finding import Diagnosis, Finding, Severity
from service.domain.diagnosis.ports import KeptDiagnoses
from tests.contracts.conftest import Kept

AT = datetime(2026, 3, 2, 9, 30, 0, 123000, tzinfo=UTC)
FAULT = Finding(
    check="pods",
    subject="1e234567",
    severity=Severity.ERROR,
    what='It says "no" - ü \x00\u202e',
    meaning="Its user waits.",
    next_step="`user-pods why 1e234567`",
    fixable=True,
)
FINE = replace(FAULT, check="parts", severity=Severity.OK, meaning="", next_step="", fixable=False)
ONE, OTHER = Diagnosis(AT, (FAULT, FINE)), Diagnosis(AT + timedelta(hours=1), ())
KEY = "user-pods:diagnosis"


async def test_a_diagnosis_comes_back_whole_and_the_next_replaces_it(kept: Kept) -> None:
    assert await kept.diagnoses.read() == KeptDiagnoses()
    await kept.diagnoses.keep(ONE)
    assert await kept.diagnoses.read() == KeptDiagnoses(last=ONE)
    await kept.diagnoses.keep(OTHER)
    assert await kept.diagnoses.read() == KeptDiagnoses(last=OTHER)


async def test_that_somebody_looks_is_noted_beside_the_last_diagnosis_until_the_next(kept: Kept) -> None:
    await kept.diagnoses.begin(AT)
    assert await kept.diagnoses.read() == KeptDiagnoses(looking_since=AT)
    await kept.diagnoses.keep(ONE)
    later = AT + timedelta(minutes=1)
    await kept.diagnoses.begin(AT)
    await kept.diagnoses.begin(later)
    assert await kept.diagnoses.read() == KeptDiagnoses(last=ONE, looking_since=later)
    await kept.diagnoses.keep(OTHER)
    assert await kept.diagnoses.read() == KeptDiagnoses(last=OTHER)


ODD = {"check": "x", "subject": "x", "severity": "ok", "what": "", "meaning": "", "next_step": ""}
DAMAGES = [
    ("SET", KEY, "x"),
    ("LPUSH", KEY, "x"),
    ("HSET", KEY, "last", "{", "looking", "x"),
    ("HSET", KEY, "last", b"\xff\xfe", "looking", b"\xff\xfe"),
    ("HSET", KEY, "last", "[" * 100_000, "looking", "1e999"),
    ("HSET", KEY, "last", '{"at":"2026-03-02T09:30:00","findings":[]}', "looking", "nan"),
    ("HSET", KEY, "last", '{"at":"9999-12-31T23:59:59-12:00","findings":[]}', "looking", "-1e15"),
    ("HSET", KEY, "last", '{"at":"2026-03-02T09:30:00Z","findings":[{"check":"pods"}]}', "looking", ""),
    ("HSET", KEY, "last", json.dumps({"at": "2026-03-02T09:30:00Z", "findings": [{**ODD, "check": "\ud800"}]})),
    ("HSET", KEY, "last", json.dumps({"at": "2026-03-02T09:30:00Z", "findings": [{**ODD, "severity": "fatal"}]})),
]


@pytest.mark.parametrize("damage", DAMAGES, ids=range(len(DAMAGES)))
async def test_what_cannot_be_read_counts_as_none_and_is_replaced(redis_port: int, damage: tuple[str, ...]) -> None:
    async with Redis(port=redis_port) as redis:
        diagnoses = RedisDiagnoses(redis)
        await redis.flushall()
        await redis.execute_command(*damage)  # type: ignore[no-untyped-call]
        assert await diagnoses.read() == KeptDiagnoses()
        await diagnoses.begin(AT)
        assert await diagnoses.read() == KeptDiagnoses(looking_since=AT)
        await diagnoses.keep(ONE)
        assert await diagnoses.read() == KeptDiagnoses(last=ONE)


@pytest.mark.parametrize("decodes", [True, False])
async def test_it_is_one_key_for_a_week_read_by_any_client(redis_port: int, decodes: bool) -> None:
    async with Redis(port=redis_port, decode_responses=decodes) as redis:
        await redis.flushall()
        diagnoses = RedisDiagnoses(redis)
        for _ in range(2):
            await diagnoses.begin(AT)
            await diagnoses.keep(ONE)
            await diagnoses.begin(AT)
        assert await diagnoses.read() == KeptDiagnoses(last=ONE, looking_since=AT)
        assert await redis.dbsize() == 1
        assert 600_000 < await redis.ttl(KEY) <= 604_800
