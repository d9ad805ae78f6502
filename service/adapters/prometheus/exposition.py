"""Renders the metrics page for a scraper."""

import asyncio
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from service.adapters.prometheus.gauges import CountedGauges


class Exposition:
    """What `counted` show is counted before each scrape."""

    def __init__(self, registry: CollectorRegistry, *counted: CountedGauges[Any]) -> None:
        self._registry = registry
        self._counted = counted

    async def __call__(self, accept: str = "") -> tuple[bytes, str]:
        """The page, and its content type, by the scraper's `Accept` header."""
        await asyncio.gather(*(each.refresh() for each in self._counted))
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type
