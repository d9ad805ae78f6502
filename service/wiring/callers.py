"""Who may call the API: programs with keys, and people with tokens."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from service.adapters.files.api_keys import MountedApiKeys
from service.domain.api_keys import ApiKeys, ApiKeysUnreadable
from service.domain.people import People
from service.domain.rate_limits import RateLimits
from service.domain.supervisor import Work
from service.settings import PREFIX, Settings, SettingsError
from service.web.access import Gate, Visitors
from service.wiring.core import Core
from service.wiring.oidc import open_people


@dataclass(frozen=True, kw_only=True)
class Callers:
    """`people` is None where tokens are not accepted."""

    keys: ApiKeys
    people: People | None


@asynccontextmanager
async def open_callers(config: Settings) -> AsyncIterator[Callers | None]:
    """None where callers need neither key nor token. Raises SettingsError when the file of keys cannot be read."""
    if not config.has_callers or not config.role.serves_api:
        yield None
        return
    async with open_people(config) as people:
        yield Callers(keys=await _load_api_keys(config), people=people)


async def _load_api_keys(config: Settings) -> ApiKeys:
    file = MountedApiKeys(config.api_keys_file) if config.api_keys_file else None
    keys = ApiKeys(file, [key.get_secret_value() for key in config.api_keys])
    try:
        await keys.load()
    except ApiKeysUnreadable as error:
        raise SettingsError(f"{PREFIX}API_KEYS_FILE cannot be read: {error}") from None
    return keys


def build_gate(
    core: Core, callers: Callers | None, visitors: Visitors | None
) -> tuple[Gate | None, Mapping[str, Work]]:
    """What every request passes; `visitors` use the dashboard. And the tasks of its parts, by name."""
    if callers is None:
        return None, {}
    config = core.config
    rates = RateLimits(
        core.redis.levels, per_caller=config.rate_per_caller or None, per_user=config.rate_per_user or None
    )
    gate = Gate(callers.keys, callers.people, core.queries, rates, visitors)
    return gate, {"API keys": callers.keys.run, "request rates": rates.run}
