"""A client of the API server with an administrator's rights, and the server's own count of requests."""

import asyncio
import json
import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp

Json = dict[str, Any]
_REQUESTS = re.compile(r"^apiserver_request_total\{.*verb=\"(\w+)\".*\} (\S+)$", re.MULTILINE)
_READS = frozenset({"GET", "LIST", "WATCH"})


class Api:
    """One method per verb; every answer of 400 and above is an error."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http

    @classmethod
    @asynccontextmanager
    async def connected(cls, kubeconfig: Path) -> AsyncIterator[Self]:
        """`kubeconfig` was written by devcluster: JSON, with files for certificate and key."""
        config = json.loads(await asyncio.to_thread(kubeconfig.read_text))
        server, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        async with client(
            server["server"],
            ca=Path(server["certificate-authority"]),
            crt=Path(user["client-certificate"]),
            key=Path(user["client-key"]),
        ) as http:
            yield cls(http)

    async def get(self, path: str, **query: str) -> Json:
        async with self._http.get(path, params=query) as answer:
            return await _json(answer)

    async def post(self, path: str, body: Json, **query: str) -> Json:
        async with self._http.post(path, json=body, params=query) as answer:
            return await _json(answer)

    async def merge(self, path: str, body: Json) -> Json:
        headers = {"Content-Type": "application/merge-patch+json"}
        async with self._http.patch(path, json=body, headers=headers) as answer:
            return await _json(answer)

    async def delete(self, path: str) -> None:
        async with self._http.delete(path) as answer:
            await answer.read()

    async def count(self, path: str, **query: str) -> int:
        """The number of objects in a collection."""
        page = await self.get(path, **query, limit="1")
        return len(page["items"]) + int(page["metadata"].get("remainingItemCount") or 0)

    async def watch(self, path: str, selector: str) -> AsyncIterator[tuple[str, Json]]:
        """(type, object) of every existing object and then of every change, without end."""
        query = {"watch": "true", "labelSelector": selector, "timeoutSeconds": "86400"}
        async with self._http.get(path, params=query) as answer:
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    yield event["type"], event["object"]

    async def requests(self) -> int:
        """Requests that the server has handled since its start, including watches."""
        return sum((await self._counts()).values())

    async def writes(self) -> int:
        """The same for requests that change something."""
        return sum(number for verb, number in (await self._counts()).items() if verb not in _READS)

    async def _counts(self) -> Counter[str]:
        async with self._http.get("/metrics") as answer:
            text = await answer.text()
        counts: Counter[str] = Counter()
        for verb, number in _REQUESTS.findall(text):
            counts[verb] += int(float(number))
        return counts


@asynccontextmanager
async def client(server: str, *, ca: Path, crt: Path, key: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """A session authenticated by a certificate; every answer of 400 and above is an error."""
    context = ssl.create_default_context(cafile=str(ca))
    context.load_cert_chain(crt, key)
    connector = aiohttp.TCPConnector(ssl=context, limit=0)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
    async with aiohttp.ClientSession(
        server, connector=connector, timeout=timeout, raise_for_status=True, trust_env=False
    ) as http:
        yield http


async def _json(answer: aiohttp.ClientResponse) -> Json:
    found: Json = json.loads(await answer.read())
    return found
