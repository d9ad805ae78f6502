"""Who has signed in at an identity provider, by what it says about them (its claims), and why a sign-in fails."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from service.domain.names import is_user_id


class SignInFailure(StrEnum):
    CANCELLED = "cancelled"
    """The user, or the provider, has declined."""
    EXPIRED = "expired"
    """It took too long, or this browser has not begun it."""
    CODE_REFUSED = "code-refused"
    """The provider refuses the code: it was used before, or is too old."""
    PROVIDER_AWAY = "provider-away"
    """The provider does not answer."""
    BUSY = "busy"
    """Too many users sign in at the same time."""
    MISCONFIGURED = "misconfigured"
    """The provider refuses the service, or describes itself in another way than the settings."""
    CLOCKS = "clocks"
    """The token is not valid yet, or no longer: the clocks of provider and service differ."""
    INVALID_TOKEN = "invalid-token"  # noqa: S105 - not a secret
    """The token's signature or content is not what it must be."""
    NO_USER_ID = "no-user-id"
    """The claim that names the user is missing, or is no user id."""
    UNVERIFIED_EMAIL = "unverified-email"
    """The provider does not say that the address is the user's."""
    NOT_ALLOWED = "not-allowed"
    """The user is in none of the allowed groups or domains."""
    NO_SESSION = "no-session"
    """The user has no session, and none may be created here."""
    NOT_THEIRS = "not-theirs"
    """The workspace asked for is not the user's, or does not exist: nobody learns which."""
    REVOKED = "revoked"
    """Access to the user's workspace is revoked until a time that is still to come."""


class SignInRefused(Exception):
    """`reason` is for the log. It contains nothing secret."""

    def __init__(self, failure: SignInFailure, reason: str = "") -> None:
        super().__init__(f"{failure.value}: {reason}" if reason else failure.value)
        self.failure = failure
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationRequest:
    """What one sign-in sends to the provider.

    `verifier` proves later that whoever exchanges the code has also asked for it.
    """

    state: str
    nonce: str
    verifier: str
    choose_account: bool = False
    """The provider lets the user choose an account, though they are still signed in with one there."""


class IdentityProvider(Protocol):
    """An OpenID Connect provider. Every method may raise SignInRefused."""

    async def authorization_url(self, request: AuthorizationRequest) -> str:
        """Where the user signs in."""

    async def claims(self, code: str, request: AuthorizationRequest, issuer: str | None) -> Mapping[str, object]:
        """Exchange the code, and return what the provider says of the user: the claims of a verified ID token.

        `issuer` is who has sent the code, where the provider says so.
        """

    async def sign_out_url(self) -> str | None:
        """Where the user signs out at the provider; None when the provider has no such page."""

    def remark(self) -> str | None:
        """For /health: what is wrong; None when nothing is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRule:
    """Which claim is the user id, and whom the operator allows. Empty groups or domains: everybody."""

    claim: str = "email"
    verified_email: bool = True
    """Trust an e-mail address only if the provider says that it has verified it."""
    groups_claim: str = "groups"
    groups: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()
    """Of e-mail addresses, in lower case."""
    quotas: tuple[str, ...] = ()
    """The groups that have a quota of awake sessions."""

    @property
    def claims(self) -> frozenset[str]:
        """The claims that it reads."""
        wanted = {self.claim}
        wanted |= {self.groups_claim} if self.groups or self.quotas else set()
        wanted |= {"email"} if self.domains else set()
        wanted |= {"email_verified"} if self.verified_email and "email" in wanted else set()
        return frozenset(wanted)

    def user_id(self, claims: Mapping[str, object]) -> str:
        """The user's id. Raises SignInRefused."""
        user_id = claims.get(self.claim)
        if not isinstance(user_id, str) or not is_user_id(user_id):
            raise SignInRefused(SignInFailure.NO_USER_ID, f"the claim {self.claim} is missing or is no user id")
        if "email_verified" in self.claims and claims.get("email_verified") is not True:
            raise SignInRefused(SignInFailure.UNVERIFIED_EMAIL)
        if self.domains and _domain(claims.get("email")) not in self.domains:
            raise SignInRefused(SignInFailure.NOT_ALLOWED, "the domain of the address")
        if self.groups and not self.groups & texts(claims.get(self.groups_claim)):
            raise SignInRefused(SignInFailure.NOT_ALLOWED, "the groups")
        return user_id

    def group(self, claims: Mapping[str, object]) -> str | None:
        """The group whose quota the user's session counts for: the first that has one."""
        theirs = texts(claims.get(self.groups_claim))
        return next((group for group in self.quotas if group in theirs), None)


def _domain(email: object) -> str:
    return email.rpartition("@")[2].lower() if isinstance(email, str) else ""


def texts(value: object) -> frozenset[str]:
    """The texts of a claim that is one, or a list of them."""
    values = value if isinstance(value, list) else [value]
    return frozenset(each for each in values if isinstance(each, str))
