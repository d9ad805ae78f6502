"""The asynchronous client, on aiohttp."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Literal, Self, TypeVar, overload

import aiohttp
import yarl

from user_pods_client.address import Token, base_url
from user_pods_client.call import DASHBOARD, Answer, Attempts, Body, Call
from user_pods_client.errors import NoAnswer, no_answer
from user_pods_client.following import Following
from user_pods_client.models import AuditEntry, Phase, ProgressEvent, Status
from user_pods_client.operations import AsyncOperations
from user_pods_client.problems import SessionNotFound
from user_pods_client.waiting import Goal, Waiting

T = TypeVar("T")


class _Broken(aiohttp.ClientError):
    """Wraps an error after which aiohttp would silently send the request again. Here, `Attempts` decides that."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause


async def _send_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _Broken(error) from None


class AsyncClient(AsyncOperations):
    """Calls the service from asyncio. Use it as a context manager, or `close()` it. The parameters are Client's."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: float = 90.0,
        retries: int = 2,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Raises ValueError for an address or a token that cannot be one."""
        self.url = base_url(url)
        self._token = Token(token) if token else None
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=10)
        self._retries = retries
        self._ssl = ssl_context
        self._opened: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"AsyncClient({self.url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()

    async def sessions(
        self, *, user_id: str | None = None, phase: Phase | None = None, awake: bool = False, page_size: int = 200
    ) -> AsyncIterator[Status]:
        """Every session, page by page; with `awake`, those that have or want a pod."""
        cursor: str | None = None
        while True:
            page = await self.list_sessions(
                cursor=cursor, limit=page_size, user_id=user_id, phase=phase, awake=awake or None
            )
            for session in page.sessions:
                yield session
            cursor = page.cursor
            if cursor is None:
                return

    async def audit_entries(
        self, *, uuid: str | None = None, caller: str | None = None, user_id: str | None = None, page_size: int = 200
    ) -> AsyncIterator[AuditEntry]:
        """Every entry of the audit, newest first, page by page. What is entered meanwhile is not among them."""
        cursor: str | None = None
        while True:
            page = await self.audit(cursor=cursor, limit=page_size, uuid=uuid, caller=caller, user_id=user_id)
            for entry in page.entries:
                yield entry
            cursor = page.cursor
            if cursor is None:
                return

    async def dashboard(self) -> str:
        """The address of the dashboard, where people sign in. Raises NotFound where the service has none."""
        await self._send(DASHBOARD)
        return f"{self.url}/dashboard"

    async def wait_ready(self, uuid: str, *, timeout: float = 300.0) -> Status:
        """Wait until the pod is ready; it does not wake it. Raises WaitTimeout, or SessionFailed if it is in vain."""
        return await self.wait(uuid, "ready", timeout=timeout)

    @overload
    async def wait(self, uuid: str, goal: Literal["ready", "asleep"], *, timeout: float = ...) -> Status: ...
    @overload
    async def wait(self, uuid: str, goal: Literal["deleted"], *, timeout: float = ...) -> None: ...
    async def wait(self, uuid: str, goal: Goal, *, timeout: float = 300.0) -> Status | None:
        """Wait for a phase. The status that has it; None for `deleted`. Raises as `wait_ready`."""
        waiting = Waiting(uuid, goal, timeout)
        while not waiting.is_reached(status := await self._status_or_none(uuid, goal)):
            await asyncio.sleep(waiting.delay(status))
        return status

    async def events(
        self, uuid: str, *, follow: bool = False, timeout: float | None = None
    ) -> AsyncIterator[ProgressEvent]:
        """The events of the current or the last wake. Reconnects by itself and continues after the last event.

        It ends with the wake; with `follow`, it goes on with the next one. Raises WaitTimeout after `timeout` seconds.
        Close it with `contextlib.aclosing` if you leave it early.
        """
        following = Following(uuid, follow=follow, timeout=timeout)
        delay: float | None = 0.0
        while delay is not None:
            await asyncio.sleep(delay)
            async with contextlib.aclosing(self._stream(following)) as stream:
                async for event in stream:
                    yield event
            delay = following.delay()

    async def _status_or_none(self, uuid: str, goal: Goal) -> Status | None:
        """None only where a session that is gone is the goal."""
        try:
            return await self.status(uuid)
        except SessionNotFound:
            if goal == "deleted":
                return None
            raise

    async def _send(self, call: Call[T]) -> T:
        attempts = Attempts(call, self._retries)
        while True:
            outcome = await self._exchange(call)
            delay = attempts.delay_after(outcome)
            if delay is not None:
                await asyncio.sleep(delay)
            elif isinstance(outcome, NoAnswer):
                raise outcome
            else:
                return call.result(outcome, repeated=attempts.unanswered > 0)

    async def _exchange(self, call: Call[Any]) -> Answer | NoAnswer:
        try:
            async with self._request(call, self._timeout) as response:
                return _answer(response, await _body(response))
        except (aiohttp.ClientError, OSError) as error:
            return self._no_answer(error)

    async def _stream(self, following: Following) -> AsyncGenerator[ProgressEvent, None]:
        """The events of one connection."""
        silence = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=following.silence)
        try:
            async with self._request(following.call(), silence) as response:
                while response.status == 200 and not following.is_over and (piece := await response.content.readany()):
                    for event in following.feed(piece):
                        yield event
                following.end(_answer(response, b"" if response.status == 200 else await _body(response)))
        except (aiohttp.ClientError, OSError) as error:
            following.end(self._no_answer(error))

    def _no_answer(self, error: Exception) -> NoAnswer:
        error = error.cause if isinstance(error, _Broken) else error
        insecure = isinstance(error, aiohttp.ClientSSLError | ssl.SSLError)
        return no_answer(self.url, type(error).__name__, late=isinstance(error, TimeoutError), insecure=insecure)

    def _request(self, call: Call[Any], timeout: aiohttp.ClientTimeout) -> "aiohttp.client._RequestContextManager":
        headers = {"Accept": "*/*", "User-Agent": "user-pods-client", **call.headers}
        if self._token is not None:
            headers["Authorization"] = self._token.header()
        return self._session().request(
            call.method,
            yarl.URL(self.url + call.target, encoded=True),
            data=call.content,
            headers=headers,
            timeout=timeout,
            allow_redirects=False,
        )

    def _session(self) -> aiohttp.ClientSession:
        if self._opened is None:
            connector = aiohttp.TCPConnector(ssl=self._ssl if self._ssl is not None else True)
            self._opened = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), middlewares=[_send_once]
            )
        return self._opened


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """The whole body, within the time of the request. Raises as `Body.add`."""
    body = Body()
    async for piece in response.content.iter_any():
        body.add(piece)
    return body.whole()


def _answer(response: aiohttp.ClientResponse, body: bytes) -> Answer:
    return Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, body)
