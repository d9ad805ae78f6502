"""Verifies tokens that callers of the API send (RFC 9068, or ID tokens of a client that has no other)."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import ClientSession

from service.adapters.oidc.discovery import Discovery
from service.adapters.oidc.requests import ProviderClient
from service.adapters.oidc.signed_token import SignedTokens, audiences


class OidcBearerTokens:
    """See `service.domain.people.BearerTokens`. `audience`: what their claim `aud` must be, or contain."""

    def __init__(
        self,
        http: ClientSession,
        *,
        issuer: str,
        audience: str,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._discovery = Discovery(ProviderClient(http), issuer, now=monotonic)
        self._tokens = SignedTokens(self._discovery, issuer=issuer, what="the bearer token", now=now)
        self._audience = audience

    async def claims(self, token: str) -> Mapping[str, Any]:
        claims = await self._tokens.claims(token)
        if self._audience not in audiences(claims):
            raise self._tokens.refusal("it is for another audience")
        if "events" in claims:
            raise self._tokens.refusal("it tells of an event, such as a sign-out")
        return claims

    def remark(self) -> str | None:
        return self._discovery.remark()

    async def close(self) -> None:
        """End the reads that are under way."""
        await self._discovery.close()
