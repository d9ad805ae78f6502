"""The synchronous client, on urllib3."""

import contextlib
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self, TypeVar, overload

import urllib3
from urllib3.exceptions import HTTPError, SSLError

from user_pods_client.address import Token, base_url
from user_pods_client.call import DASHBOARD, Answer, Attempts, Body, Call
from user_pods_client.errors import NoAnswer, no_answer
from user_pods_client.following import Following
from user_pods_client.models import AuditEntry, Phase, ProgressEvent, Status
from user_pods_client.operations import Operations
from user_pods_client.problems import SessionNotFound
from user_pods_client.waiting import Goal, Waiting

T = TypeVar("T")


class Client(Operations):
    """Calls the service from ordinary code. Use it as a context manager, from any number of threads.

    `timeout`: seconds for one attempt; a create may take a minute. `retries`: how often a call that may be repeated is
    sent again after no answer, and any call after 429 or 503 with `Retry-After`. Every method raises a ClientError.
    """

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
        self._timeout = timeout
        self._retries = retries
        self._pool = urllib3.PoolManager(maxsize=10, retries=False, ssl_context=ssl_context)

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._pool.clear()

    def sessions(
        self, *, user_id: str | None = None, phase: Phase | None = None, awake: bool = False, page_size: int = 200
    ) -> Iterator[Status]:
        """Every session, page by page; with `awake`, those that have or want a pod."""
        cursor: str | None = None
        while True:
            page = self.list_sessions(cursor=cursor, limit=page_size, user_id=user_id, phase=phase, awake=awake or None)
            yield from page.sessions
            cursor = page.cursor
            if cursor is None:
                return

    def audit_entries(
        self, *, uuid: str | None = None, caller: str | None = None, user_id: str | None = None, page_size: int = 200
    ) -> Iterator[AuditEntry]:
        """Every entry of the audit, newest first, page by page. What is entered meanwhile is not among them."""
        cursor: str | None = None
        while True:
            page = self.audit(cursor=cursor, limit=page_size, uuid=uuid, caller=caller, user_id=user_id)
            yield from page.entries
            cursor = page.cursor
            if cursor is None:
                return

    def dashboard(self) -> str:
        """The address of the dashboard, where people sign in. Raises NotFound where the service has none."""
        self._send(DASHBOARD)
        return f"{self.url}/dashboard"

    def wait_ready(self, uuid: str, *, timeout: float = 300.0) -> Status:
        """Wait until the pod is ready; it does not wake it. Raises WaitTimeout, or SessionFailed if it is in vain."""
        return self.wait(uuid, "ready", timeout=timeout)

    @overload
    def wait(self, uuid: str, goal: Literal["ready", "asleep"], *, timeout: float = ...) -> Status: ...
    @overload
    def wait(self, uuid: str, goal: Literal["deleted"], *, timeout: float = ...) -> None: ...
    def wait(self, uuid: str, goal: Goal, *, timeout: float = 300.0) -> Status | None:
        """Wait for a phase. The status that has it; None for `deleted`. Raises as `wait_ready`."""
        waiting = Waiting(uuid, goal, timeout)
        while not waiting.is_reached(status := self._status_or_none(uuid, goal)):
            time.sleep(waiting.delay(status))
        return status

    def events(self, uuid: str, *, follow: bool = False, timeout: float | None = None) -> Iterator[ProgressEvent]:
        """The events of the current or the last wake. Reconnects by itself and continues after the last event.

        It ends with the wake; with `follow`, it goes on with the next one. Raises WaitTimeout after `timeout` seconds.
        """
        following = Following(uuid, follow=follow, timeout=timeout)
        delay: float | None = 0.0
        while delay is not None:
            time.sleep(delay)
            yield from self._stream(following)
            delay = following.delay()

    def _status_or_none(self, uuid: str, goal: Goal) -> Status | None:
        """None only where a session that is gone is the goal."""
        try:
            return self.status(uuid)
        except SessionNotFound:
            if goal == "deleted":
                return None
            raise

    def _send(self, call: Call[T]) -> T:
        attempts = Attempts(call, self._retries)
        while True:
            outcome = self._exchange(call)
            delay = attempts.delay_after(outcome)
            if delay is not None:
                time.sleep(delay)
            elif isinstance(outcome, NoAnswer):
                raise outcome
            else:
                return call.result(outcome, repeated=attempts.unanswered > 0)

    def _exchange(self, call: Call[Any]) -> Answer | NoAnswer:
        try:
            response = self._request(call, urllib3.Timeout(connect=min(10.0, self._timeout), read=self._timeout))
            return _answer(response, _body(response, self._timeout))
        except (HTTPError, OSError) as error:
            return self._no_answer(error)

    def _stream(self, following: Following) -> Iterator[ProgressEvent]:
        """The events of one connection."""
        try:
            response = self._request(following.call(), urllib3.Timeout(connect=10.0, read=following.silence))
            with contextlib.closing(response):
                while response.status == 200 and not following.is_over and (piece := response.read1(65536)):
                    yield from following.feed(piece)
                body = b"" if response.status == 200 else _body(response, self._timeout)
                following.end(_answer(response, body))
        except (HTTPError, OSError) as error:
            following.end(self._no_answer(error))

    def _no_answer(self, error: Exception) -> NoAnswer:
        kind = type(error).__name__
        return no_answer(self.url, kind, late="Timeout" in kind, insecure=isinstance(error, ssl.SSLError | SSLError))

    def _request(self, call: Call[Any], timeout: urllib3.Timeout) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": "*/*", "User-Agent": "user-pods-client", **call.headers}
        if self._token is not None:
            headers["Authorization"] = self._token.header()
        return self._pool.request(
            call.method,
            self.url + call.target,
            body=call.content,
            headers=headers,
            timeout=timeout,
            redirect=False,
            preload_content=False,
        )


def _body(response: urllib3.BaseHTTPResponse, seconds: float) -> bytes:
    """The whole body, which leaves the connection to the next call. Raises as `Body.add`; then it is closed."""
    body = Body(seconds)
    try:
        while piece := response.read1(65536):
            body.add(piece)
    except BaseException:
        response.close()
        raise
    response.release_conn()
    return body.whole()


def _answer(response: urllib3.BaseHTTPResponse, body: bytes) -> Answer:
    headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status, headers, body)
