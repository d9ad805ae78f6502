"""Sign users in at an identity provider, and lead them into their own workspace.

A sign-in is bound to the browser that has begun it by a cookie, the *attempt*. What the provider gets (`state`, `nonce`
and the code verifier) is computed from the attempt by a signing key, so the cookie contains none of it. The cookie of a
signed-in user is for the gateway's own domain, never for a workspace.

    attempt   <valid until>.<nonce, workspace and path, in base64>.<key>.<seal>
    user      <valid until>.<since>.<user id, in base64>.<key>.<seal>
"""

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from service.domain.access import MOST_SKEW, WorkspaceAccess, WorkspaceLink
from service.domain.call_limit import CallLimit
from service.domain.errors import SessionUnreadable
from service.domain.identity import (
    AuthorizationRequest,
    IdentityProvider,
    SignInFailure,
    SignInRefused,
    UserRule,
)
from service.domain.keyring import Keyring
from service.domain.names import SessionId
from service.domain.ports import Tickets, WorkloadCache
from service.domain.provisioning import Provisioner
from service.domain.queries import SessionQueries
from service.domain.signing_key import SEALED, SigningKey

ATTEMPT_SECONDS = 600
"""How long a user may take at the provider."""
_LONGEST_PATH = 1500
"""Characters of a path that an attempt remembers; its cookie must stay below 4 KB."""
_UUID = 8
_NONCE = 16
_NOWHERE = "-" * _UUID
_ATTEMPT = re.compile(rf"(?P<until>[0-9]{{1,11}})\.(?P<body>[A-Za-z0-9_-]{{32,2800}})\.{SEALED}")
_USER = re.compile(rf"(?P<until>[0-9]{{1,11}})\.(?P<since>[0-9]{{1,11}})\.(?P<user>[A-Za-z0-9_-]{{2,340}})\.{SEALED}")


@dataclass(frozen=True, slots=True)
class Target:
    """A page of a workspace: the session, and a path with its query."""

    uuid: SessionId
    path: str


@dataclass(frozen=True, slots=True)
class User:
    """`since` is when they signed in, in seconds since 1970."""

    user_id: str
    since: int


@dataclass(frozen=True, slots=True)
class Begun:
    """`url` is the provider's page. `cookie` is the attempt, which the browser keeps under a name with `state`."""

    url: str
    state: str
    cookie: str


@dataclass(frozen=True, slots=True)
class SignedIn:
    """`cookie` signs the user in to the domain, for `seconds`. `target` is the page that they asked for."""

    user: User
    cookie: str
    seconds: int
    target: Target | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderAnswer:
    """What the provider sends the browser back with."""

    state: str
    code: str | None = None
    issuer: str | None = None
    error: str | None = None


