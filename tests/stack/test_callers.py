"""Keys with names on the real service: a file that changes, limits that replicas share, and the audit in Redis."""

from pathlib import Path
from typing import Any

import aiohttp
from redis.asyncio import Redis

from service.domain.api_keys import new_api_key
from service.domain.permissions import CallerRole
from stack.stack import Stack
from tests.stack.client import until
from tests.stack.test_metrics import Restart


async def test_keys_of_a_file_open_one_users_session_until_they_are_removed(
    stack: Stack, restarted: Restart, redis: Redis, user: str, tmp_path: Path
) -> None:
    (root, root_stored), (own, own_stored) = (
        new_api_key("root", CallerRole.OPERATOR), new_api_key("ci", CallerRole.FRONTEND, user),
    )  # fmt: skip
    file = tmp_path / "keys"
    file.write_text(f"{root_stored.line}\n{own_stored.line}\n")
    restarted({"API_KEYS_FILE": str(file), "RATE_PER_USER": "60"})

    async def call(key: str, method: str, path: str, **body: object) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {key}"}
        async with aiohttp.request(method, stack.url + path, headers=headers, json=body or None) as answer:
            return answer.status, await answer.json() if answer.status != 204 else None

    other = (await call(root, "POST", "/session/create", user_id=f"other-{user}"))[1]["uuid"]
    status, created = await call(own, "POST", "/session/create", user_id=user)
    uuid = created["uuid"]
    assert status == 201
    assert (await call(own, "POST", f"/session/{uuid}/wake"))[0] == 202
    assert (await call(own, "POST", f"/session/{other}/wake"))[0] == 404
    assert (await call(own, "POST", "/session/create", user_id=f"other-{user}"))[0] == 403

    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        form = {"data": {"key": own}, "headers": {"Origin": stack.url}}
        async with http.post(f"{stack.url}/dashboard/sign-in", **form) as answer:  # type: ignore[arg-type]
            assert str(answer.url) == f"{stack.url}/dashboard/sessions/{uuid}", await answer.text()
        cookies = {each.key: each.value for each in http.cookie_jar}

    while (await call(own, "GET", f"/session/{uuid}/status"))[0] == 200:
        pass  # at most 60 times
    refused = await call(own, "GET", f"/session/{uuid}/status")
    assert (refused[0], refused[1]["type"]) == (429, "/problems/too-many-requests")

    async def shared() -> bool:
        return bool(await redis.keys("user-pods:rate:user:*"))

    await until(shared, 10, lambda: "the replica does not tell the others")

    async def entered() -> bool:
        found = (await call(root, "GET", "/audit?caller=ci"))[1]["entries"]
        results = [(entry["operation"], entry["uuid"], entry["result"]) for entry in reversed(found)]
        return results[:4] == [
            ("create", uuid, "done"), ("wake", uuid, "done"), ("wake", other, "session-not-found"),
            ("create", None, "forbidden"),
        ]  # fmt: skip

    await until(entered, 10, lambda: "the audit lacks something")
    file.write_text(f"{root_stored.line}\n")

    async def removed() -> bool:
        return (await call(own, "GET", "/whoami"))[0] == 401

    await until(removed, 15, lambda: "the removed key is still valid")
    async with aiohttp.request("GET", f"{stack.url}/dashboard/sessions/{uuid}", cookies=cookies) as answer:
        assert answer.url.path == "/dashboard/sign-in", "its session in a browser has not ended"
    assert (await call(root, "GET", "/whoami"))[1]["name"] == "root"
    assert (await call(root, "DELETE", f"/session/{other}"))[0] == 204
