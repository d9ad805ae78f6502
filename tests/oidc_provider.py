"""An OpenID Connect provider that a test controls: it checks what it gets, and answers as badly as it is told to."""

import asyncio
import base64
import functools
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from aiohttp import web
from aiohttp.test_utils import TestServer
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

CLIENT, SECRET = "workspaces", "p4ss:word/&"
REMOVED = "(removed)"
"""The value of a member of the metadata that is not there."""
Claims = dict[str, Any]
Key = RSAKey | ECKey


@functools.cache
def rsa_key(name: str) -> RSAKey:
    """One for each name: to make one takes half a second."""
    return RSAKey.generate_key(2048, {"kid": name})


def _basic(client: str, secret: str) -> str:
    pair = urlencode({client: secret}).replace("=", ":")
    return "Basic " + base64.b64encode(pair.encode()).decode()


@dataclass
class Provider:
    """`user` are the claims of whoever signs in; the others bend what it sends."""

    user: Claims = field(default_factory=lambda: {"sub": "1", "email": "ann@example.com", "email_verified": True})
    key: Key = field(default_factory=lambda: rsa_key("first"))
    published: list[dict[str, Any]] | None = None
    """The keys of its JWKS; None: its own."""
    algorithm: str = "RS256"
    algorithms: list[str] = field(default_factory=lambda: ["RS256", "ES256"])
    metadata: Claims = field(default_factory=dict)
    """Members of its metadata that differ."""
    bend: Callable[[Claims], Claims] = dict
    """Changes the claims of its ID tokens."""
    forge: Callable[[str], str] = str
    """Changes its ID tokens."""
    userinfo: Claims | None = None
    away: bool = False
    token_status: int | None = None
    secret: str = SECRET
    calls: list[str] = field(default_factory=list)
    """Paths that were requested."""
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    slow: dict[str, asyncio.Event] = field(default_factory=dict)
    """By path: what an answer waits for."""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Provider"]:
        app = web.Application(middlewares=[self._count])
        app.add_routes(
            [
                web.get("/.well-known/openid-configuration", self._discovery),
                web.get("/jwks", self._jwks),
                web.post("/token", self._token),
                web.get("/userinfo", self._userinfo),
            ]
        )
        async with TestServer(app) as server:
            self.issuer = str(server.make_url("")).rstrip("/")
            yield self

    def sign_in(self, url: str, **more: str) -> str:
        """What a user does: the query with which the browser comes back from that URL."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        assert asked["client_id"] == CLIENT
        code = f"code-{len(self.codes)}"
        self.codes[code] = asked
        return urlencode({"code": code, "state": asked["state"], **more})

    @web.middleware
    async def _count(self, request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        self.calls.append(request.path)
        if request.path in self.slow:
            await self.slow[request.path].wait()
        if self.away:
            raise web.HTTPBadGateway
        response: web.StreamResponse = await handler(request)
        return response

    async def _discovery(self, _: web.Request) -> web.Response:
        found = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "end_session_endpoint": f"{self.issuer}/logout",
            "id_token_signing_alg_values_supported": self.algorithms,
        }
        return web.json_response({name: value for name, value in (found | self.metadata).items() if value != REMOVED})

    async def _jwks(self, _: web.Request) -> web.Response:
        keys = self.published if self.published is not None else [self.key.as_dict(private=False)]
        return web.json_response({"keys": keys})

    async def _userinfo(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer access"
        return web.json_response(self.userinfo or {"sub": self.user["sub"]})

    async def _token(self, request: web.Request) -> web.Response:
        if self.token_status is not None:
            return web.json_response({"error": "server_error"}, status=self.token_status)
        form = await request.post()
        asked = self.codes.pop(str(form.get("code")), None)
        digest = hashlib.sha256(str(form.get("code_verifier")).encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if asked is None or asked["code_challenge"] != challenge or asked["redirect_uri"] != form["redirect_uri"]:
            return web.json_response({"error": "invalid_grant"}, status=400)
        if request.headers.get("Authorization") != _basic(CLIENT, self.secret):
            return web.json_response({"error": "invalid_client"}, status=401)
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"], **self.user}
        header = {"alg": self.algorithm, "kid": self.key.kid}
        token = jwt.encode(header, self.bend(claims), self.key, algorithms=[self.algorithm])
        return web.json_response({"access_token": "access", "token_type": "Bearer", "id_token": self.forge(token)})


def unsigned(token: str) -> str:
    """The token with `alg: none`."""
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none", "kid": "first"}).encode()).decode().rstrip("=")
    return f"{header}.{token.split('.')[1]}."


def signed_with_public_key(token: str, provider: Provider) -> str:
    """The token with HMAC, whose secret is the provider's public key."""
    header = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": "first"}).encode()).decode().rstrip("=")
    content = f"{header}.{token.split('.')[1]}"
    assert isinstance(provider.key, RSAKey)
    mac = hmac.digest(provider.key.as_pem(private=False), content.encode(), "sha256")
    return f"{content}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def signed_with_secret(token: str, secret: bytes) -> str:
    """The token with HMAC, by a secret that the provider publishes."""
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return jwt.encode({"alg": "HS256", "kid": "first"}, claims, OctKey.import_key(secret), algorithms=["HS256"])
