"""Requests to the Kubernetes API: plain JSON over the client's connection, since its models cost ten times the time."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes.aio import client, config

from service.domain.errors import ClusterUnavailable
from service.domain.names import FIELD_MANAGER

METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_METADATA_ITEM = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_PAGE = 100
"""Objects of one page: larger ones take no less time, and memory that a process then keeps (500: 40 MB)."""
_WATCH_SECONDS = 300
"""How long the API server lets one watch run; the next goes on where it ended."""

Json = dict[str, Any]


class Refused(Exception):
    """The API server's 4xx answer to one request."""

    def __init__(self, status: int, reason: str | None) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status


class Expired(Exception):
    """The watch cannot go on from where it was (410): the objects have to be listed again."""


async def connect(kubeconfig: Path | None) -> client.ApiClient:
    """A client from a kubeconfig file, or with the pod's own ServiceAccount when there is none."""
    configuration = client.Configuration()
    if kubeconfig is None:
        config.load_incluster_config(client_configuration=configuration)
    else:
        await config.load_kube_config(str(kubeconfig), client_configuration=configuration, persist_config=False)
    configuration.retries = 0
    return client.ApiClient(configuration)


class KubeApi:
    """One method per verb. Each raises ClusterUnavailable for what is no answer; `timeout` is in seconds."""

    def __init__(self, api: client.ApiClient, *, timeout: float) -> None:
        self._api = api
        self._timeout = timeout

    async def pages(
        self, path: str, selector: str, *, fields: str = "", metadata: bool = False, size: int = _PAGE
    ) -> AsyncIterator[tuple[list[Json], str]]:
        """Pages of the objects that label and field selector match, each with the list's resourceVersion."""
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
                if refused.status == HTTPStatus.GONE:
                    raise Expired from refused
                raise ClusterUnavailable from refused
            yield answer.get("items") or [], answer["metadata"]["resourceVersion"]
            proceed = answer["metadata"].get("continue") or ""
            if not proceed:
                return

    async def list(self, path: str, selector: str, *, metadata: bool = False) -> list[Json]:
        """All objects that the label selector matches."""
        return [item async for page, _ in self.pages(path, selector, metadata=metadata) for item in page]

    async def glance(self, path: str, selector: str) -> None:
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
        self, path: str, selector: str, version: str, *, fields: str = "", metadata: bool = False
    ) -> AsyncGenerator[tuple[str, Json]]:
        """(type, object) of every change since `version`, bookmarks included, until the API server ends the watch.

        Raises Expired when it cannot go on from there.
        """
        query = {
            "labelSelector": selector,
            "fieldSelector": fields,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        accept = _METADATA_ITEM if metadata else "application/json"
        # The watch may be silent for long, but not longer than the API server lets it run.
        patience = aiohttp.ClientTimeout(total=None, sock_connect=self._timeout, sock_read=_WATCH_SECONDS + 30)
        try:
            response = await self._send("GET", path, query=query, accept=accept, timeout=patience)
            async with response:
                if response.status == HTTPStatus.GONE:
                    raise Expired
                if response.status != HTTPStatus.OK:
                    raise ClusterUnavailable from Refused(response.status, response.reason)
                try:
                    async for line in _lines(response):
                        yield _event(json.loads(line))
                finally:
                    # Nobody waits for the polite end of TLS with a watch that is given up: it could outlive the loop.
                    if response.connection is not None and response.connection.transport is not None:
                        response.connection.transport.abort()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
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
        """One request. Raises Refused for 4xx, ClusterUnavailable for everything else that is no answer."""
        try:
            timeout = aiohttp.ClientTimeout(total=self._timeout)
            response = await self._send(method, path, query=query, body=body, accept=accept, timeout=timeout)
            data = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError, client.ApiException) as error:
            raise ClusterUnavailable from error
        if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR or response.status == HTTPStatus.TOO_MANY_REQUESTS:
            raise ClusterUnavailable from Refused(response.status, response.reason)
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise Refused(response.status, response.reason)
        answer = json.loads(data)
        return answer if isinstance(answer, dict) else {}

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
            yield line


def _event(event: Json) -> tuple[str, Json]:
    kind, item = event["type"], event["object"]
    if kind == "ERROR":
        if item.get("code") == HTTPStatus.GONE:
            raise Expired
        raise ClusterUnavailable from Refused(item.get("code", 0), item.get("reason"))
    return kind, item
