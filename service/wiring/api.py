"""What is served at PORT: the REST API, or only the probes in roles without it."""

from aiohttp import web

from service.adapters.files.api_keys import MountedApiKeys
from service.adapters.prometheus.metrics import PrometheusMetrics
from service.domain.api_keys import ApiKeys, ApiKeysUnreadable
from service.edge.connection_limits import ConnectionLimits
from service.settings import PREFIX, Settings, SettingsError
from service.web import edge
from service.web.access import Gate
from service.web.app import make_app
from service.web.keys import ApiParts, ProbeParts
from service.web.probes import make_probes


def build_api(
    config: Settings, parts: ApiParts | None, probes: ProbeParts, metrics: PrometheusMetrics, keys: ApiKeys | None
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
    gate = Gate(keys, parts.queries) if keys is not None else None
    return make_app(parts, probes, gate=gate, answered=metrics.answered, rest_limits=rest_limits, limits=config.limits)


async def open_api_keys(config: Settings) -> ApiKeys | None:
    """The keys; None where nobody needs one. Raises SettingsError when the file cannot be read."""
    if not config.has_callers or not config.role.serves_api:
        return None
    file = MountedApiKeys(config.api_keys_file) if config.api_keys_file else None
    keys = ApiKeys(file, [key.get_secret_value() for key in config.api_keys])
    try:
        await keys.load()
    except ApiKeysUnreadable as error:
        raise SettingsError(f"{PREFIX}API_KEYS_FILE cannot be read: {error}") from None
    return keys
