"""The REST API. Knows the domain, aiohttp and pydantic; no cluster, no Redis, no helm."""
