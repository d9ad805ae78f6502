"""Calls to the REST API of the stack's own service."""

import json
import urllib.request
from typing import Any

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def call(method: str, url: str, body: dict[str, str] | None = None) -> dict[str, Any]:
    """The parsed answer, empty without a body. Raises urllib.error.HTTPError for a refusal."""
    request = urllib.request.Request(  # noqa: S310 - always our own loopback address
        url,
        method=method,
        data=json.dumps(body).encode() if body else None,
        headers={"Content-Type": "application/json"},
    )
    with _opener.open(request, timeout=60) as answer:
        text = answer.read()
    parsed: dict[str, Any] = json.loads(text) if text else {}
    return parsed
