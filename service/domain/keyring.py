"""The keys that tickets and session cookies are sealed with, as one replica knows them.

The newest key seals and the older ones still verify, so a rotation signs nobody out. All replicas share one set of
keys, which is kept outside of Redis: who reads or writes Redis can make neither a ticket nor a cookie.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from service.domain.backoff import Backoff
from service.domain.errors import SigningKeysUnavailable, Unavailable
from service.domain.ports import SigningKeys
from service.domain.signing_key import SigningKey

log = logging.getLogger(__name__)

REFRESH = timedelta(seconds=30)
"""How often a replica reads the keys, and so how long one may go on without a key that another has made."""
SETTLING = 4 * REFRESH
"""A new key only verifies for so long, until every replica has read it, also one whose clock or API server is late."""
_AGAIN = 1.0
"""Seconds between two reads on behalf of requests that name a key which is not known."""
_TRIES = 5
"""Writes that may collide with other replicas before a refresh gives up."""
_SIZE = 32


class Keyring:
    """The keys in memory, which the API server's absence does not take away; `run` keeps them current.

    `rotate`: the age at which the newest key gets a successor. `keep`: how long a key verifies after it has sealed for
    the last time, which must be the longest life of anything sealed.
    """

    def __init__(
        self,
        stored: SigningKeys,
        *,
        rotate: timedelta = timedelta(days=30),
        keep: timedelta = timedelta(days=7),
        now: Callable[[], float] = time.time,
    ) -> None:
        self._stored = stored
        self._rotate = rotate
        self._keep = keep
        self._now = now
        self._keys: dict[str, SigningKey] = {}
        self._lock = asyncio.Lock()
        self._read_at = float("-inf")
        """When a read on behalf of a request last ended, on the monotonic clock."""
        self._current = False
        """Whether the last read succeeded."""
        self.withdrawn: Callable[[], None] = lambda: None
        """Called when a key has gone: what it sealed, and was found genuine, is so no longer."""

    def remark(self) -> str | None:
        """What is wrong, for /health; None when nothing is."""
        if self._current:
            return None
        if self._keys:
            return "the signing keys cannot be read again; people get in with those that are known"
        return SigningKeysUnavailable.message

    async def newest(self) -> SigningKey:
        """The key to seal with. Raises SigningKeysUnavailable before the first successful read."""
        if not self._keys:
            await self._read_for_request()
        if not self._keys:
            raise SigningKeysUnavailable
        keys = _in_order(self._keys.values())
        settled = [key for key in keys if self._age(key) >= SETTLING]
        return settled[-1] if settled else keys[0]

    async def find(self, key_id: str) -> SigningKey | None:
        """The key of that id; None when there is none. Asks nobody for a key that is known.

        Raises SigningKeysUnavailable when the key is not known and nobody can be asked.
        """
        found = self._keys.get(key_id)
        if found is None:
            await self._read_for_request()
            found = self._keys.get(key_id)
            if found is None and not self._current:
                raise SigningKeysUnavailable
        return found

    async def _read_for_request(self) -> None:
        """Read, unless that was done a moment ago: anybody can send ids that do not exist."""
        async with self._lock:
            if time.monotonic() - self._read_at < _AGAIN:
                return
            try:
                await self._refresh()
            except Unavailable as error:
                log.warning("the signing keys cannot be read: %s", error, extra={"cause": repr(error.__cause__)})
            finally:
                # Of the end: whoever has waited meanwhile for a read that takes long shall not begin another.
                self._read_at = time.monotonic()

    async def run(self) -> None:
        """Keep the keys current for ever; retries with back-off."""
        backoff = Backoff(1, REFRESH.total_seconds())
        while True:
            pause = REFRESH.total_seconds()
            try:
                async with self._lock:
                    await self._refresh()
                backoff.reset()
            except Unavailable as error:
                pause = backoff.next()
                # The cause names the Secret, never what is in it.
                told = {"cause": repr(error.__cause__), "retry_seconds": round(pause, 1)}
                log.warning("the signing keys cannot be read: %s", error, extra=told)
            await asyncio.sleep(pause)

    async def _refresh(self) -> None:
        """Read the keys, and rotate them when it is time, whichever replica comes first."""
        try:
            keys = await self._agreed()
        except Exception:
            self._current = False
            raise
        gone = set(self._keys.values()) - set(keys)
        self._keys = {key.id: key for key in keys}
        self._current = True
        if gone:
            self.withdrawn()

    async def _agreed(self) -> Sequence[SigningKey]:
        """The keys of all replicas from now on."""
        for _ in range(_TRIES):
            found = await self._stored.read()
            wanted = self._due(found.keys)
            if wanted is None:
                return found.keys
            if await self._stored.replace(wanted, found.version):
                return wanted
        raise SigningKeysUnavailable

    def _due(self, found: Sequence[SigningKey]) -> Sequence[SigningKey] | None:
        """The keys that should be there instead; None when these are right."""
        keys = _in_order(found)
        # A key seals until its successor has settled, by the clocks of all replicas.
        keys = [
            *(key for key, after in pairwise(keys) if self._age(after) < self._keep + 2 * SETTLING),
            *keys[-1:],
        ]
        if not keys or self._age(keys[-1]) >= self._rotate:
            made_at = datetime.fromtimestamp(int(self._now()), UTC)
            keys.append(SigningKey(secrets.token_hex(4), made_at, secrets.token_bytes(_SIZE)))
            log.info("a new signing key is made", extra={"key": keys[-1].id, "keys": len(keys)})
        return keys if {key.id for key in keys} != {key.id for key in found} else None

    def _age(self, key: SigningKey) -> timedelta:
        return timedelta(seconds=self._now() - key.made_at.timestamp())


def _in_order(keys: Iterable[SigningKey]) -> list[SigningKey]:
    return sorted(keys, key=lambda key: (key.made_at, key.id))
