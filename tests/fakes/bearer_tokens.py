"""The tokens of an identity provider in memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.domain.identity import SignInFailure, SignInRefused


@dataclass
class MemoryBearerTokens:
    """See `service.domain.people.BearerTokens`."""

    valid: dict[str, Mapping[str, object]] = field(default_factory=dict)
    """Claims by token."""

    async def claims(self, token: str) -> Mapping[str, object]:
        if token not in self.valid:
            raise SignInRefused(SignInFailure.INVALID_TOKEN)
        return self.valid[token]

    def remark(self) -> str | None:
        return None
