"""The SigningKeys port on a Secret with one entry per key, named `<seconds since 1970>-<id>`.

Writes are conditional on the Secret's resourceVersion: when several replicas rotate at the same time, one wins and the
others read again. The adapter leaves the metadata alone, since Helm may own the Secret.
"""

import base64
import binascii
import logging
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Any

from service.adapters.kubernetes.api import KubeApi
from service.domain.errors import SigningKeysUnavailable
from service.domain.signing_key import SigningKey, StoredKeys

log = logging.getLogger(__name__)

_NAME = re.compile(r"([0-9]{1,11})-([0-9a-f]{8})")
_MIN_SECRET_BYTES = 32
_WRITE_CONFLICT = (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND)


class KubeSigningKeys:
    """See `service.domain.ports.SigningKeys`. Needs the rights to get and patch the Secret, and to create it."""

    def __init__(self, api: KubeApi, *, namespace: str, name: str) -> None:
        self._attempt = partial(api.attempt, error=SigningKeysUnavailable)
        self._collection = f"/api/v1/namespaces/{namespace}/secrets"
        self._path = f"{self._collection}/{name}"
        self._name = name

    async def read(self) -> StoredKeys:
        found = await self._attempt("GET", self._path, allowed=(HTTPStatus.NOT_FOUND,))
        if found is None:
            return StoredKeys((), None)
        data = found.get("data") or {}
        keys = [key for name, value in data.items() if (key := _key(name, value)) is not None]
        if len(keys) < len(data):
            log.warning("the signing keys' Secret has entries that are not keys", extra={"secret": self._name})
        return StoredKeys(keys, found["metadata"]["resourceVersion"])

    async def replace(self, keys: Sequence[SigningKey], version: str | None) -> bool:
        data: dict[str, str | None] = {
            f"{int(key.made_at.timestamp())}-{key.id}": base64.b64encode(key.secret).decode() for key in keys
        }
        if version is None:
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": self._name}, "data": data}
            made = await self._attempt("POST", self._collection, body=secret, allowed=(HTTPStatus.CONFLICT,))
            return made is not None
        found = await self._attempt("GET", self._path, allowed=_WRITE_CONFLICT)
        if found is None or found["metadata"]["resourceVersion"] != version:
            return False
        data = dict.fromkeys(found.get("data") or {}) | data
        body = {"metadata": {"resourceVersion": version}, "data": data}
        return await self._attempt("PATCH", self._path, body=body, allowed=_WRITE_CONFLICT) is not None


def _key(name: str, value: Any) -> SigningKey | None:
    match = _NAME.fullmatch(name)
    if match is None or not isinstance(value, str):
        return None
    try:
        secret = base64.b64decode(value, validate=True)
    except binascii.Error:
        return None
    if len(secret) < _MIN_SECRET_BYTES:
        return None
    return SigningKey(match[2], datetime.fromtimestamp(int(match[1]), UTC), secret)
