"""The file of API keys in memory."""

from dataclasses import dataclass

from service.domain.api_keys import ApiKeysUnreadable


@dataclass
class MemoryApiKeyFile:
    """See `service.domain.api_keys.ApiKeyFile`; `text` None: it is not there."""

    text: str | None

    async def read(self) -> str:
        if self.text is None:
            raise ApiKeysUnreadable("FileNotFoundError")
        return self.text
