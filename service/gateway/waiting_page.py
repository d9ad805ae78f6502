"""What a person sees while the workspace wakes: a page at once, and on it the wake as it comes along."""

import asyncio
import contextlib
import html
import json
import secrets
import string
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from aiohttp import web

from service.domain.errors import Unavailable
from service.domain.names import SessionId
from service.domain.ports import Progress
from service.domain.progress import Event, Stage, later
from service.gateway.errors import KEEP_OUT, GatewayError

_PAGE = string.Template((Path(__file__).parent / "waiting_page.html").read_text())
_HEARTBEAT = 10.0
"""Seconds between two comments on a stream, so that one whose browser is gone is noticed."""
_LOOK = 1.0
"""Seconds between two looks at what holds the pod up."""


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
    request: web.BaseRequest,
    uuid: SessionId,
    progress: Progress,
    answers: "asyncio.Task[object]",
    why: Callable[[], str | None],
    *,
    leaving: Callable[[], bool] = lambda: False,
) -> web.StreamResponse:
    """The wake's stages as server-sent events, and last `answers`, when the pod does; or `failed`, with the reason.

    `answers` ends when the pod answers, or raises what is told as the reason. `why` tells what holds the pod up: a
    `warning`, which ends nothing, and an empty one when that has passed. When this process is `leaving`, the stream
    ends early: the page comes back by itself, to another replica, and goes on from the last event.
    """
    response = web.StreamResponse(headers={**KEEP_OUT, "Content-Type": "text/event-stream"})
    await response.prepare(request)
    after, told, said = request.headers.get("Last-Event-ID"), "", time.monotonic()
    with contextlib.suppress(ConnectionResetError), progress.following(uuid) as news:
        news.set()
        while not answers.done():
            words = b""
            if news.is_set() or time.monotonic() - said > _HEARTBEAT:
                news.clear()
                rest = await _rest(progress, uuid, after)
                after = rest[-1].id if rest else after
                words = b"".join(map(_event, rest)) or b": still waiting\n\n"
            if (reason := why() or "") != told:
                told = reason
                words += f"event: warning\ndata: {json.dumps({'reason': reason})}\n\n".encode()
            if words:
                said = time.monotonic()
                await response.write(words)
            await _either(answers, news)
            if leaving() and not answers.done():
                await response.write_eof()
                return response
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
        await asyncio.wait((answers, hearing), timeout=_LOOK, return_when=asyncio.FIRST_COMPLETED)
    finally:
        hearing.cancel()


def _last(answers: "asyncio.Task[object]", rest: Sequence[Event]) -> bytes:
    words = b"".join(map(_event, rest))
    error = answers.exception()
    if error is None:
        return words + b"event: answers\ndata: {}\n\n"
    title = error.title if isinstance(error, GatewayError) else "Your workspace could not be started"
    reason = str(error) or "A part of the system does not answer. Try again in a moment."
    return words + f"event: failed\ndata: {json.dumps({'title': title, 'reason': reason})}\n\n".encode()


def _event(event: Event) -> bytes:
    if event.stage is Stage.FAILED:
        return b""  # told by whoever waits for the pod, once waiting is of no use
    data = json.dumps({"seconds": event.after.total_seconds(), "reason": event.reason})
    return f"id: {event.id}\nevent: {event.stage.value}\ndata: {data}\n\n".encode()
