"""What the provider says about itself (OpenID Connect Discovery 1.0) and its keys, cached and refreshed."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from service.adapters.oidc.requests import Json, ProviderClient
from service.domain.identity import SignInFailure, SignInRefused

log = logging.getLogger(__name__)

Key = RSAKey | ECKey | OKPKey
_KINDS: dict[str, type[Key]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
"""Public keys only: with a symmetric key, whoever can verify a token can also make one."""
_REFRESH = 3600.0
"""Seconds after which metadata and keys are read again, so that a withdrawn key is no longer accepted."""
_RETRY = 2.0
"""Seconds between two attempts while the provider is away."""
_STALE_RETRY = 60.0
"""The same while what was read before is still used: sign-ins wait for an attempt."""
_MIN_KEY_INTERVAL = 10.0
"""Seconds between two reads for tokens with an unknown key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None
    end_session_endpoint: str | None
    algorithms: frozenset[str]
    """That it may sign ID tokens with."""
    auth_methods: frozenset[str]
    """By which a client may prove who it is."""
    names_issuer: bool
    """It adds `iss` to its answers (RFC 9207)."""


class Discovery:
    """Reads the metadata at the first use. What was read once is used until it can be read again."""

    def __init__(self, client: ProviderClient, issuer: str, *, now: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._issuer = issuer
        self._now = now
        self._lock = asyncio.Lock()
        self._metadata: Metadata | None = None
        self._read_at = self._failed_at = self._keys_read_at = self._keys_tried_at = float("-inf")
        self._keys: Sequence[Key] = ()
        self._failure: SignInRefused | None = None

    def remark(self) -> str | None:
        """Why the provider could not be read the last time."""
        return f"the identity provider cannot be used: {self._failure.reason}" if self._failure else None

    async def metadata(self) -> Metadata:
        """Raises SignInRefused when the provider was never read, and cannot be now."""
        async with self._lock:
            now = self._now()
            if self._metadata is None or now - self._read_at > _REFRESH:
                await self._refresh()
            if self._metadata is None:
                failure = self._failure or SignInRefused(SignInFailure.PROVIDER_AWAY)
                raise SignInRefused(failure.failure, failure.reason)
            return self._metadata

    async def keys(self, key_id: str | None) -> Sequence[Key]:
        """The keys that may have signed a token with that `kid`; all of them for None. Empty when there is none."""
        metadata = await self.metadata()
        async with self._lock:
            due = self._keys_read_at < self._read_at or not self._matching(key_id)
            if due and self._now() - self._keys_tried_at > _MIN_KEY_INTERVAL:
                await self._read_keys(metadata.jwks_uri)
            found = self._matching(key_id)
            if not found and self._keys_read_at < self._keys_tried_at:
                raise SignInRefused(SignInFailure.PROVIDER_AWAY, "its keys cannot be read")
            return found

    async def _read_keys(self, url: str) -> None:
        """Those that were read before stay in use when this fails."""
        self._keys_tried_at = self._now()
        try:
            self._keys = _keys(await self._client.get(url))
            self._keys_read_at = self._keys_tried_at
        except SignInRefused as failure:
            log.warning("the keys of the identity provider cannot be read", extra={"why": failure.reason})

    def _matching(self, key_id: str | None) -> Sequence[Key]:
        return [key for key in self._keys if key_id is None or key.kid == key_id]

    async def _refresh(self) -> None:
        if self._now() - self._failed_at < (_RETRY if self._metadata is None else _STALE_RETRY):
            return
        try:
            url = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
            self._metadata = _metadata(await self._client.get(url), self._issuer)
            self._read_at, self._keys_tried_at = self._now(), float("-inf")
            self._failure = None
        except SignInRefused as failure:
            self._failed_at, self._failure = self._now(), failure
            log.warning("the identity provider cannot be read", extra={"why": failure.reason})


def _metadata(found: Json, issuer: str) -> Metadata:
    if found.get("issuer") != issuer:
        raise SignInRefused(SignInFailure.MISCONFIGURED, "its metadata name another issuer than OIDC_ISSUER")
    return Metadata(
        authorization_endpoint=_endpoint(found, "authorization_endpoint", issuer),
        token_endpoint=_endpoint(found, "token_endpoint", issuer),
        jwks_uri=_endpoint(found, "jwks_uri", issuer),
        userinfo_endpoint=_optional_endpoint(found, "userinfo_endpoint", issuer),
        end_session_endpoint=_optional_endpoint(found, "end_session_endpoint", issuer),
        algorithms=_names(found, "id_token_signing_alg_values_supported", "RS256"),
        auth_methods=_names(found, "token_endpoint_auth_methods_supported", "client_secret_basic"),
        names_issuer=found.get("authorization_response_iss_parameter_supported") is True,
    )


def _endpoint(found: Json, name: str, issuer: str) -> str:
    url = _optional_endpoint(found, name, issuer)
    if url is None:
        raise SignInRefused(SignInFailure.MISCONFIGURED, f"its metadata have no usable {name}")
    return url


def _optional_endpoint(found: Json, name: str, issuer: str) -> str | None:
    """The URL, unless it is less protected than the issuer's."""
    url = found.get(name)
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    safe = parts.scheme == "https" or (parts.scheme == "http" and issuer.startswith("http://"))
    return url if safe and parts.hostname else None


def _names(found: Json, name: str, default: str) -> frozenset[str]:
    names = found.get(name)
    return (
        frozenset(each for each in names if isinstance(each, str)) if isinstance(names, list) else frozenset({default})
    )


def _keys(found: Json) -> Sequence[Key]:
    """The keys that verify signatures; those that cannot be read are left out."""
    keys: list[Key] = []
    listed = found.get("keys")
    for item in listed if isinstance(listed, list) else ():
        kind = _KINDS.get(str(item.get("kty"))) if isinstance(item, dict) else None
        if kind is None or item.get("use", "sig") != "sig":
            continue
        try:
            keys.append(kind.import_key(item))
        except (JoseError, ValueError, TypeError, KeyError):
            log.warning("a key of the identity provider cannot be read")
    return keys
