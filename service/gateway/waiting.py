"""What a person sees while the workspace wakes: a page at once, and on it the wake as it comes along."""

import asyncio
import contextlib
import html
import json
import secrets
import string
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from service.domain.errors import Unavailable
from service.domain.names import SessionId
from service.domain.ports import Progress
from service.domain.progress import Event, Stage, later
from service.gateway.refusal import KEEP_OUT

_PAGE = string.Template((Path(__file__).parent / "waiting.html").read_text())
_HEARTBEAT = 10.0
"""Seconds between two comments on a stream, so that one whose browser is gone is noticed."""


def page(reason: str | None) -> web.Response:
    """The page, which goes on to the very URL that was asked for."""
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return web.Response(
        status=503,
        text=_PAGE.substitute(nonce=nonce, reason=html.escape(reason or "")),
        content_type="text/html",
        headers={**KEEP_OUT, "Content-Security-Policy": policy, "Retry-After": "2"},
    )


async def stream(
    request: web.BaseRequest, uuid: SessionId, progress: Progress, answers: "asyncio.Task[object]"
) -> web.StreamResponse:
    """The wake's stages as server-sent events, and last `answers`, when the pod does; or `failed`, with the reason.

    `answers` ends when the pod takes connections, or raises what is told as the reason.
    """
    response = web.StreamResponse(headers={**KEEP_OUT, "Content-Type": "text/event-stream"})
    await response.prepare(request)
    after = request.headers.get("Last-Event-ID")
    with contextlib.suppress(ConnectionResetError), progress.following(uuid) as news:
        while not answers.done():
            news.clear()
            for event in await _rest(progress, uuid, after):
                after = event.id
                await response.write(_event(event))
            await _either(answers, news)
            if not answers.done() and not news.is_set():
                await response.write(b": still waiting\n\n")
        await response.write(_last(answers, await _rest(progress, uuid, after)))
        await response.write_eof()
    return response


async def _rest(progress: Progress, uuid: SessionId, after: str | None) -> Sequence[Event]:
    try:
        return later(await progress.wake(uuid), after)
    except Unavailable:
        return []


async def _either(answers: "asyncio.Task[object]", news: asyncio.Event) -> None:
    hearing = asyncio.ensure_future(news.wait())
    try:
        await asyncio.wait((answers, hearing), timeout=_HEARTBEAT, return_when=asyncio.FIRST_COMPLETED)
    finally:
        hearing.cancel()


def _last(answers: "asyncio.Task[object]", rest: Sequence[Event]) -> bytes:
    words = b"".join(map(_event, rest))
    error = answers.exception()
    if error is None:
        return words + b"event: answers\ndata: {}\n\n"
    return words + f"event: failed\ndata: {json.dumps({'reason': str(error)})}\n\n".encode()


def _event(event: Event) -> bytes:
    if event.stage is Stage.FAILED:
        return b""  # told by whoever waits for the pod, once waiting is of no use
    data = json.dumps({"seconds": event.after.total_seconds(), "reason": event.reason})
    return f"id: {event.id}\nevent: {event.stage.value}\ndata: {data}\n\n".encode()
