"""Sign-ins at the identity provider that have begun, and what the provider says of whoever completes one.

A sign-in is bound to the browser that has begun it by a cookie, the *attempt*. What the provider gets (`state`, `nonce`
and the code verifier) is computed from the attempt by a signing key, so the cookie contains none of it.

    attempt   <valid until>.<nonce and place, in base64>.<key>.<seal>
"""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from service.domain.access import MOST_SKEW
from service.domain.call_limit import CallLimit
from service.domain.identity import AuthorizationRequest, IdentityProvider, SignInFailure, SignInRefused
from service.domain.keyring import Keyring
from service.domain.ports import Tickets
from service.domain.signing_key import SEALED, SigningKey, decoded, encoded

ATTEMPT_SECONDS = 600
"""How long a user may take at the provider."""
_NONCE = 16
_ATTEMPT = re.compile(rf"(?P<until>[0-9]{{1,11}})\.(?P<body>[A-Za-z0-9_-]{{22,2800}})\.{SEALED}")


@dataclass(frozen=True, slots=True)
class Begun:
    """`url` is the provider's page. `cookie` is the attempt, which the browser keeps under a name with `state`."""

    url: str
    state: str
    cookie: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderAnswer:
    """What the provider sends the browser back with."""

    state: str
    code: str | None = None
    issuer: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Completed:
    """`begun` is in seconds since 1970. `place` is where the user wanted to go."""

    claims: Mapping[str, object]
    begun: int
    place: str


class SignInAttempts:
    """`kind` keeps an attempt of one client from being completed at another. Coroutines may raise SignInRefused."""

    def __init__(
        self,
        provider: IdentityProvider,
        keyring: Keyring,
        tickets: Tickets,
        *,
        kind: str = "attempt",
        now: Callable[[], float] = time.time,
    ) -> None:
        self.provider = provider
        self._keyring = keyring
        self._tickets = tickets
        self._kind = kind
        self._now = now
        self._calls = CallLimit()

    async def begin(self, place: str, *, choose_account: bool = False) -> Begun:
        """`choose_account`: the provider asks with which account, though the user is still signed in there."""
        key = await self._keyring.newest()
        body = encoded(secrets.token_bytes(_NONCE) + place.encode())
        content = f"{int(self._now()) + ATTEMPT_SECONDS}.{body}.{key.id}"
        request = _request(key, content)
        url = await self.provider.authorization_url(replace(request, choose_account=choose_account))
        return Begun(url, request.state, f"{content}.{key.seal(self._kind, content)}")

    async def complete(self, attempt: str, answer: ProviderAnswer, *, client: str) -> Completed:
        """What the provider says of whom it has sent back, if it was this browser that has begun the attempt.

        An attempt works once, so that nobody can use it to send the provider one code after the other. `client` is the
        browser's address: each gets a share of the calls that the provider gets.
        """
        if answer.code is None and answer.error and not answer.state:
            raise _declined(answer.error)  # some providers forget the state when the user cancels
        shape = _ATTEMPT.fullmatch(attempt)
        content = attempt.rpartition(".")[0]
        key = await self._keyring.verified(shape, self._kind, content)
        if shape is None or key is None:
            raise SignInRefused(SignInFailure.EXPIRED, "this browser has not begun it")
        request = _request(key, content)
        if not hmac.compare_digest(request.state.encode(), answer.state.encode("utf-8", "surrogateescape")):
            raise SignInRefused(SignInFailure.EXPIRED, "the state is another attempt's")
        if int(shape["until"]) <= self._now():
            raise SignInRefused(SignInFailure.EXPIRED, "the attempt is too old")
        if answer.code is None:
            raise _declined(answer.error)
        async with self._calls.turn(client):
            used = hashlib.sha256(request.state.encode()).hexdigest()
            if not await self._tickets.use_once(used, timedelta(seconds=ATTEMPT_SECONDS + MOST_SKEW)):
                raise SignInRefused(SignInFailure.CODE_REFUSED, "the attempt was used before")
            claims = await self.provider.claims(answer.code, request, answer.issuer)
        return Completed(claims, int(shape["until"]) - ATTEMPT_SECONDS, _place(shape["body"]))

    async def place(self, attempt: str) -> str | None:
        """Where the user wanted to go when the attempt began, however long ago; None for one that is not genuine."""
        shape = _ATTEMPT.fullmatch(attempt)
        if shape is None or await self._keyring.verified(shape, self._kind, attempt.rpartition(".")[0]) is None:
            return None
        return _place(shape["body"])


def _request(key: SigningKey, content: str) -> AuthorizationRequest:
    return AuthorizationRequest(
        state=key.seal("state", content), nonce=key.seal("nonce", content), verifier=key.seal("verifier", content)
    )


def _place(body: str) -> str:
    return decoded(body)[_NONCE:].decode()


def _declined(error: str | None) -> SignInRefused:
    """`error` is from the URL, so anybody may have written it."""
    known: Mapping[str, SignInFailure] = {
        "access_denied": SignInFailure.CANCELLED,
        "login_required": SignInFailure.CANCELLED,
        "consent_required": SignInFailure.CANCELLED,
        "interaction_required": SignInFailure.CANCELLED,
        "account_selection_required": SignInFailure.CANCELLED,
        "temporarily_unavailable": SignInFailure.PROVIDER_AWAY,
        "server_error": SignInFailure.PROVIDER_AWAY,
    }
    name = error if error and re.fullmatch("[a-z_]{1,40}", error) else "no code and no known error"
    return SignInRefused(known.get(name, SignInFailure.MISCONFIGURED), name)
