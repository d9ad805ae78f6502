"""The pods as they can be reached: each at its own address, over connections that live no longer than it does.

An address may be another user's pod a moment later. So connections belong to a pod's uid, and are closed when the view
no longer shows that pod as the session's.
"""

import asyncio
import contextlib
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import ClientPayloadError, ClientResponse, hdrs
from multidict import CIMultiDict

from service.domain.names import SessionId
from service.domain.ports import View
from service.domain.session import Pod
from service.gateway.client import PodClient

_KNOCK = 0.02
"""Seconds between two attempts to connect to a pod that is starting."""
_KNOCK_TIMEOUT = 0.5
_IDLE = 4.0
"""Seconds that an idle connection is kept: Node ends its own after five."""
_READ = 64 * 1024
"""Half of the bytes of an answer that are read ahead of a slow client, give or take what comes in one go."""
HEADER_LIMIT = 64 * 1024
"""Bytes of one header, and of the request line, in both directions."""
_ADDED = (hdrs.USER_AGENT, hdrs.ACCEPT, hdrs.ACCEPT_ENCODING)
"""Headers that the client adds by itself, beside a body's type."""


class PodLost(Exception):
    """The pod went away, or never took the request, so that the request may be made again."""


class Upstream:
    """One pod: `uid`, where it listens, and the connections to it."""

    def __init__(self, uid: str, address: str, port: int) -> None:
        self.uid = uid
        self.address = address
        self.port = port
        self.answered = False
        """It has taken a connection."""
        self.gone = asyncio.Event()
        """It is being deleted, or somebody else's turn has come."""
        self.answers: set[ClientResponse] = set()
        """Those being passed on: what reads them gets a ClientPayloadError when the pod is gone."""
        host = f"[{address}]" if ":" in address else address
        self._http = PodClient(
            f"http://{host}:{port}", connect_timeout=_KNOCK_TIMEOUT, idle=_IDLE, head_limit=HEADER_LIMIT, read=_READ
        )

    def request(
        self,
        method: str,
        target: str,
        headers: CIMultiDict[str],
        *,
        data: AsyncIterator[bytes] | None = None,
    ) -> Coroutine[Any, Any, ClientResponse]:
        """Ask the pod with these headers and no others; `target` is a path with its query, taken as it stands.

        Raises PodLost when the pod is gone by now.
        """
        if self.gone.is_set():
            raise PodLost
        # To tell the client what it must not add takes it longer than all else that it does with headers, and browsers
        # leave nothing to add to most of their requests.
        added = _ADDED if data is None else (*_ADDED, hdrs.CONTENT_TYPE)
        missing = [name for name in added if name not in headers]
        return self._http.request(method, target, headers, data=data, skip=missing or None)

    async def knock(self) -> bool:
        """Whether it takes connections."""
        try:
            async with asyncio.timeout(_KNOCK_TIMEOUT):
                transport, _ = await asyncio.get_running_loop().create_connection(
                    asyncio.Protocol, self.address, self.port, flags=socket.AI_NUMERICHOST
                )
        except (OSError, TimeoutError):
            return False
        transport.abort()
        self.answered = True
        return True

    async def close(self) -> None:
        self.gone.set()
        for answer in self.answers:
            if not answer.content.is_eof():
                # The client alone would leave whoever waits for more of it waiting.
                answer.content.set_exception(ClientPayloadError("the pod is gone"))
        await self._http.close()


class Pods:
    """The upstreams of all sessions, as the view tells of them."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._upstreams: dict[SessionId, Upstream] = {}
        self._waiting: defaultdict[SessionId, set[asyncio.Event]] = defaultdict(set)
        self._closing: set[asyncio.Task[None]] = set()
        self._unsubscribe = view.subscribe(self._changed)

    def present(self, uuid: SessionId) -> Upstream | None:
        """The session's pod, if one can be dialled by now."""
        pod = self._pod(uuid)
        known = self._upstreams.get(uuid)
        if known is not None and (pod is None or pod.uid != known.uid):
            self._drop(uuid)
            known = None
        if known is None and pod is not None and pod.address and pod.port:
            known = self._upstreams[uuid] = Upstream(pod.uid, pod.address, pod.port)
        return known

    async def answering(self, uuid: SessionId) -> Upstream:
        """Wait, for as long as it takes, until the session has a pod that takes connections."""
        with self._following(uuid) as news:
            while True:
                news.clear()
                upstream = self.present(uuid)
                if upstream is None:
                    await news.wait()
                elif upstream.answered or (await upstream.knock() and not upstream.gone.is_set()):
                    return upstream
                else:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_KNOCK):
                            await news.wait()

    async def close(self) -> None:
        self._unsubscribe()
        for uuid in list(self._upstreams):
            self._drop(uuid)
        await asyncio.gather(*self._closing)

    def _pod(self, uuid: SessionId) -> Pod | None:
        workload = self._view.workload(uuid)
        # At 0 replicas what is still to be seen is about to be deleted.
        return workload.pod if workload.replicas and workload.user_id is not None else None

    def _changed(self, uuid: SessionId) -> None:
        if uuid in self._upstreams:
            self.present(uuid)
        for news in self._waiting.get(uuid, ()):
            news.set()

    def _drop(self, uuid: SessionId) -> None:
        upstream = self._upstreams.pop(uuid)
        upstream.gone.set()
        task = asyncio.ensure_future(upstream.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    @contextmanager
    def _following(self, uuid: SessionId) -> Iterator[asyncio.Event]:
        news = asyncio.Event()
        self._waiting[uuid].add(news)
        try:
            yield news
        finally:
            self._waiting[uuid].discard(news)
            if not self._waiting[uuid]:
                del self._waiting[uuid]
