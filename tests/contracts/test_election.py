"""What the controller relies on in an Election: in memory, and by a Lease with the service's rights."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from service.adapters.kubernetes.api import KubeApi, connect
from service.adapters.kubernetes.election import NAME, KubeElection
from service.domain.ports import Election
from stack.stack import SERVICE, SYSTEM, USERS, Stack
from tests.fakes import MemoryElection

TERM = timedelta(seconds=1)
Candidates = tuple[Election, Election]


@pytest.fixture(params=["memory", pytest.param("kubernetes", marks=pytest.mark.cluster)])
async def candidates(request: pytest.FixtureRequest) -> AsyncIterator[Candidates]:
    one, other = (secrets.token_hex(4) for _ in range(2))
    if request.param == "memory":
        first = MemoryElection(one, TERM)
        yield first, MemoryElection(other, TERM, first.lease)
        return
    stack: Stack = request.getfixturevalue("stack")
    stack.cluster.stop(stack.name)  # the service would stand too
    stack.cluster.kubectl("-n", USERS, "delete", "lease", NAME, "--ignore-not-found")
    async with await connect(stack.cluster.service_account(SYSTEM, SERVICE)) as api:
        kube = KubeApi(api, timeout=5)
        first_, second = (
            KubeElection(kube, namespace=USERS, identity=name, lease_duration=TERM) for name in (one, other)
        )
        yield first_, second


async def test_one_of_two_leads_and_continues_to_lead(candidates: Candidates) -> None:
    first, second = candidates
    assert await first.acquire_or_renew()
    assert not await second.acquire_or_renew()
    assert await first.acquire_or_renew()
    assert not await second.acquire_or_renew()


async def test_racers_are_not_both_elected(candidates: Candidates) -> None:
    assert sorted(await asyncio.gather(*(each.acquire_or_renew() for each in candidates))) == [False, True]


async def test_a_leader_that_is_silent_for_a_term_is_replaced(candidates: Candidates) -> None:
    first, second = candidates
    assert await first.acquire_or_renew()
    assert not await second.acquire_or_renew()
    await asyncio.sleep(TERM.total_seconds() * 1.2)
    assert await second.acquire_or_renew()
    assert not await first.acquire_or_renew()


async def test_a_leader_that_resigns_is_replaced_at_once(candidates: Candidates) -> None:
    first, second = candidates
    assert await first.acquire_or_renew()
    await second.release()  # it has nothing to give back
    assert not await second.acquire_or_renew()
    await first.release()
    assert await second.acquire_or_renew()
