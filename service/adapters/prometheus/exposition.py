"""Renders the metrics page for a scraper."""

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from service.adapters.prometheus.gauges import SessionGauges


class Exposition:
    """`sessions` are counted before each scrape; without them the page has no counts of sessions."""

    def __init__(self, registry: CollectorRegistry, sessions: SessionGauges | None = None) -> None:
        self._registry = registry
        self._sessions = sessions

    async def __call__(self, accept: str = "") -> tuple[bytes, str]:
        """The page, and its content type, by the scraper's `Accept` header."""
        if self._sessions is not None:
            await self._sessions.refresh()
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type
