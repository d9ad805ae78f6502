"""REST: what callers send and get. Knows the domain, aiohttp and pydantic; no cluster, no Redis, no helm."""
