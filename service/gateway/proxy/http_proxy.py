"""Proxies one request to a pod and its response back, both streamed, whatever their size."""

import contextlib
import time
from http import HTTPStatus

from aiohttp import (
    ClientConnectionError,
    ClientConnectorError,
    ClientError,
    ClientPayloadError,
    ClientResponse,
    HttpVersion10,
    HttpVersion11,
    ServerTimeoutError,
    hdrs,
    web,
)
from multidict import CIMultiDict

from service.edge.aiohttp_internals.client import body_has_begun
from service.edge.aiohttp_internals.heads import ExactResponse
from service.gateway.access.cookie_header import renew
from service.gateway.activity.background import Download
from service.gateway.errors import GatewayError, PageKind
from service.gateway.injection.document import Body
from service.gateway.injection.injector import Injector, Visit
from service.gateway.proxy.headers import to_browser
from service.gateway.proxy.pods import UNAVAILABLE, PodLost, Upstream
from service.gateway.proxy.request_body import RequestBody
from service.gateway.request_outcome import OutcomeRecorder

_VERSIONS = (HttpVersion11, HttpVersion10)
_CODINGS = ("chunked", "identity")
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS"})


class ProxiedResponse(ExactResponse):
    """The pod's response as the browser gets it, with a renewed session cookie if one is due."""

    def __init__(self, upstream: ClientResponse) -> None:
        super().__init__(status=upstream.status, reason=upstream.reason, headers=to_browser(upstream.headers))

    def complete_headers(self, request: web.BaseRequest) -> None:
        if len(request):
            renew(request, self.status, self.headers)


async def proxy_request(
    request: web.BaseRequest,
    upstream: Upstream,
    headers: CIMultiDict[str],
    body: RequestBody,
    *,
    outcome: OutcomeRecorder,
    deadline: float,
    download: Download,
    injector: Injector | None = None,
) -> web.StreamResponse:
    """Proxy the request with these headers. Raises PodLost while it can be repeated safely, GatewayError otherwise.

    A pod that is not ready is waited for until `deadline` (seconds of time.monotonic). `injector`: adds the companion's
    script to pages.
    """
    # The gateway itself answers `Expect: 100-continue`, once the pod has taken the connection: with a pod that does not
    # know of it, both sides could wait for each other.
    headers.popall(hdrs.EXPECT, None)
    visit = injector.visit(request, headers) if injector is not None else None
    try:
        response = await upstream.request(
            request.method, request.raw_path, headers, data=body.stream() if request.body_exists else None
        )
    except (ClientConnectorError, ServerTimeoutError) as error:
        upstream.responds = False
        raise PodLost from error
    except (ClientConnectionError, ClientPayloadError, RuntimeError) as error:
        # RuntimeError: the connections to the pod have been closed in between.
        body.raise_for_client()
        if request.method in _REPEATABLE and not body.started:
            upstream.request_failed()
            raise PodLost from error
        raise GatewayError(
            502,
            "The workspace stopped",
            "It stopped before it answered. Your request may or may not have taken effect: check before you try again.",
            page=PageKind.STOPPED,
        ) from error
    except ClientError as error:
        raise bad_response() from error
    if response.status in UNAVAILABLE and request.method in _REPEATABLE and not body.started:
        check_from_program(upstream, response, deadline)
    outcome.on_response()
    async with response:
        if response.status == HTTPStatus.SWITCHING_PROTOCOLS:
            response.close()
            raise bad_response()
        return await send_response(request, upstream, response, download=download, visit=visit)


def check_from_program(upstream: Upstream, response: ClientResponse, deadline: float) -> None:
    """Raises PodLost when a response (one of UNAVAILABLE) comes from a sidecar whose program has not started yet.

    A ready pod's response is always passed on, and so is any response after the deadline.
    """
    if not upstream.ready and time.monotonic() < deadline:
        response.close()
        upstream.request_failed()
        raise PodLost


async def send_response(
    request: web.BaseRequest,
    upstream: Upstream,
    upstream_response: ClientResponse,
    *,
    download: Download | None = None,
    visit: Visit | None = None,
) -> web.StreamResponse:
    """Stream the pod's response to the client. Raises GatewayError when it is not proper HTTP.

    `download` sees how it gets on. `visit`: adds the companion's script to the page that the request opens.
    """
    if not _is_proper(upstream_response):
        upstream_response.close()
        raise bad_response()
    upstream.responses.add(upstream_response)
    try:
        response, body = ProxiedResponse(upstream_response), upstream_response.content
        document = await visit.document(response.status, response.headers, body) if visit is not None else None
        # A small response arrives in one piece, so it leaves in one piece too.
        response.send_head_with_body(body_has_begun(upstream_response) and request.method != "HEAD")
        if not request.content.is_eof():
            response.force_close()  # lets a client that is still uploading stop
        try:
            await response.prepare(request)
        except ValueError as error:  # a header with characters that are not allowed
            upstream_response.close()
            raise bad_response() from error
        return await _send_body(request, response, document or body, download)
    finally:
        upstream.responses.discard(upstream_response)


async def _send_body(
    request: web.BaseRequest, response: ProxiedResponse, body: Body, download: Download | None
) -> web.StreamResponse:
    try:
        if request.method != "HEAD":
            # Everything that has arrived at once: for less, the client copies the rest again and again.
            while chunk := await body.readany():
                await response.write(chunk)
                if download is not None:
                    download.on_chunk(len(chunk))
    except (ClientError, RuntimeError):
        # RuntimeError: the connections to the pod have been closed just before its response was known.
        # Abort: a proper end would make half of the response look complete.
        response.force_close()
        if request.transport is not None:
            request.transport.abort()
        return response
    with contextlib.suppress(ConnectionResetError):
        await response.write_eof()
    return response


def bad_response() -> GatewayError:
    return GatewayError(
        502,
        "The workspace sent an invalid response",
        "What it sent is not valid HTTP. If this persists, restart its program.",
        page=PageKind.STOPPED,
    )


def _is_proper(response: ClientResponse) -> bool:
    """Whether it is an HTTP/1 response that keeps its meaning when it is passed on."""
    # aiohttp decodes chunks and nothing else. Nobody could read a body with another transfer coding.
    codings = response.headers.getall(hdrs.TRANSFER_ENCODING, ())
    is_known = not codings or (len(codings) == 1 and codings[0].lower() in _CODINGS)
    return is_known and 200 <= response.status <= 599 and response.version in _VERSIONS
