"""What is served at PORT: the REST API, or only the probes in roles without it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from service.adapters.files.api_keys import MountedApiKeys
from service.adapters.prometheus.metrics import PrometheusMetrics
from service.domain.api_keys import ApiKeys, ApiKeysUnreadable
from service.domain.people import People
from service.edge.connection_limits import ConnectionLimits
from service.settings import PREFIX, Settings, SettingsError
from service.web import edge
from service.web.access import Gate
from service.web.app import make_app
from service.web.keys import ApiParts, ProbeParts
from service.web.probes import make_probes
from service.wiring.oidc import open_people


@dataclass(frozen=True, kw_only=True)
class Callers:
    """Who may call the API: programs with keys, and people with tokens."""

    keys: ApiKeys
    people: People | None


def build_api(
    config: Settings, parts: ApiParts | None, probes: ProbeParts, metrics: PrometheusMetrics, callers: Callers | None
) -> web.Application:
    rest_limits = edge.RestLimits(
        connection_limits=ConnectionLimits(
            connections=config.connections,
            per_address=config.connections_per_address,
            uncounted=config.gateway_trusted,
            head_bytes=config.header_limit,
        ),
        body=config.body_timeout,
        streams=config.streams,
        streams_per_session=config.streams_per_session,
    )
    if parts is None:
        return make_probes(probes, answered=metrics.answered, rest_limits=rest_limits)
    gate = Gate(callers.keys, callers.people, parts.queries) if callers is not None else None
    return make_app(parts, probes, gate=gate, answered=metrics.answered, rest_limits=rest_limits, limits=config.limits)


@asynccontextmanager
async def open_callers(config: Settings) -> AsyncIterator[Callers | None]:
    """Who may call; None where callers need neither key nor token. Raises SettingsError for an unreadable file."""
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
