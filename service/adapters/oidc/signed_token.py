"""Verifies what is common to all tokens that a provider signs: signature, issuer, subject and times (RFC 7519)."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import ExpiredTokenError, InvalidClaimError, JoseError

from service.adapters.oidc.discovery import Discovery, Key
from service.domain.identity import SignInFailure, SignInRefused

_ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
)
"""Never `none`, and never HMAC, which would take a public key for the secret."""
SKEW = 120
"""Seconds by which the provider's clock may differ."""
_LONGEST = 2**16


class _Registry(jws.JWSRegistry):
    """Allows certificates and a provider's own parameters in the header, which is not used but for `alg` and `kid`."""

    max_header_length = 2**14
    max_signature_length = 2**12


class SignedTokens:
    """`what` names the kind of token in the reasons of refusals."""

    def __init__(self, discovery: Discovery, *, issuer: str, what: str, now: Callable[[], float] = time.time) -> None:
        self._discovery = discovery
        self._issuer = issuer
        self._what = what
        self._now = now

    async def claims(self, token: object) -> Mapping[str, Any]:
        """The token's claims; whom it is for remains to be checked. Raises SignInRefused."""
        if not isinstance(token, str) or not token.isascii() or len(token) > _LONGEST:
            raise self.refusal("there is none")
        claims = await self._verify_signature(token)
        self._check_times(claims)
        if claims.get("iss") != self._issuer:
            raise self.refusal("another issuer has made it")
        if not isinstance(claims.get("sub"), str) or not claims["sub"]:
            raise self.refusal("it names no subject")
        return claims

    def refusal(self, reason: str) -> SignInRefused:
        return SignInRefused(SignInFailure.INVALID_TOKEN, f"{self._what} is refused: {reason}")

    async def _verify_signature(self, token: str) -> Mapping[str, Any]:
        try:
            header = jws.extract_compact(token.encode(), registry=_Registry()).protected
        except (JoseError, ValueError, TypeError, KeyError):
            raise self.refusal("it cannot be read") from None
        algorithm, key_id = header.get("alg"), header.get("kid")
        allowed = _ALGORITHMS & (await self._discovery.metadata()).algorithms
        if not isinstance(algorithm, str) or algorithm not in allowed or not isinstance(key_id, str | None):
            raise self.refusal("its algorithm is not one of the provider's")
        claims = _signed_claims(token, algorithm, await self._discovery.keys(key_id))
        if claims is None:
            # The provider may have new keys since, which need not have new names.
            claims = _signed_claims(token, algorithm, await self._discovery.renewed_keys(key_id))
        if claims is None:
            raise self.refusal("none of the provider's keys has signed it")
        return claims

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        needed = jwt.JWTClaimsRegistry(
            now=int(self._now()), leeway=SKEW, exp={"essential": True}, iat={"essential": True}
        )
        try:
            needed.validate({name: claims[name] for name in ("exp", "iat", "nbf") if name in claims})
        except ExpiredTokenError:
            raise SignInRefused(SignInFailure.CLOCKS, f"{self._what} has expired") from None
        except InvalidClaimError as error:
            if isinstance(claims.get(error.claim or ""), int | float):
                raise SignInRefused(SignInFailure.CLOCKS, f"{self._what} is not valid yet") from None
            raise self.refusal("its times cannot be read") from None
        except (JoseError, OverflowError, ValueError):
            raise self.refusal("its times cannot be read") from None


def audiences(claims: Mapping[str, Any]) -> Sequence[object]:
    """Whom the token is for."""
    audience = claims.get("aud")
    return audience if isinstance(audience, list) else [audience]


def _signed_claims(token: str, algorithm: str, keys: Sequence[Key]) -> Mapping[str, Any] | None:
    """None when none of the keys has signed the token."""
    for key in keys:
        try:
            registry = _Registry(algorithms=[algorithm], strict_check_header=False)
            return jwt.decode(token, key, algorithms=[algorithm], registry=registry).claims
        except (JoseError, ValueError, TypeError):
            continue  # a key of another kind, or not the one
    return None
