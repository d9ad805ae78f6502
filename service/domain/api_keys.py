"""API keys: each has a name, a role and possibly one user, and only its hash is stored.

    key    upk_<id>_<secret>
    line   name=<name> role=<role> id=<id> sha256=<hash of the key> [user=<user id>] [group=<group>]

A key has 256 random bits, so nobody can guess it from its hash, and SHA-256 is enough: slow hashes protect secrets that
people choose. The id finds the line, and names the key in logs.
"""

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from service.domain.names import is_dns_label, is_user_id
from service.domain.permissions import PERSON, PROGRAM, Caller, CallerRole
from service.domain.wake_cause import API, OPERATOR, QUEUE, VISIT

log = logging.getLogger(__name__)

RELOAD_SECONDS = 5.0
_PREFIX = "upk_"
_ID_LENGTH = 10
_ID_PLACE = slice(len(_PREFIX), len(_PREFIX) + _ID_LENGTH)
_ALPHABET = string.ascii_lowercase + string.digits
_SECRET_BYTES = 32
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_ID = re.compile(rf"[a-z0-9]{{{_ID_LENGTH}}}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FIELDS = frozenset({"name", "role", "id", "sha256"})
_RESERVED = frozenset({API, VISIT, QUEUE, OPERATOR, PERSON, PROGRAM})
"""Names that mean somebody else in histories."""
KEY_ROLES = (CallerRole.OPERATOR, CallerRole.FRONTEND, CallerRole.VIEWER)
"""What a key can be: a `user` is a person."""
_NO_DIGEST = bytes(32)
_FORMER = Caller(name=API, role=CallerRole.OPERATOR)
"""Whoever has a key without a name."""


class ApiKeysUnreadable(Exception):
    """The file of keys cannot be read; the message says why."""


class BadKeyLine(ValueError):
    """The message says what is wrong, without what the line contains."""


class ApiKeyFile(Protocol):
    """Where the lines are."""

    async def read(self) -> str:
        """All lines. Raises ApiKeysUnreadable."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A line of the file."""

    caller: Caller
    digest: bytes

    @property
    def line(self) -> str:
        caller = self.caller
        user = f" user={caller.user_id}" if caller.user_id is not None else ""
        group = f" group={caller.group}" if caller.group is not None else ""
        return f"name={caller.name} role={caller.role} id={caller.key_id} sha256={self.digest.hex()}{user}{group}"


def new_api_key(
    name: str, role: CallerRole, user_id: str | None = None, group: str | None = None
) -> tuple[str, ApiKey]:
    """A new key, and what is stored of it. Raises BadKeyLine."""
    _check_names(name, user_id, group)
    key_id = "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))
    key = f"{_PREFIX}{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    caller = Caller(name=name, role=role, user_id=user_id, group=group, key_id=key_id)
    return key, ApiKey(caller, key_digest(key))


def parse_line(line: str) -> ApiKey:
    """Raises BadKeyLine."""
    given = [part.partition("=")[::2] for part in line.split()]
    fields = dict(given)
    if len(fields) != len(given) or not _FIELDS <= fields.keys() <= _FIELDS | {"user", "group"}:
        raise BadKeyLine("it must have name, role, id, sha256 and at most user and group, each once")
    _check_names(fields["name"], fields.get("user"), fields.get("group"))
    if fields["role"] not in KEY_ROLES:
        raise BadKeyLine(f"its role must be one of {', '.join(KEY_ROLES)}")
    if not _ID.fullmatch(fields["id"]) or not _DIGEST.fullmatch(fields["sha256"]):
        raise BadKeyLine("its id or sha256 is not one that `key new` has printed")
    caller = Caller(
        name=fields["name"],
        role=CallerRole(fields["role"]),
        user_id=fields.get("user"),
        group=fields.get("group"),
        key_id=fields["id"],
    )
    return ApiKey(caller, bytes.fromhex(fields["sha256"]))


def _check_names(name: str, user_id: str | None, group: str | None) -> None:
    if not _NAME.fullmatch(name):
        raise BadKeyLine("its name must have 1 to 64 characters out of a-z, 0-9, dot, dash and underscore")
    if name in _RESERVED:
        raise BadKeyLine(f"its name must be none of {', '.join(sorted(_RESERVED))}: histories use them for others")
    if user_id is not None and not is_user_id(user_id):
        raise BadKeyLine("its user is no user id: 1 to 254 printable ASCII characters without spaces")
    if group is not None and not is_dns_label(group):
        raise BadKeyLine("its group must have 1 to 63 characters out of a-z, 0-9 and dash")


class ApiKeys:
    """All keys: those of the file, and `former` ones, which have no name and may do everything.

    `load` must have returned before the first look-up; `run` follows changes of the file.
    """

    def __init__(self, file: ApiKeyFile | None, former: Sequence[str] = ()) -> None:
        self._file = file
        self._former = [key_digest(key) for key in former]
        self._named: Mapping[str, ApiKey] = {}
        self._text: str | None = None
        self._problems: Sequence[str] = ()
        self._unreadable = ""

    def caller(self, key: str) -> Caller | None:
        """Whose key it is; None for an unknown one. The time it takes does not depend on the secret."""
        given = key_digest(key)
        named = self._named.get(key[_ID_PLACE])
        if hmac.compare_digest(given, named.digest if named is not None else _NO_DIGEST) and named is not None:
            return named.caller
        matches = [hmac.compare_digest(given, digest) for digest in self._former]
        return _FORMER if any(matches) else None

    def holders(self, key_id: str | None) -> Sequence[tuple[Caller, bytes]]:
        """Whose keys have that id (None: no name), each with the digest that is stored of it."""
        if key_id is None:
            return [(_FORMER, digest) for digest in self._former]
        named = self._named.get(key_id)
        return [(named.caller, named.digest)] if named is not None else []

    def remark(self) -> str | None:
        """For /health: what is wrong with the file; None when nothing is."""
        if self._unreadable:
            return f"the file of API keys cannot be read ({self._unreadable}); the keys read before stay valid"
        return f"the file of API keys: {'; '.join(self._problems)}; all other lines work" if self._problems else None

    async def load(self) -> None:
        """Read the file, if it has changed. Raises ApiKeysUnreadable; the keys read before then stay valid."""
        if self._file is None:
            return
        text = await self._file.read()
        self._unreadable = ""
        if text == self._text:
            return
        self._named, self._problems = _parse(text)
        self._text = text
        log.info("API keys read", extra={"keys": len(self._named), "refused": len(self._problems)})
        for problem in self._problems:
            log.error("the file of API keys: %s", problem)

    async def run(self) -> None:
        """Follow changes of the file until cancelled."""
        while True:
            await asyncio.sleep(RELOAD_SECONDS)
            try:
                await self.load()
            except ApiKeysUnreadable as error:
                if not self._unreadable:
                    log.error("the file of API keys cannot be read: %s", error)  # noqa: TRY400 - the reason is enough
                self._unreadable = str(error)


def _parse(text: str) -> tuple[Mapping[str, ApiKey], Sequence[str]]:
    """The keys by id, and what is wrong with the lines that are left out: one bad line costs no other its key."""
    keys: dict[str, ApiKey] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            key = parse_line(line)
            key_id = str(key.caller.key_id)
            if key_id in keys:
                raise BadKeyLine("its id is in an earlier line, too")  # noqa: TRY301 - one way for all problems
            keys[key_id] = key
        except BadKeyLine as error:
            problems.append(f"line {number} is left out: {error}")
    return keys, problems


def key_digest(key: str) -> bytes:
    """What is stored of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
