"""People who call the API with a token of the identity provider: who they are, and what their groups let them do."""

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from service.domain.errors import IdentityProviderUnavailable
from service.domain.identity import SignInFailure, SignInRefused, UserRule, texts
from service.domain.permissions import PERSON, Caller, CallerRole

log = logging.getLogger(__name__)

_REMEMBERED = 10_000
"""Tokens whose check is remembered."""
_REMEMBER_SECONDS = 60.0
"""For how long, at most: after that, a key that the provider has withdrawn no longer counts."""
_PROVIDER = frozenset({SignInFailure.PROVIDER_AWAY, SignInFailure.MISCONFIGURED})
_NOT_ADMITTED = frozenset({SignInFailure.NO_USER_ID, SignInFailure.UNVERIFIED_EMAIL, SignInFailure.NOT_ALLOWED})


class BearerTokens(Protocol):
    """The tokens of one identity provider."""

    async def claims(self, token: str) -> Mapping[str, object]:
        """What the provider says of the token's user. Raises SignInRefused unless the token is valid for this API."""

    def remark(self) -> str | None:
        """For /health: what is wrong; None when nothing is."""


class PersonNotAdmitted(Exception):
    """The token is genuine, but its user may not use the API."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonRule:
    """Who a person is, and in which groups operators and viewers are. Everybody else reaches only their own session."""

    user: UserRule
    operators: frozenset[str] = frozenset()
    viewers: frozenset[str] = frozenset()

    @property
    def claims(self) -> frozenset[str]:
        """The claims that it reads."""
        return self.user.claims | ({self.user.groups_claim} if self.operators or self.viewers else set())

    def caller(self, claims: Mapping[str, object]) -> Caller:
        """Raises SignInRefused."""
        user_id = self.user.user_id(claims)
        groups = texts(claims.get(self.user.groups_claim))
        role = CallerRole.USER
        if groups & self.viewers:
            role = CallerRole.VIEWER
        if groups & self.operators:
            role = CallerRole.OPERATOR
        only = user_id if role is CallerRole.USER else None
        since = claims["iat"]
        assert isinstance(since, int | float)  # noqa: S101 - the token's times were checked
        group = self.user.group(claims) if only is not None else None
        return Caller(name=PERSON, role=role, user_id=only, group=group, person=user_id, since=int(since))


class People:
    """The callers whom tokens name. A valid token is remembered for a minute."""

    def __init__(self, tokens: BearerTokens, rule: PersonRule, *, now: Callable[[], float] = time.time) -> None:
        self._tokens = tokens
        self._rule = rule
        self._now = now
        self._known: dict[bytes, tuple[float, Caller]] = {}

    async def caller(self, token: str) -> Caller | None:
        """Who sends the token; None when it is not valid, or no longer.

        Raises PersonNotAdmitted, and IdentityProviderUnavailable when the provider could not be asked for its keys.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        until, known = self._known.get(digest, (0.0, None))
        if known is not None and self._now() < until:
            return known
        try:
            claims = await self._tokens.claims(token)
            found = self._rule.caller(claims)
        except SignInRefused as refused:
            _check_reason(refused)
            return None
        self._remember(digest, claims, found)
        return found

    def remark(self) -> str | None:
        return self._tokens.remark()

    def _remember(self, digest: bytes, claims: Mapping[str, object], caller: Caller) -> None:
        expires = claims["exp"]
        assert isinstance(expires, int | float)  # noqa: S101 - the token's times were checked
        self._known.pop(digest, None)
        if len(self._known) >= _REMEMBERED:
            self._known.pop(next(iter(self._known)))
        self._known[digest] = (min(expires, self._now() + _REMEMBER_SECONDS), caller)


def _check_reason(refused: SignInRefused) -> None:
    """Raises where the token is not what is wrong."""
    log.info("a bearer token is refused", extra={"failure": refused.failure.value, "why": refused.reason})
    if refused.failure in _PROVIDER:
        raise IdentityProviderUnavailable from refused
    if refused.failure in _NOT_ADMITTED:
        raise PersonNotAdmitted from refused
