"""The page that a person sees while the workspace wakes."""

import json

from aiohttp import hdrs, web

from service.gateway.pages.pages import Pages, text_for
from service.gateway.waiting.delays import Delay, DelayKind

_STAGES = ("accepted", "unparked", "scaled", "scheduled", "pulled", "started", "ready")


def waiting_page(
    pages: Pages, request: web.BaseRequest, delay: Delay | None, *, name: str, home: str | None = None
) -> web.Response:
    """The page. It continues to the requested URL.

    `name` is the id by which the log knows the request, `home` the reader's start page.
    """
    text = text_for(request)
    texts = {
        "stages": {
            stage: {"step": text(f"companion.stage.{stage}"), "detail": text(f"page.waiting.detail.{stage}")}
            for stage in _STAGES
        },
        # Filled in by the page's script.
        "expected": text("page.waiting.expected", seconds="{seconds}"),
        "position": text("page.waiting.position", position="{position}", count="{count}"),
        **{kind.value: text(f"page.waiting.{kind}") for kind in DelayKind},
    }
    response = pages.render(
        request, "waiting.html", status=503, delay=delay, texts=json.dumps(texts), reference=name, home=home
    )
    response.headers[hdrs.RETRY_AFTER] = "2"
    return response
