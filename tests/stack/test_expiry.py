"""Sessions that are too old on the real cluster: warned, kept by their users, and deleted by helm.

The expirer is one of the test's own, beside the service: no setting makes a session too old within a second.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis

from service.adapters.log.audit import LogAudit
from service.adapters.prometheus.metrics import PrometheusMetrics
from service.adapters.redis.records import warning_text
from service.controller.expirer import Expirer
from service.domain.audit import Audit
from service.domain.expiry import ExpiryReason, ExpiryRule, ExpiryWarning
from service.domain.journal import ExpiryAnnounced
from service.domain.names import SessionId
from service.domain.profiles import NO_PROFILES
from service.domain.queries import Page, SessionQueries
from service.edge.drain import Drain
from service.settings import Settings
from service.wiring.activity import build_activity
from service.wiring.core import build_core
from service.wiring.kubernetes import open_kubernetes
from service.wiring.provisioning import build_provisioner, open_releases
from service.wiring.redis import open_redis
from stack.stack import Stack
from tests.domain.conftest import Notes
from tests.stack.client import Caller
from tests.stack.conftest import owners, releases

RULE = ExpiryRule(lifetime=timedelta(milliseconds=1), warning=timedelta(hours=1))


class Some(SessionQueries):
    """Shows these sessions and no others: the cluster is not this test's alone."""

    shown: Sequence[SessionId] = ()

    async def page(self, **_: object) -> Page:
        return Page(await self.sessions(self.shown), None)


@asynccontextmanager
async def expirer(stack: Stack, shown: Sequence[SessionId], notes: Notes) -> AsyncIterator[Expirer]:
    config, metrics = Settings(), PrometheusMetrics()
    wanted = await open_releases(config, metrics, NO_PROFILES)
    async with open_redis(config) as redis, open_kubernetes(config) as kubernetes:
        core = build_core(config, redis, kubernetes, metrics, drain=Drain(), profiles=NO_PROFILES)
        queries = Some(
            store=redis.store,
            history=redis.history,
            cluster=kubernetes.cluster,
            cache=kubernetes.cache,
            idle_times=config.idle_times,
            expiry_rule=RULE,
        )
        queries.shown = shown
        audit = Audit(redis.audit_trail, LogAudit(), kubernetes.cache)
        async with kubernetes.cache.running():
            await kubernetes.cache.wait_synced()
            yield Expirer(
                rule=RULE,
                queries=queries,
                store=redis.store,
                activity=build_activity(core, ()),
                provisioner=build_provisioner(core, wanted, audit),
                journal=notes,
                interval=timedelta(minutes=1),
                per_hour=3600,
            )


async def warned_long_ago(redis: Redis, *uuids: SessionId) -> None:
    then = datetime.now(UTC) - timedelta(hours=2)
    told = ExpiryWarning(at=then, due=then + RULE.warning, reason=ExpiryReason.LIFETIME)
    for uuid in uuids:
        await redis.hset(f"session:{uuid}", "deletion_warning", warning_text(told))
    await redis.hset("user-pods:expiry", mapping={"since": then.timestamp(), "last": datetime.now(UTC).timestamp()})


async def test_sessions_that_are_too_old_are_warned_and_then_deleted_but_for_one_that_its_user_keeps(
    stack: Stack, caller: Caller, redis: Redis, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    kept, old = [SessionId((await caller.create(f"{name}-{user}"))[1]["uuid"]) for name in ("kept", "old")]
    assert (await caller.call("POST", f"/session/{old}/wake"))[0] == 202
    await caller.until(old, "ready", 15)
    notes = Notes()
    async with expirer(stack, (kept, old), notes) as duty:
        await duty.expire()
        await duty.expire()
        assert sorted(each.uuid or "" for each in notes.entries if isinstance(each, ExpiryAnnounced)) == sorted(
            (kept, old)
        )
        assert {kept, old} <= {name.removeprefix("user-") for name in owners(stack)}, "they have just been warned"
        await warned_long_ago(redis, kept, old)
        assert (await caller.call("POST", f"/session/{kept}/keep", {"seconds": 86_400}))[0] == 202
        await duty.expire()
    left = await asyncio.to_thread(owners, stack)
    assert f"user-{old}" not in left
    assert f"user-{old}" not in await asyncio.to_thread(releases, stack)
    assert f"user-{kept}" in left
    assert (await caller.call("GET", f"/session/{old}/status"))[0] == 404
    await caller.until(kept, "asleep", 15)
