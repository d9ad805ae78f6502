"""The keys that seal tickets and session cookies, as one replica knows them.

The newest key seals, and older ones still verify, so a rotation does not sign users out. All replicas share one set of
keys. It is kept outside Redis, so access to Redis is not enough to make a ticket or a cookie.
"""

import asyncio
import hmac
import logging
import re
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
"""How often a replica reads the keys, and so how long it may lack a key that another has made."""
SETTLING = 4 * REFRESH
"""How long a new key only verifies: until every replica has read it, even with a clock or API server that lags."""
_MIN_READ_INTERVAL = 1.0
"""Seconds between two reads for requests that name an unknown key."""
_MAX_CONFLICTS = 5
"""Writes that may conflict with other replicas before a refresh gives up."""
_SIZE = 32


class Keyring:
    """Keeps the keys in memory, so that they stay available while the API server is not. `run` refreshes them.

    `rotate`: the age at which the newest key gets a successor. `keep`: how long a key verifies after it last sealed,
    which must be the longest life of anything sealed.
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
        """When a read for a request last ended, on the monotonic clock."""
        self._current = False
        """Whether the last read succeeded."""

    def remark(self) -> str | None:
        """What is wrong, for /health; None when nothing is wrong."""
        if self._current:
            return None
        if self._keys:
            return "the signing keys cannot be re-read; the known ones stay in use"
        return SigningKeysUnavailable.message

    def has(self, key: SigningKey) -> bool:
        """Whether the key still verifies; a withdrawn key does not."""
        found = self._keys.get(key.id)
        return found is key or found == key

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
        """The key with that id; None when there is none. Reads the keys only if it is not known.

        Raises SigningKeysUnavailable when it is not known and the keys cannot be read.
        """
        found = self._keys.get(key_id)
        if found is None:
            await self._read_for_request()
            found = self._keys.get(key_id)
            if found is None and not self._current:
                raise SigningKeysUnavailable
        return found

    async def verified(self, shape: "re.Match[str] | None", kind: str, content: str) -> SigningKey | None:
        """The key that sealed the content, by a match of SEALED; None when the seal is not genuine.

        Raises as `find`.
        """
        key = await self.find(shape["key"]) if shape is not None else None
        if shape is None or key is None or not hmac.compare_digest(shape["seal"], key.seal(kind, content)):
            return None
        return key

    async def _read_for_request(self) -> None:
        """Read the keys, unless that was done a moment ago: anybody can send ids that do not exist."""
        async with self._lock:
            if time.monotonic() - self._read_at < _MIN_READ_INTERVAL:
                return
            try:
                await self._refresh()
            except Unavailable as error:
                log.warning("the signing keys cannot be read: %s", error, extra={"cause": repr(error.__cause__)})
            finally:
                # When it ended, not began: requests that waited for a slow read must not begin another.
                self._read_at = time.monotonic()

    async def run(self) -> None:
        """Refresh the keys until cancelled; retries with back-off."""
        backoff = Backoff(1, REFRESH.total_seconds())
        while True:
            pause = REFRESH.total_seconds()
            try:
                async with self._lock:
                    await self._refresh()
                backoff.reset()
            except Unavailable as error:
                pause = backoff.next()
                # The cause names the Secret, never its content.
                details = {"cause": repr(error.__cause__), "retry_seconds": round(pause, 1)}
                log.warning("the signing keys cannot be read: %s", error, extra=details)
            await asyncio.sleep(pause)

    async def _refresh(self) -> None:
        """Read the keys, and rotate them when due; one replica succeeds."""
        try:
            keys = await self._agree()
        except Exception:
            self._current = False
            raise
        self._keys = {key.id: key for key in keys}
        self._current = True

    async def _agree(self) -> Sequence[SigningKey]:
        """The keys on which all replicas agree."""
        for _ in range(_MAX_CONFLICTS):
            found = await self._stored.read()
            wanted = self._due(found.keys)
            if wanted is None:
                return found.keys
            if await self._stored.replace(wanted, found.version):
                return wanted
        raise SigningKeysUnavailable

    def _due(self, found: Sequence[SigningKey]) -> Sequence[SigningKey] | None:
        """The keys that should replace these; None when these are right."""
        keys = _in_order(found)
        # A key seals until its successor has settled by the clocks of all replicas.
        keys = [
            *(key for key, after in pairwise(keys) if self._age(after) < self._keep + 2 * SETTLING),
            *keys[-1:],
        ]
        if not keys or self._age(keys[-1]) >= self._rotate:
            made_at = datetime.fromtimestamp(int(self._now()), UTC)
            keys.append(SigningKey(secrets.token_hex(4), made_at, secrets.token_bytes(_SIZE)))
            log.info("creating a new signing key", extra={"key": keys[-1].id, "keys": len(keys)})
        return keys if {key.id for key in keys} != {key.id for key in found} else None

    def _age(self, key: SigningKey) -> timedelta:
        return timedelta(seconds=self._now() - key.made_at.timestamp())


def _in_order(keys: Iterable[SigningKey]) -> list[SigningKey]:
    return sorted(keys, key=lambda key: (key.made_at, key.id))
