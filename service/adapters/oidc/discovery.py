"""What the provider says about itself (OpenID Connect Discovery 1.0) and its keys, cached and refreshed."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from service.adapters.oidc.cached import Cached
from service.adapters.oidc.requests import Json, ProviderClient
from service.domain.identity import SignInFailure, SignInRefused

log = logging.getLogger(__name__)

Key = RSAKey | ECKey | OKPKey
_KINDS: dict[str, type[Key]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
"""Public keys only: with a symmetric key, whoever can verify a token can also make one."""


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
    account_prompt: str
    """The value of `prompt` that lets a user choose another account."""


class Discovery:
    """Reads metadata and keys at the first use, and again every hour, so that a withdrawn key is no longer accepted."""

    def __init__(self, client: ProviderClient, issuer: str, *, now: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._issuer = issuer
        self._metadata = Cached("the identity provider's metadata", self._read_metadata, now)
        self._keys = Cached("the identity provider's keys", self._read_keys, now)

    def remark(self) -> str | None:
        """Why the provider could not be read the last time."""
        failure = self._metadata.failure or self._keys.failure
        return f"the identity provider cannot be used: {failure.reason}" if failure else None

    async def metadata(self) -> Metadata:
        """Raises SignInRefused when the provider was never read, and cannot be now."""
        return await self._metadata.get()

    async def keys(self, key_id: str | None) -> Sequence[Key]:
        """The keys that may have signed a token with that `kid`; all of them for None. Empty when there is none."""
        return _matching(await self._keys.get(), key_id)

    async def renewed_keys(self, key_id: str | None) -> Sequence[Key]:
        """The same, after reading the keys again, unless that was done a moment ago. Raises SignInRefused."""
        return _matching(await self._keys.renew(), key_id)

    async def close(self) -> None:
        await self._metadata.close()
        await self._keys.close()

    async def _read_metadata(self) -> Metadata:
        url = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
        return _metadata(await self._client.get(url), self._issuer)

    async def _read_keys(self) -> Sequence[Key]:
        return _keys(await self._client.get((await self.metadata()).jwks_uri))


def _matching(keys: Sequence[Key], key_id: str | None) -> Sequence[Key]:
    return [key for key in keys if key_id is None or key.kid == key_id]


def _metadata(found: Json, issuer: str) -> Metadata:
    if found.get("issuer") != issuer:
        other = f"{found.get('issuer')!r:.200}"
        raise SignInRefused(SignInFailure.MISCONFIGURED, f"OIDC_ISSUER must be what its metadata name: {other}")
    prompts = _names(found, "prompt_values_supported", "select_account")
    return Metadata(
        authorization_endpoint=_endpoint(found, "authorization_endpoint", issuer),
        token_endpoint=_endpoint(found, "token_endpoint", issuer),
        jwks_uri=_endpoint(found, "jwks_uri", issuer),
        userinfo_endpoint=_optional_endpoint(found, "userinfo_endpoint", issuer),
        end_session_endpoint=_optional_endpoint(found, "end_session_endpoint", issuer),
        algorithms=_names(found, "id_token_signing_alg_values_supported", "RS256"),
        auth_methods=_names(found, "token_endpoint_auth_methods_supported", "client_secret_basic"),
        names_issuer=found.get("authorization_response_iss_parameter_supported") is True,
        # Only few providers list the values. Without a choice, a new sign-in is the way to another account.
        account_prompt="select_account" if "select_account" in prompts or "login" not in prompts else "login",
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
