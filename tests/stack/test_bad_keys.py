"""An overwritten key in the real Redis affects one session; the others wake as usual."""

import asyncio

from redis.asyncio import Redis

from stack.stack import Stack
from tests.stack.client import Caller


async def test_one_overwritten_queue_stops_no_other_session(stack: Stack, caller: Caller, user: str) -> None:
    bad, good = [(await caller.create(f"{name}-{user}"))[1]["uuid"] for name in ("bad", "good")]
    async with Redis.from_url(stack.cluster.redis_url) as redis:
        await redis.set(f"queue:{bad}", "1")
        await redis.zadd("user-pods:ids", {b"\xff": 0})
        await redis.rpush(b"queue:\xff", "x")
        try:
            await asyncio.sleep(6)  # the leader has swept, so that the bad one is in its batches
            assert (await caller.call("POST", f"/session/{good}/wake"))[0] == 202
            await caller.until(good, "ready")
            status = await caller.status(bad)
            assert status["phase"] == "failed"
            assert f"redis-cli DEL queue:{bad}" in status["reason"]
            code, problem = await caller.call("POST", f"/session/{bad}/wake")
            assert (code, problem["type"]) == (409, "/problems/session-unreadable")
            code, listed = await caller.call("GET", "/sessions?phase=failed&limit=500")
            assert (code, [each["uuid"] for each in listed["sessions"]]) == (200, [bad])
            code, report = await caller.call("GET", "/health")
            assert (code, report["failing"]) == (200, [])
            assert "GET /sessions?phase=failed" in report["remarks"]["sessions"]
        finally:
            await redis.delete(f"queue:{bad}", b"queue:\xff")
            await redis.zrem("user-pods:ids", b"\xff")
    await caller.until(bad, "asleep")
    assert (await caller.call("POST", f"/session/{bad}/wake"))[0] == 202
    await caller.until(bad, "ready")


async def test_a_delete_that_was_answered_503_is_finished_by_the_service(
    stack: Stack, caller: Caller, user: str
) -> None:
    uuid = (await caller.create(user))[1]["uuid"]
    stack.cluster.pause("kube-apiserver")
    try:
        code, problem = await caller.call("DELETE", f"/session/{uuid}?keep_data=false")
        assert (code, problem["part"]) == (503, "kubernetes")
    finally:
        stack.cluster.resume("kube-apiserver")
    for _ in range(600):
        code, _body = await caller.call("GET", f"/session/{uuid}/status")
        if code == 404:
            break
        await asyncio.sleep(0.1)
    assert code == 404
    left = stack.cluster.kubectl("-n", "users", "get", "deploy,pvc,scaledobject", "-l", f"uuid={uuid}", "-o", "name")
    assert left.strip() == ""
