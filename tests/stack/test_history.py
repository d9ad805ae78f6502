"""A session's real life in its history and the log: who woke it, and why it slept."""

import asyncio
import json

from redis.asyncio import Redis

from service.domain.journal import hashed
from stack.stack import Stack
from tests.stack.client import Caller, Json, until
from tests.stack.test_metrics import Restart, leads, scrape


class Past:
    """The history of one session, read page by page."""

    def __init__(self, caller: Caller, uuid: str) -> None:
        self._caller = caller
        self._uuid = uuid
        self._seen = 0

    async def next(self) -> Json:
        """The entry after those that were looked at; of a wake once its pod is ready."""
        entries: list[Json] = []

        async def there() -> bool:
            nonlocal entries
            code, body = await self._caller.call("GET", f"/session/{self._uuid}/history")
            assert code == 200, body
            entries = body["entries"][::-1]
            return len(entries) > self._seen and (
                entries[self._seen]["kind"] != "wake" or entries[self._seen]["ready_at"] is not None
            )

        await until(there, 30, lambda: json.dumps(entries[self._seen :], indent=1))
        self._seen += 1
        return entries[self._seen - 1]


async def test_the_history_says_who_woke_a_session_and_why_it_slept(
    stack: Stack, caller: Caller, restarted: Restart, redis: Redis, user: str
) -> None:
    restarted({"LOG_FORMAT": "json"})
    uuid = (await caller.create(user))[1]["uuid"]
    past = Past(caller, uuid)
    await leads(stack)

    def scale(replicas: int) -> None:
        stack.cluster.kubectl("-n", "users", "scale", "deployment", f"user-{uuid}", f"--replicas={replicas}")

    def looked() -> str:
        path = "-o=jsonpath={.status.lastActiveTime}"
        return stack.cluster.kubectl("-n", "users", "get", "scaledobject", f"user-{uuid}-scaler", path)

    await caller.call("POST", f"/session/{uuid}/wake")
    wake, sleep = await past.next(), await past.next()
    assert (wake["kind"], wake["by"], sleep["kind"], sleep["cause"]) == ("wake", "api", "sleep", "idle")
    assert 0 < wake["seconds"] < 10
    assert sleep["seconds"] > 3  # the cooldown
    assert sleep["idle_since"] < sleep["at"]

    await caller.call("POST", f"/session/{uuid}/wake")
    assert (await past.next())["by"] == "api"
    await caller.call("POST", f"/session/{uuid}/sleep")
    asked = await past.next()
    assert (asked["cause"], bool(asked["request_id"])) == ("asked", True)
    await caller.until(uuid, "asleep")

    await redis.rpush(f"queue:{uuid}", "somebody")
    assert (await past.next())["by"] == "queue"
    await caller.call("POST", f"/session/{uuid}/sleep")
    assert (await past.next())["cause"] == "asked"
    await caller.until(uuid, "asleep")

    before = looked()
    await caller.call("POST", f"/session/{uuid}/wake")
    assert (await past.next())["by"] == "api"

    async def seen() -> bool:
        return looked() != before

    await until(seen, 15, lambda: "KEDA does not look at the session")
    await caller.call("POST", f"/session/{uuid}/wake")
    scale(0)
    assert (await past.next())["cause"] == "operator"
    assert (await past.next())["by"] is None  # its queue is filled, so the service brings it back
    await caller.call("POST", f"/session/{uuid}/sleep")
    assert (await past.next())["cause"] == "asked"
    await caller.until(uuid, "asleep")

    await asyncio.sleep(2.5)  # sooner, it could be the pod of the wake before that is shown late
    scale(1)
    assert (await past.next())["by"] == "operator"
    assert (await scrape(stack.url))["user_pods_false_sleeps_total"] == 0

    lines = [json.loads(line) for line in stack.cluster.log(stack.name).read_text().splitlines() if uuid in line]
    told = [line for line in lines if line.get("logger") == "service.journal"]
    assert {line["event"] for line in told} == {"session created", "session woken", "session ready", "session slept"}
    assert {line["user"] for line in told} == {hashed(user)}
    assert not any(user in json.dumps(line) for line in lines)
    assert [line["request_id"] for line in told if line["event"] == "session created"] != ["-"]
