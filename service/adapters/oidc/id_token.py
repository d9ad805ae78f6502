"""Verifies ID tokens (OpenID Connect Core 1.0, 3.1.3.7)."""

import hmac
import time
from collections.abc import Callable, Mapping
from typing import Any

from service.adapters.oidc.discovery import Discovery
from service.adapters.oidc.signed_token import SignedTokens, audiences


class IdTokenVerifier:
    """`client_id` is whom the tokens must be for."""

    def __init__(
        self, discovery: Discovery, *, issuer: str, client_id: str, now: Callable[[], float] = time.time
    ) -> None:
        self._tokens = SignedTokens(discovery, issuer=issuer, what="the ID token", now=now)
        self._client_id = client_id

    async def verify(self, token: object, nonce: str) -> Mapping[str, Any]:
        """The token's claims. Raises SignInRefused."""
        claims = await self._tokens.claims(token)
        self._check_client(claims)
        given = claims.get("nonce")
        if not isinstance(given, str) or not hmac.compare_digest(given.encode(), nonce.encode()):
            raise self._tokens.refusal("the nonce is another sign-in's")
        return claims

    def _check_client(self, claims: Mapping[str, Any]) -> None:
        clients = audiences(claims)
        if self._client_id not in clients:
            raise self._tokens.refusal("it is for another client")
        party = claims.get("azp", None if len(clients) > 1 else self._client_id)
        if party != self._client_id:
            raise self._tokens.refusal("it was issued to another client")
