"""The IdentityProvider port: authorization code flow with PKCE (RFC 7636), as a confidential or a public client."""

import base64
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote_plus, urlencode

from aiohttp import ClientSession

from service.adapters.oidc.discovery import Discovery, Metadata
from service.adapters.oidc.id_token import IdTokenVerifier
from service.adapters.oidc.requests import Json, ProviderClient
from service.domain.identity import AuthorizationRequest, SignInFailure, SignInRefused

_REFUSED_CODE = "invalid_grant"
_BASIC, _POST = "client_secret_basic", "client_secret_post"


class OidcProvider:
    """See `service.domain.identity.IdentityProvider`.

    Without a `secret`, the client is a public one. `wanted` are the claims that must be there: what the ID token lacks
    is read from the provider's userinfo endpoint.
    """

    def __init__(
        self,
        http: ClientSession,
        *,
        issuer: str,
        client_id: str,
        secret: str,
        scopes: str,
        redirect_uri: str,
        signed_out_uri: str,
        wanted: Sequence[str],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = ProviderClient(http)
        self._issuer = issuer
        self._client_id = client_id
        self._secret = secret
        self._scopes = scopes
        self._redirect_uri = redirect_uri
        self._signed_out_uri = signed_out_uri
        self._wanted = wanted
        self._discovery = Discovery(self._client, issuer, now=now)
        self._verifier = IdTokenVerifier(self._discovery, issuer=issuer, client_id=client_id)

    def remark(self) -> str | None:
        return self._discovery.remark()

    async def close(self) -> None:
        """End the reads that are under way."""
        await self._discovery.close()

    async def authorization_url(self, request: AuthorizationRequest) -> str:
        metadata = await self._discovery.metadata()
        digest = hashlib.sha256(request.verifier.encode()).digest()
        return _with_query(
            metadata.authorization_endpoint,
            response_type="code",
            client_id=self._client_id,
            redirect_uri=self._redirect_uri,
            scope=self._scopes,
            state=request.state,
            nonce=request.nonce,
            code_challenge=base64.urlsafe_b64encode(digest).decode().rstrip("="),
            code_challenge_method="S256",
            **({"prompt": metadata.account_prompt} if request.choose_account else {}),
        )

    async def claims(self, code: str, request: AuthorizationRequest, issuer: str | None) -> Mapping[str, Any]:
        metadata = await self._discovery.metadata()
        if issuer not in ((self._issuer,) if metadata.names_issuer else (self._issuer, None)):
            raise SignInRefused(SignInFailure.INVALID_TOKEN, "another issuer has sent the code")
        tokens = await self._exchange(metadata, code, request.verifier)
        claims = await self._verifier.verify(tokens.get("id_token"), request.nonce)
        return await self._completed(metadata, claims, tokens.get("access_token"))

    async def sign_out_url(self) -> str | None:
        endpoint = (await self._discovery.metadata()).end_session_endpoint
        if endpoint is None:
            return None
        return _with_query(endpoint, client_id=self._client_id, post_logout_redirect_uri=self._signed_out_uri)

    async def _exchange(self, metadata: Metadata, code: str, verifier: str) -> Json:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": verifier,
        }
        headers: dict[str, str] = {}
        if self._secret and (_BASIC in metadata.auth_methods or _POST not in metadata.auth_methods):
            pair = f"{quote_plus(self._client_id)}:{quote_plus(self._secret)}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form["client_id"] = self._client_id
            form |= {"client_secret": self._secret} if self._secret else {}
        status, answer = await self._client.post(metadata.token_endpoint, form, headers)
        if status == HTTPStatus.OK:
            return answer
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise SignInRefused(SignInFailure.PROVIDER_AWAY, f"its token endpoint answers {status}")
        if answer.get("error") == _REFUSED_CODE:
            raise SignInRefused(SignInFailure.CODE_REFUSED)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            raise SignInRefused(SignInFailure.PROVIDER_AWAY, "its token endpoint has had too many requests")
        raise SignInRefused(
            SignInFailure.MISCONFIGURED,
            f"its token endpoint answers {status}: check OIDC_CLIENT_ID, OIDC_CLIENT_SECRET and the redirect URI",
        )

    async def _completed(
        self, metadata: Metadata, claims: Mapping[str, Any], access_token: object
    ) -> Mapping[str, Any]:
        """The claims, completed by those of the userinfo endpoint."""
        missing = [name for name in self._wanted if name not in claims]
        if not missing or metadata.userinfo_endpoint is None or not isinstance(access_token, str):
            return claims
        if not access_token.isascii() or not access_token.isprintable():
            return claims
        found = await self._client.get(metadata.userinfo_endpoint, bearer=access_token)
        if found.get("sub") != claims["sub"]:
            raise SignInRefused(SignInFailure.INVALID_TOKEN, "the userinfo endpoint speaks of another user")
        if "email" in claims and claims["email"] != found.get("email"):
            found.pop("email_verified", None)  # it speaks of another address
        return {**found, **claims}


def _with_query(endpoint: str, **parameters: str) -> str:
    separator = "&" if "?" in endpoint else "?"
    return f"{endpoint}{separator}{urlencode(parameters)}"
