"""Requests to the Kubernetes API.

They exchange plain JSON over the client's connection: its models would take ten times as long.
"""

import asyncio
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar

import aiohttp
from kubernetes.aio import client, config

from service.adapters.kubernetes.fields import Json, as_dict, text
from service.domain.errors import ClusterUnavailable
from service.domain.names import FIELD_MANAGER

T = TypeVar("T")
_JSON = "application/json"
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_METADATA_ITEM = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_NOT_FOUND = (HTTPStatus.NOT_FOUND,)
_PAGE = 100
"""Objects per page. Larger pages are no faster, and a process keeps the memory that they take (500: 40 MB)."""
_WATCH_SECONDS = (30, 45)
"""The API server ends each watch after a random time in this range; the next watch resumes where it ended.

Watches are this short because nothing else distinguishes a silent watch from one whose peer is gone.
"""
_WATCH_GRACE = 5
"""Seconds that the API server gets to end a watch that has run its time; then the watch is dead."""
_LIST_ATTEMPTS = 3
"""How often a list is started when the API server no longer has its next page."""
_MAX_EVENT_BYTES = 16 * 1024 * 1024
"""Maximum size of one watch event: ten times what etcd accepts."""
_MAX_RETRY_AFTER = 60.0
"""Seconds. A longer Retry-After of the API server is shortened to this."""


