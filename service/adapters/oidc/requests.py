"""Requests to the provider: small JSON answers, with a time limit, and without redirects."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, hdrs

from service.domain.identity import SignInFailure, SignInRefused

Json = dict[str, Any]
_TIMEOUT = ClientTimeout(total=10, connect=5)
_LARGEST = 2**20
"""Bytes of an answer."""


class ProviderClient:
    """Raises SignInRefused when the provider is away, or its answer is no JSON object."""

    def __init__(self, http: ClientSession) -> None:
        self._http = http

    async def get(self, url: str, *, bearer: str | None = None) -> Json:
        headers: dict[str, str] = {hdrs.AUTHORIZATION: f"Bearer {bearer}"} if bearer is not None else {}
        status, body = await self._request(hdrs.METH_GET, url, headers)
        if status != HTTPStatus.OK:
            raise SignInRefused(SignInFailure.PROVIDER_AWAY, f"{url} answers {status}")
        return body

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> tuple[int, Json]:
        """Status and body."""
        return await self._request(hdrs.METH_POST, url, headers, form)

    async def _request(
        self, method: str, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None = None
    ) -> tuple[int, Json]:
        accept = {hdrs.ACCEPT: "application/json", **headers}
        try:
            async with self._http.request(
                method, url, data=form, headers=accept, timeout=_TIMEOUT, allow_redirects=False
            ) as answer:
                return answer.status, _object(await _read(answer), url)
        except (ClientError, TimeoutError, OSError) as error:
            # Only the kind: its text could repeat what was sent.
            raise SignInRefused(SignInFailure.PROVIDER_AWAY, f"{url}: {type(error).__name__}") from None


async def _read(answer: ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > _LARGEST:
            raise ClientError
    return bytes(body)


def _object(body: bytes, url: str) -> Json:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise SignInRefused(SignInFailure.PROVIDER_AWAY, f"{url} answers without a JSON object")
    return found
