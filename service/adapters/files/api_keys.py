"""The file of API keys, for example a mounted Secret."""

import asyncio
from pathlib import Path

from service.domain.api_keys import ApiKeysUnreadable

_LARGEST = 2**20
"""Bytes: some thousand keys."""


class MountedApiKeys:
    """See `service.domain.api_keys.ApiKeyFile`. Kubernetes exchanges a mounted file as a whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def read(self) -> str:
        return await asyncio.to_thread(self._read)

    def _read(self) -> str:
        try:
            with self._path.open("rb") as file:
                content = file.read(_LARGEST + 1)
            if len(content) > _LARGEST:
                raise ApiKeysUnreadable(f"it has more than {_LARGEST:,} bytes")
            return content.decode()
        except (OSError, UnicodeDecodeError) as error:
            raise ApiKeysUnreadable(type(error).__name__) from None
