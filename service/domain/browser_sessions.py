"""Who is signed in to the dashboard in a browser: a sealed cookie that contains no API key.

    cookie   <valid until>.<who, in base64>.<key>.<seal>

Whoever has signed in with an API key stays signed in only while that key is valid: its line is looked up again for each
request, by its id and a seal over what is stored of it. What the provider has said of a person holds until the end, but
what makes operators and viewers of them is to be asked for again before.
"""

import hmac
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from service.domain.api_keys import ApiKeys, key_digest
from service.domain.keyring import Keyring
from service.domain.permissions import PERSON, Caller, CallerRole
from service.domain.signing_key import SEALED, SigningKey, decoded, encoded

_COOKIE = re.compile(rf"(?P<until>[0-9]{{1,11}})\.(?P<who>[A-Za-z0-9_-]{{2,1000}})\.{SEALED}")


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """`form_token` is in each form of this session's pages, and in none of another's."""

    caller: Caller
    form_token: str
    overdue: float = 0
    """For how many seconds the provider should have been asked again what its person may do; 0: it need not be."""


class BrowserSessions:
    """`stay`: how long somebody stays signed in. `recheck`: how long the role of an operator or a viewer holds.

    Every coroutine may raise SigningKeysUnavailable.
    """

    def __init__(
        self,
        keyring: Keyring,
        keys: ApiKeys,
        *,
        stay: timedelta,
        recheck: timedelta,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._keyring = keyring
        self._keys = keys
        self._now = now
        self._recheck = recheck.total_seconds()
        self.seconds = int(stay.total_seconds())

    async def sign_in(self, api_key: str) -> tuple[Caller, str] | None:
        """Who has that API key, and their cookie; None for an unknown key."""
        caller = self._keys.caller(api_key)
        if caller is None:
            return None
        key = await self._keyring.newest()
        who = {"key": caller.key_id, "seal": _fingerprint(key, key_digest(api_key))}
        return caller, self._seal(key, who)

    async def sign_in_person(self, person: Caller) -> str:
        """The cookie of a person whom the identity provider has named."""
        who = {"person": person.person, "role": person.role.value, "since": person.since}
        return self._seal(await self._keyring.newest(), who)

    async def read(self, cookie: str) -> BrowserSession | None:
        """The session of that cookie; None unless it is genuine, and has not ended."""
        shape = _COOKIE.fullmatch(cookie)
        if shape is None or int(shape["until"]) <= self._now():
            return None
        key = await self._keyring.verified(shape, "dashboard", cookie.rpartition(".")[0])
        if key is None:
            return None
        who = json.loads(decoded(shape["who"]))
        caller = _person(who) if "person" in who else self._holder(key, who)
        if caller is None:
            return None
        return BrowserSession(caller, key.seal("dashboard-form", cookie), self._overdue(caller))

    def _overdue(self, caller: Caller) -> float:
        """A person who reaches only their own session keeps it, and an API key is looked up for each request."""
        if caller.person is None or caller.since is None or caller.role is CallerRole.USER:
            return 0
        return max(0, self._now() - caller.since - self._recheck)

    def _holder(self, key: SigningKey, who: Mapping[str, str]) -> Caller | None:
        """Whose API key it is, while that key is valid."""
        for caller, digest in self._keys.holders(who["key"]):
            if hmac.compare_digest(_fingerprint(key, digest), who["seal"]):
                return caller
        return None

    def _seal(self, key: SigningKey, who: Mapping[str, object]) -> str:
        content = f"{int(self._now()) + self.seconds}.{encoded(json.dumps(who).encode())}.{key.id}"
        return f"{content}.{key.seal('dashboard', content)}"


def _person(who: Mapping[str, object]) -> Caller:
    user_id, role, since = str(who["person"]), CallerRole(str(who["role"])), who["since"]
    only = user_id if role is CallerRole.USER else None
    return Caller(name=PERSON, role=role, user_id=only, person=user_id, since=int(str(since)))


def _fingerprint(key: SigningKey, digest: bytes) -> str:
    return key.seal("dashboard-api-key", digest.hex())
