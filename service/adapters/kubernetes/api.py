"""Requests to the Kubernetes API: plain JSON over the client's connection, since its models cost ten times the time."""

import asyncio
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from http import HTTPStatus
from pathlib import Path

import aiohttp
from kubernetes.aio import client, config

from service.adapters.kubernetes.fields import Json, as_dict, text
from service.domain.errors import ClusterUnavailable
from service.domain.names import FIELD_MANAGER

METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_METADATA_ITEM = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_PAGE = 100
"""Objects of one page: larger ones take no less time, and memory that a process then keeps (500: 40 MB)."""
_WATCH_SECONDS = (30, 45)
"""How long the API server lets one watch run, a random time in between; the next goes on where it ended.

So short since nothing else tells a watch that is merely silent from one whose other end is gone.
"""
_WATCH_GRACE = 5
"""Seconds after which a watch that the API server should have ended by then is dead."""
_RELISTS = 3
"""So often a list begins anew whose next page the API server no longer has."""
_LINE = 16 * 1024 * 1024
"""Bytes of one change at most: ten times what etcd takes."""
_RETRY_AFTER = 60.0
"""Seconds that an API server may ask to be left alone, at most."""


class Refused(Exception):
    """The API server's 4xx answer to one request; `retry_after` is in seconds."""

    def __init__(self, status: int, reason: str | None, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.retry_after = retry_after


class InvalidAnswer(Exception):
    """An answer of 200 that is none of the Kubernetes API: of a proxy in between, for instance."""


class Expired(Exception):
    """The watch cannot go on from where it was (410): the objects have to be listed again."""


async def connect(kubeconfig: Path | None) -> client.ApiClient:
    """A client from a kubeconfig file, or with the pod's own ServiceAccount when there is none."""
    configuration = client.Configuration()
    if kubeconfig is None:
        config.load_incluster_config(client_configuration=configuration)
    else:
        await config.load_kube_config(str(kubeconfig), client_configuration=configuration, persist_config=False)
    configuration.retries = None  # with 0 the client would ask again for ever when it is answered 5xx
    return client.ApiClient(configuration)


class KubeApi:
    """One method per verb. Each raises ClusterUnavailable for what is no answer; `timeout` is in seconds."""

    def __init__(self, api: client.ApiClient, *, timeout: float) -> None:
        self._api = api
        self._timeout = timeout

    async def pages(
        self, path: str, selector: str, *, fields: str = "", metadata: bool = False, size: int = _PAGE
    ) -> AsyncIterator[tuple[list[Json], str]]:
        """Pages of the objects that label and field selector match, each with the list's resourceVersion.

        Raises Expired when the API server no longer has the next page: the list has to begin anew.
        """
        proceed = ""
        while True:
            query = {"labelSelector": selector, "fieldSelector": fields, "limit": str(size)}
            if proceed:
                query["continue"] = proceed
            try:
                answer = await self.request(
                    "GET", path, query=query, accept=METADATA if metadata else "application/json"
                )
            except Refused as refused:
                if refused.status == HTTPStatus.GONE and proceed:
                    raise Expired from refused
                raise ClusterUnavailable from refused
            metadata_ = as_dict(answer.get("metadata"))
            version, items = text(metadata_.get("resourceVersion")), answer.get("items") or []
            if version is None or not isinstance(items, list):
                raise ClusterUnavailable from InvalidAnswer("a list without items or version")
            yield [item for item in items if isinstance(item, dict)], version
            proceed = text(metadata_.get("continue")) or ""
            if not proceed:
                return

    async def list(self, path: str, selector: str, *, metadata: bool = False) -> list[Json]:
        """All objects that the label selector matches."""
        expired: Expired | None = None
        for _ in range(_RELISTS):
            try:
                return [item async for page, _ in self.pages(path, selector, metadata=metadata) for item in page]
            except Expired as error:
                expired = error
        raise ClusterUnavailable from expired

    async def check_readable(self, path: str, selector: str) -> None:
        """See whether one could list them."""
        async for _ in self.pages(path, selector, metadata=True, size=1):
            return

    async def get(self, path: str) -> Json | None:
        """The object, None when there is none."""
        try:
            return await self.request("GET", path)
        except Refused as refused:
            if refused.status == HTTPStatus.NOT_FOUND:
                return None
            raise ClusterUnavailable from refused

    async def patch(self, path: str, body: Json) -> bool:
        """Merge; False when there is no such object."""
        try:
            await self.request("PATCH", path, query={"fieldManager": FIELD_MANAGER}, body=body)
        except Refused as refused:
            if refused.status == HTTPStatus.NOT_FOUND:
                return False
            raise ClusterUnavailable from refused
        return True

    async def delete(self, path: str) -> None:
        """Delete; what does not exist is deleted already."""
        try:
            await self.request("DELETE", path)
        except Refused as refused:
            if refused.status != HTTPStatus.NOT_FOUND:
                raise ClusterUnavailable from refused

    async def watch(
        self,
        path: str,
        selector: str,
        version: str,
        *,
        fields: str = "",
        metadata: bool = False,
        opened: Callable[[], None] = lambda: None,
    ) -> AsyncGenerator[tuple[str, Json]]:
        """(type, object) of every change since `version`, bookmarks included, until the API server ends the watch.

        `opened` is called once the API server has agreed to watch from there, which may be long before any change.
        Raises Expired when it cannot go on from there. One whose other end is gone without a word is given up 50 s
        after it began.
        """
        runs = random.randint(*_WATCH_SECONDS)  # noqa: S311 - only spreads the load
        query = {
            "labelSelector": selector,
            "fieldSelector": fields,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(runs),
        }
        accept = _METADATA_ITEM if metadata else "application/json"
        patience = aiohttp.ClientTimeout(total=runs + _WATCH_GRACE, sock_connect=self._timeout)
        try:
            response = await self._send("GET", path, query=query, accept=accept, timeout=patience)
            async with response:
                if response.status == HTTPStatus.GONE:
                    raise Expired
                if response.status != HTTPStatus.OK:
                    raise _unavailable(response)
                opened()
                try:
                    async for line in _lines(response):
                        yield _event(_parsed(line))
                finally:
                    # Nobody waits for the polite end of TLS with a watch that is given up: it could outlive the loop.
                    if response.connection is not None and response.connection.transport is not None:
                        response.connection.transport.abort()
        except (aiohttp.ClientError, OSError, TimeoutError, client.ApiException) as error:
            raise ClusterUnavailable from error

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        accept: str = "application/json",
    ) -> Json:
        """One request. Raises Refused for 4xx, ClusterUnavailable for everything else that is no answer.

        An API server that is too busy (429) is asked again when it says, within the timeout: it has done nothing yet.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._timeout
        while True:
            left = deadline - clock()
            response, data = await self._exchange(method, path, query=query, body=body, accept=accept, left=left)
            if response.status != HTTPStatus.TOO_MANY_REQUESTS:
                break
            pause = pause_of(_retry_after(response) or 1)
            if clock() + pause >= deadline:
                raise _unavailable(response)
            await asyncio.sleep(pause)
        if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _unavailable(response)
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise Refused(response.status, response.reason)
        return _parsed(data)

    async def _exchange(
        self, method: str, path: str, *, query: Mapping[str, str] | None, body: Json | None, accept: str, left: float
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        timeout = aiohttp.ClientTimeout(total=max(0.001, left))
        try:
            response = await self._send(method, path, query=query, body=body, accept=accept, timeout=timeout)
            return response, await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError, client.ApiException) as error:
            raise ClusterUnavailable from error

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None,
        accept: str,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - it is the client's own
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


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield line
        if len(rest) > _LINE:
            raise ClusterUnavailable from InvalidAnswer("a change without an end")


def _event(event: Json) -> tuple[str, Json]:
    kind, item = text(event.get("type")), as_dict(event.get("object"))
    if kind is None:
        raise ClusterUnavailable from InvalidAnswer("a change without a type")
    if kind == "ERROR":
        if item.get("code") == HTTPStatus.GONE:
            raise Expired
        code, seconds = item.get("code"), as_dict(item.get("details")).get("retryAfterSeconds")
        after = float(seconds) if isinstance(seconds, int) and not isinstance(seconds, bool) else None
        raise _refused(Refused(code if isinstance(code, int) else 0, text(item.get("reason")), after))
    return kind, item


def _parsed(data: bytes) -> Json:
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ClusterUnavailable from error
    if not isinstance(answer, dict):
        raise ClusterUnavailable from InvalidAnswer("not an object")
    return answer


def _unavailable(response: aiohttp.ClientResponse) -> ClusterUnavailable:
    return _refused(Refused(response.status, response.reason, _retry_after(response)))


def _refused(refused: Refused) -> ClusterUnavailable:
    error = ClusterUnavailable(retry_after=None if refused.retry_after is None else max(1, round(refused.retry_after)))
    error.__cause__ = refused
    return error


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    """Seconds; the API server gives no dates."""
    given = response.headers.get("Retry-After", "")
    return min(float(given), _RETRY_AFTER) if given.isascii() and given.isdigit() else None


def pause_of(retry_after: float) -> float:
    """Not before it was asked for, and not all at once."""
    return min(retry_after, _RETRY_AFTER) * random.uniform(1, 1.5)  # noqa: S311 - only spreads the load
