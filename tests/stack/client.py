"""A caller of the service under test."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

Json = dict[str, Any]


class Caller:
    """Speaks to one service; bodies come back as dicts, whatever the status."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def call(self, method: str, path: str, body: Json | None = None) -> tuple[int, Json]:
        async with self._session.request(method, self.url + path, json=body) as answer:
            text = await answer.read()
            return answer.status, (await answer.json(content_type=None)) if text else {}

    async def create(self, user_id: str) -> tuple[int, Json]:
        return await self.call("POST", "/session/create", {"user_id": user_id})

    async def status(self, uuid: str) -> Json:
        code, body = await self.call("GET", f"/session/{uuid}/status")
        assert code == 200, body
        return body

    async def until(self, uuid: str, phase: str, seconds: float = 30) -> Json:
        """Wait for a phase; the status that had it."""
        body: Json = {}

        async def there() -> bool:
            nonlocal body
            body = await self.status(uuid)
            return bool(body["phase"] == phase)

        await until(there, seconds, lambda: f"the phase is not {phase}: {body}")
        return body


async def until(condition: Callable[[], Awaitable[bool]], seconds: float, tell: Callable[[], str]) -> None:
    """Wait for a condition, up to a deadline."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not await condition():
        assert asyncio.get_running_loop().time() < deadline, tell()
        await asyncio.sleep(0.05)
