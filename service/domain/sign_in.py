"""Sign users in at an identity provider, and lead them into their own workspace.

The cookie of a signed-in user is for the gateway's own domain, never for a workspace.

    user   <valid until>.<since>.<user id, in base64>[.<group>].<key>.<seal>
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from service.domain.access import MOST_SKEW, WorkspaceAccess, WorkspaceLink
from service.domain.errors import SessionUnreadable
from service.domain.identity import IdentityProvider, SignInFailure, SignInRefused, UserRule
from service.domain.keyring import Keyring
from service.domain.names import SessionId
from service.domain.ports import Tickets, WorkloadCache
from service.domain.provisioning import Provisioner
from service.domain.queries import SessionQueries
from service.domain.sign_in_attempts import ATTEMPT_SECONDS, Begun, ProviderAnswer, SignInAttempts
from service.domain.signing_key import SEALED, decoded, encoded

_LONGEST_PATH = 1500
"""Characters of a path that an attempt remembers; its cookie must stay below 4 KB."""
_UUID = 8
_NOWHERE = "-" * _UUID
_USER = re.compile(
    rf"(?P<until>[0-9]{{1,11}})\.(?P<since>[0-9]{{1,11}})\.(?P<user>[A-Za-z0-9_-]{{2,340}})(\.(?P<group>[a-z0-9-]{{1,63}}))?\.{SEALED}"
)


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
    group: str | None = None
    """Whose quota the session counts for that the user gets."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """`cookie` signs the user in to the domain, for `seconds`. `target` is the page that they asked for."""

    user: User
    cookie: str
    seconds: int
    target: Target | None


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
        self._attempts = SignInAttempts(provider, keyring, tickets, now=now)
        self._queries = queries
        self._cache = cache
        self._provisioner = provisioner
        self._stay = int(stay.total_seconds())
        self._now = now

    async def begin(self, target: Target | None, *, choose_account: bool = False) -> Begun:
        """`choose_account`: the provider asks with which account, though the user is still signed in there."""
        place = f"{target.uuid}{target.path}" if target and len(target.path) <= _LONGEST_PATH else _NOWHERE
        return await self._attempts.begin(place, choose_account=choose_account)

    async def complete(self, attempt: str, answer: ProviderAnswer, *, client: str) -> SignedIn:
        """The user whom the provider has sent back. See SignInAttempts.complete."""
        completed = await self._attempts.complete(attempt, answer, client=client)
        user_id = self._rule.user_id(completed.claims)
        since = self._sign_in_time(await self._find(user_id), completed.begun)
        user = User(user_id, since, self._rule.group(completed.claims))
        until = int(self._now()) + self._stay
        newest, group = await self._keyring.newest(), f".{user.group}" if user.group is not None else ""
        content = f"{until}.{user.since}.{encoded(user_id.encode())}{group}.{newest.id}"
        cookie = f"{content}.{newest.seal('user', content)}"
        return SignedIn(user, cookie, self._stay, _target(completed.place))

    async def target(self, attempt: str) -> Target | None:
        """The page that was asked for when the attempt began, however long ago."""
        place = await self._attempts.place(attempt)
        return _target(place) if place is not None else None

    async def user(self, cookie: str) -> User | None:
        """The user whom the domain's cookie names; None unless it is genuine and still valid."""
        shape = _USER.fullmatch(cookie)
        if shape is None or int(shape["until"]) <= self._now():
            return None
        if await self._keyring.verified(shape, "user", cookie.rpartition(".")[0]) is None:
            return None
        return User(decoded(shape["user"]).decode(), int(shape["since"]), shape["group"])

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
            uuid = (await self._provisioner.create(user.user_id, group=user.group)).uuid
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


def _target(place: str) -> Target | None:
    return Target(SessionId(place[:_UUID]), place[_UUID:]) if place != _NOWHERE else None