class SignIn:
    """`provisioner` creates the sessions of new users; without one, only users who have a session get in.

    `stay`: how long a user stays signed in to the domain. Every coroutine may raise SignInRefused and SessionError.
    """

    def __init__(
        self,
        *,
        provider: IdentityProvider,
        rule: UserRule,
        keyring: Keyring,
        access: WorkspaceAccess,
        tickets: Tickets,
        queries: SessionQueries,
        cache: WorkloadCache,
        provisioner: Provisioner | None,
        stay: timedelta,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.provider = provider
        self._rule = rule
        self._keyring = keyring
        self._access = access
        self._tickets = tickets
        self._calls = CallLimit()
        self._queries = queries
        self._cache = cache
        self._provisioner = provisioner
        self._stay = int(stay.total_seconds())
        self._now = now

    async def begin(self, target: Target | None, *, choose_account: bool = False) -> Begun:
        """`choose_account`: the provider asks with which account, though the user is still signed in there."""
        key = await self._keyring.newest()
        place = f"{target.uuid}{target.path}" if target and len(target.path) <= _LONGEST_PATH else _NOWHERE
        body = _encoded(secrets.token_bytes(_NONCE) + place.encode())
        content = f"{int(self._now()) + ATTEMPT_SECONDS}.{body}.{key.id}"
        request = _request(key, content)
        url = await self.provider.authorization_url(replace(request, choose_account=choose_account))
        return Begun(url, request.state, f"{content}.{key.seal('attempt', content)}")

    async def complete(self, attempt: str, answer: ProviderAnswer, *, client: str) -> SignedIn:
        """The user whom the provider has sent back, if it was this browser that has begun the attempt.

        An attempt works once, so that nobody can use it to send the provider one code after the other. `client` is the
        browser's address: each gets a share of the calls that the provider gets.
        """
        if answer.code is None and answer.error and not answer.state:
            raise _declined(answer.error)  # some providers forget the state when the user cancels
        shape = _ATTEMPT.fullmatch(attempt)
        content = attempt.rpartition(".")[0]
        key = await self._keyring.verified(shape, "attempt", content)
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
        user_id = self._rule.user_id(claims)
        begun = int(shape["until"]) - ATTEMPT_SECONDS
        user = User(user_id, self._sign_in_time(await self._find(user_id), begun))
        until = int(self._now()) + self._stay
        newest = await self._keyring.newest()
        content = f"{until}.{user.since}.{_encoded(user_id.encode())}.{newest.id}"
        cookie = f"{content}.{newest.seal('user', content)}"
        return SignedIn(user, cookie, self._stay, _target(shape["body"]))

    async def target(self, attempt: str) -> Target | None:
        """The page that was asked for when the attempt began, however long ago."""
        shape = _ATTEMPT.fullmatch(attempt)
        if shape is None or await self._keyring.verified(shape, "attempt", attempt.rpartition(".")[0]) is None:
            return None
        return _target(shape["body"])

    async def user(self, cookie: str) -> User | None:
        """The user whom the domain's cookie names; None unless it is genuine and still valid."""
        shape = _USER.fullmatch(cookie)
        if shape is None or int(shape["until"]) <= self._now():
            return None
        if await self._keyring.verified(shape, "user", cookie.rpartition(".")[0]) is None:
            return None
        return User(_decoded(shape["user"]).decode(), int(shape["since"]))

    async def link(self, user: User, target: Target | None) -> WorkspaceLink | None:
        """A link into the user's own workspace; None when they have to sign in again, because access was revoked.

        Without a target, a user without a session gets one. Who asks for another's workspace gets none.
        """
        self._access.check_knows_revocations()
        uuid = await self._find(user.user_id)
        if uuid is not None and self._cache.workload(uuid).sign_ins_unknown:
            raise SessionUnreadable
        if target is not None and target.uuid != uuid:
            raise SignInRefused(SignInFailure.NOT_THEIRS)
        fresh = user.since + ATTEMPT_SECONDS >= self._now()
        existed = uuid is not None and not self._cache.workload(uuid).released
        if uuid is not None and self._is_outdated(user, uuid):
            return None
        if self._provisioner is not None:
            if not (existed or fresh):
                return None  # with the session, a revocation may have gone: only the provider knows
            uuid = (await self._provisioner.create(user.user_id)).uuid
        elif uuid is not None:
            await self._queries.check_usable(uuid)
        if uuid is None:
            raise SignInRefused(SignInFailure.NO_SESSION)
        if self._is_outdated(user, uuid):
            return None  # it was revoked meanwhile
        since = max(user.since, self._access.earliest_sign_in(uuid)) if existed else int(self._now())
        return await self._access.issue_link(uuid, target.path if target else "/", since=since)

    async def _find(self, user_id: str) -> SessionId | None:
        page = await self._queries.page(user_id=user_id)
        return page.sessions[0].record.uuid if page.sessions else None

    def _revoked(self, uuid: SessionId) -> int:
        """Sign-ins from before this time, in seconds since 1970, were revoked; 0 when there was no revocation."""
        at = self._cache.workload(uuid).revoked_at
        return int(at.timestamp()) + 1 if at is not None else 0

    def _is_outdated(self, user: User, uuid: SessionId) -> bool:
        """Whether the user has to sign in again: access was revoked since, or the session is a later one."""
        revoked = self._revoked(uuid)
        if user.since < revoked and revoked > self._now() + MOST_SKEW:
            raise SignInRefused(SignInFailure.REVOKED)
        # The session of a first visit is created after the sign-in.
        return user.since < revoked or user.since + ATTEMPT_SECONDS < self._access.earliest_sign_in(uuid)

    def _sign_in_time(self, uuid: SessionId | None, begun: int) -> int:
        """When the sign-in began, or the time of a revocation a moment ago by a clock that is ahead.

        Not the present time: what the provider vouched for before a revocation must not be used after it.
        """
        now, revoked = int(self._now()), self._revoked(uuid) if uuid is not None else 0
        return revoked if now < revoked <= now + MOST_SKEW else begun


def _request(key: SigningKey, content: str) -> AuthorizationRequest:
    return AuthorizationRequest(
        state=key.seal("state", content), nonce=key.seal("nonce", content), verifier=key.seal("verifier", content)
    )


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


def _target(body: str) -> Target | None:
    place = _decoded(body)[_NONCE:].decode()
    return Target(SessionId(place[:_UUID]), place[_UUID:]) if place != _NOWHERE else None


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