class ApiRefused(Exception):
    """The API server answered one request with 4xx; `retry_after` is in seconds."""

    def __init__(self, status: int, reason: str | None, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.retry_after = retry_after


class InvalidResponse(Exception):
    """A response with status 200 that does not come from the Kubernetes API, but from a proxy for instance."""


class ResourceVersionExpired(Exception):
    """The API server no longer has this resourceVersion (410): the objects have to be listed again."""


@dataclass(frozen=True, slots=True)
class Collection:
    """The objects at a path that both selectors match."""

    path: str
    labels: str = ""
    fields: str = ""
    metadata: bool = False
    """Request only the objects' metadata."""

    def item(self, name: str) -> str:
        """The path of one object."""
        return f"{self.path}/{name}"

    @property
    def query(self) -> dict[str, str]:
        return {"labelSelector": self.labels, "fieldSelector": self.fields}


async def connect(kubeconfig: Path | None) -> client.ApiClient:
    """A client that uses the kubeconfig file or, when that is None, the pod's own ServiceAccount."""
    configuration = client.Configuration()
    if kubeconfig is None:
        config.load_incluster_config(client_configuration=configuration)
    else:
        await config.load_kube_config(str(kubeconfig), client_configuration=configuration, persist_config=False)
    configuration.retries = None  # with 0 the client would retry 5xx answers forever
    return client.ApiClient(configuration)


class KubeApi:
    """One method per verb. Each raises ClusterUnavailable when there is no usable answer. `timeout` is in seconds."""

    def __init__(self, api: client.ApiClient, *, timeout: float) -> None:
        self._api = api
        self._timeout = timeout

    async def pages(self, collection: Collection, *, size: int = _PAGE) -> AsyncIterator[tuple[list[Json], str]]:
        """Yield pages of the objects, each with the list's resourceVersion.

        Raises ResourceVersionExpired when the API server no longer has the next page: start the list again.
        """
        query, accept = {**collection.query, "limit": str(size)}, _METADATA_LIST if collection.metadata else _JSON
        while True:
            try:
                answer = await self.request("GET", collection.path, query=query, accept=accept)
            except ApiRefused as refused:
                if refused.status == HTTPStatus.GONE and "continue" in query:
                    raise ResourceVersionExpired from refused
                raise ClusterUnavailable from refused
            metadata = as_dict(answer.get("metadata"))
            version, items = text(metadata.get("resourceVersion")), answer.get("items") or []
            if version is None or not isinstance(items, list):
                raise ClusterUnavailable from InvalidResponse("a list without items or resourceVersion")
            yield [item for item in items if isinstance(item, dict)], version
            query["continue"] = text(metadata.get("continue")) or ""
            if not query["continue"]:
                return

    async def list(self, collection: Collection) -> list[Json]:
        """Return all of the objects."""
        return [*await self.collect(collection, lambda item: item)]

    async def collect(self, collection: Collection, read: Callable[[Json], T], *, size: int = _PAGE) -> Sequence[T]:
        """Return what `read` makes of each object, so that memory holds no more than a page of the objects."""
        for _ in range(_LIST_ATTEMPTS):
            with suppress(ResourceVersionExpired):
                return [read(item) async for page, _ in self.pages(collection, size=size) for item in page]
        raise ClusterUnavailable from ResourceVersionExpired()

    async def check_readable(self, collection: Collection) -> str:
        """The current resourceVersion. Raises ClusterUnavailable unless the objects can be listed."""
        _, version = await anext(self.pages(replace(collection, metadata=True), size=1))
        return version

    async def get(self, path: str) -> Json | None:
        """Return the object, or None when it does not exist."""
        return await self.attempt("GET", path, allowed=_NOT_FOUND)

    async def patch(self, path: str, body: Json) -> bool:
        """Apply a merge patch. Returns False when the object does not exist."""
        query = {"fieldManager": FIELD_MANAGER}
        return await self.attempt("PATCH", path, query=query, body=body, allowed=_NOT_FOUND) is not None

    async def delete(self, path: str) -> None:
        """Delete the object. Does nothing when it does not exist."""
        await self.attempt("DELETE", path, allowed=_NOT_FOUND)

    async def watch(
        self, collection: Collection, version: str, *, opened: Callable[[], None] = lambda: None
    ) -> AsyncGenerator[tuple[str, Json]]:
        """Yield (type, object) of each change since `version`, bookmarks included, until the API server ends the watch.

        Calls `opened` when the API server accepts the watch, which may be long before the first change. Raises
        ResourceVersionExpired when it no longer has `version`. Gives up after 50 s when the peer is gone.
        """
        runs = random.randint(*_WATCH_SECONDS)  # noqa: S311 - only spreads the load
        query = {
            **collection.query,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(runs),
        }
        accept = _METADATA_ITEM if collection.metadata else _JSON
        timeout = aiohttp.ClientTimeout(total=runs + _WATCH_GRACE, sock_connect=self._timeout)
        with _unavailable_errors():
            async with await self._send("GET", collection.path, timeout, query=query, accept=accept) as response:
                if response.status == HTTPStatus.GONE:
                    raise ResourceVersionExpired
                if response.status != HTTPStatus.OK:
                    raise _unavailable(response)
                opened()
                try:
                    async for line in _lines(response):
                        yield _parse_event(_parse_json(line))
                finally:
                    # Do not wait for the TLS shutdown of an abandoned watch: it could outlive the event loop.
                    if response.connection is not None and response.connection.transport is not None:
                        response.connection.transport.abort()

    async def attempt(
        self,
        method: str,
        path: str,
        *,
        allowed: Container[int],
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        error: type[ClusterUnavailable] = ClusterUnavailable,
    ) -> Json | None:
        """Send one request. Returns None when the answer is one of the 4xx in `allowed`; raises `error` for another."""
        try:
            return await self.request(method, path, query=query, body=body)
        except ApiRefused as refused:
            if refused.status in allowed:
                return None
            raise error from refused

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        accept: str = _JSON,
    ) -> Json:
        """Send one request. Raises ApiRefused for 4xx, and ClusterUnavailable when there is no usable answer.

        Retries 429 after the delay that the API server asks for, within the timeout: it has not acted on the request.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._timeout
        while True:
            timeout = aiohttp.ClientTimeout(total=max(0.001, deadline - clock()))
            with _unavailable_errors():
                response = await self._send(method, path, timeout, query=query, body=body, accept=accept)
                data = await response.read()
            if response.status != HTTPStatus.TOO_MANY_REQUESTS:
                break
            pause = retry_delay(_retry_after(response) or 1)
            if clock() + pause >= deadline:
                raise _unavailable(response)
            await asyncio.sleep(pause)
        if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _unavailable(response)
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise ApiRefused(response.status, f"{response.reason}: {method} {path}")
        return _parse_json(data)

    async def _send(
        self,
        method: str,
        path: str,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - the HTTP client enforces it
        *,
        query: Mapping[str, str] | None,
        accept: str,
        body: Json | None = None,
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": accept}
        if method == "PATCH":
            headers["Content-Type"] = "application/merge-patch+json"
        method, url, sent, payload, _ = await self._api.param_serialize(
            method, path, header_params=headers, query_params=list((query or {}).items()), body=body,
            auth_settings=["BearerToken"],
        )  # fmt: skip
        answer = await self._api.call_api(method, url, sent, payload, _request_timeout=timeout)
        response: aiohttp.ClientResponse = answer.response
        return response


@contextmanager
def _unavailable_errors() -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientError, OSError, TimeoutError, client.ApiException) as error:
        raise ClusterUnavailable from error


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield line
        if len(rest) > _MAX_EVENT_BYTES:
            raise ClusterUnavailable from InvalidResponse("a watch event is too large")


def _parse_event(event: Json) -> tuple[str, Json]:
    kind, item = text(event.get("type")), as_dict(event.get("object"))
    if kind is None:
        raise ClusterUnavailable from InvalidResponse("a watch event has no type")
    if kind == "ERROR":
        if item.get("code") == HTTPStatus.GONE:
            raise ResourceVersionExpired
        code, seconds = item.get("code"), as_dict(item.get("details")).get("retryAfterSeconds")
        after = float(seconds) if isinstance(seconds, int) and not isinstance(seconds, bool) else None
        raise _unavailable_because(ApiRefused(code if isinstance(code, int) else 0, text(item.get("reason")), after))
    return kind, item


def _parse_json(data: bytes) -> Json:
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ClusterUnavailable from error
    if not isinstance(answer, dict):
        raise ClusterUnavailable from InvalidResponse("not an object")
    return answer


def _unavailable(response: aiohttp.ClientResponse) -> ClusterUnavailable:
    return _unavailable_because(ApiRefused(response.status, response.reason, _retry_after(response)))


def _unavailable_because(refused: ApiRefused) -> ClusterUnavailable:
    error = ClusterUnavailable(retry_after=None if refused.retry_after is None else max(1, round(refused.retry_after)))
    error.__cause__ = refused
    return error


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    """The Retry-After header in seconds; the API server never sends a date."""
    given = response.headers.get("Retry-After", "")
    return min(float(given), _MAX_RETRY_AFTER) if given.isascii() and given.isdigit() else None


def retry_delay(retry_after: float) -> float:
    """Seconds to wait: at least what the API server asked for, with jitter so that clients do not retry together."""
    return min(retry_after, _MAX_RETRY_AFTER) * random.uniform(1, 1.5)  # noqa: S311 - only spreads the load
