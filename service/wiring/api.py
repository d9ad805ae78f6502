"""What is served at PORT: the REST API, or only the probes in roles without it."""

from aiohttp import web

from service.adapters.prometheus.metrics import PrometheusMetrics
from service.edge.connection_limits import ConnectionLimits
from service.settings import Settings
from service.web import edge
from service.web.access import Gate
from service.web.app import Pages, make_app
from service.web.keys import ApiParts, ProbeParts
from service.web.probes import make_probes


def build_api(
    config: Settings,
    parts: ApiParts | None,
    probes: ProbeParts,
    metrics: PrometheusMetrics,
    *,
    gate: Gate | None,
    pages: Pages | None,
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
    return make_app(
        parts,
        probes,
        gate=gate,
        answered=metrics.answered,
        rest_limits=rest_limits,
        limits=config.limits,
        pages=pages,
    )
