"""The pods as they can be reached: each at its own address, over connections that live no longer than it does.

An address may be another user's pod a moment later. So connections belong to a pod's uid, and are closed when the cache
no longer shows that pod as the session's.
"""

import asyncio
import contextlib
import socket
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import ClientConnectionError, ClientError, ClientPayloadError, ClientResponse, hdrs
from multidict import CIMultiDict

from service.domain.backoff import Backoff
from service.domain.names import SessionId
from service.domain.ports import WorkloadCache
from service.domain.session import Phase, Pod
from service.edge.connection_limits import HEADER_LIMIT, HEADER_LINES
from service.gateway.proxy.pod_client import PodClient

_KNOCK = 0.02
"""Seconds between two attempts to connect to a pod that has just got its address: the first answer waits for them."""
_EAGER = 3.0
"""Seconds for which it is knocked at so often; later, and where something listens that is of no use yet, less often."""
_AGAIN = (0.05, 0.5)
"""Seconds: the first pause then, and the longest."""
_KNOCK_TIMEOUT = 0.5
_SPEAK_TIMEOUT = 1.0
"""Seconds until a program that takes a request counts as there: it is only slow."""
UNAVAILABLE = frozenset({502, 503, 504})
"""Statuses by which something before the program (a sidecar) says that the program is not there."""
_IDLE = 4.0
"""Seconds that an idle connection is kept: Node ends its own after five."""
_READ = 64 * 1024
"""Half of the bytes of an answer that are read ahead of a slow client, give or take what comes in one go."""


class PodLost(Exception):
    """The pod went away, or never took the request, so that the request may be made again."""


class CannotStart(Exception):
    """No pod will answer by waiting; the message says why."""


class Upstream:
    """One pod: `uid`, where it listens, and the connections to it."""

    def __init__(self, uid: str, address: str, port: int, head_limit: int = HEADER_LIMIT) -> None:
        self.uid = uid
        self.address = address
        self.port = port
        self.ready = False
        """Kubernetes says so. Before, something else than the workspace's program may answer for it."""
        self.answered = False
        """It has taken a connection, or a request where it is not ready."""
        self.pause = _KNOCK
        """Seconds until it is worth while to knock again."""
        self._since = time.monotonic()
        self._listens = False
        self._backoff = Backoff(*_AGAIN)
        self._knocking: asyncio.Task[bool] | None = None
        self.gone = asyncio.Event()
        """It is being deleted, or somebody else's turn has come."""
        self.answers: set[ClientResponse] = set()
        """Those being passed on: what reads them gets a ClientPayloadError when the pod is gone."""
        self._host = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        self._http = PodClient(
            f"http://{self._host}",
            connect_timeout=_KNOCK_TIMEOUT,
            idle=_IDLE,
            head_limit=head_limit,
            read=_READ,
            lines=HEADER_LINES,
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
        return self._http.request(method, target, headers, data=data)

    async def accepts_connections(self) -> bool:
        """Whether it answers. Those who ask at the same time share one look."""
        if self._knocking is None:
            self._knocking = asyncio.create_task(self._knock())
            self._knocking.add_done_callback(self._has_knocked)
        return await asyncio.shield(self._knocking)

    def _has_knocked(self, _: "asyncio.Task[bool]") -> None:
        self._knocking = None

    async def _knock(self) -> bool:
        self._listens = await self._takes_connections()
        self.answered = self._listens and (self.ready or await self._speaks())
        if self.answered:
            self._backoff.reset()
        elif self._listens or time.monotonic() - self._since > _EAGER:
            self.pause = self._backoff.next()
        return self.answered

    async def _takes_connections(self) -> bool:
        try:
            async with asyncio.timeout(_KNOCK_TIMEOUT):
                transport, _ = await asyncio.get_running_loop().create_connection(
                    asyncio.Protocol, self.address, self.port, flags=socket.AI_NUMERICHOST
                )
        except (OSError, TimeoutError):
            return False
        transport.abort()
        return True

    async def _speaks(self) -> bool:
        """Whether the program itself answers, of a pod that is not ready: what stands before it resets, or says 502.

        A harmless request finds out, so that no other one is lost.
        """
        headers = CIMultiDict({hdrs.HOST: self._host, hdrs.USER_AGENT: "user-pods-gateway", hdrs.ACCEPT: "*/*"})
        try:
            async with asyncio.timeout(_SPEAK_TIMEOUT), await self.request(hdrs.METH_HEAD, "/", headers) as answer:
                return answer.status not in UNAVAILABLE
        except (ClientConnectionError, PodLost, RuntimeError):
            return False
        except (ClientError, TimeoutError):
            return True  # it takes its time, or is no HTTP, which is for whoever asks to hear

    def failed(self) -> None:
        """A request has found nothing of use there: look again before the next one, unless the pod is ready."""
        if not self.ready:
            self.answered = False

    async def close(self) -> None:
        self.gone.set()
        for answer in self.answers:
            if not answer.content.is_eof():
                # The client alone would leave whoever waits for more of it waiting.
                answer.content.set_exception(ClientPayloadError("the pod is gone"))
        await self._http.close()
        if self._knocking is not None:
            await asyncio.wait({self._knocking})


class Pods:
    """The upstreams of all sessions, as the cache tells of them."""

    def __init__(self, cache: WorkloadCache, *, head_limit: int = HEADER_LIMIT) -> None:
        """`head_limit`: bytes of the head of a pod's answer."""
        self._cache = cache
        self._head_limit = head_limit
        self._upstreams: dict[SessionId, Upstream] = {}
        self._waiting: defaultdict[SessionId, set[asyncio.Event]] = defaultdict(set)
        self._closing: set[asyncio.Task[None]] = set()
        self._unsubscribe = cache.subscribe(self._changed)

    def present(self, uuid: SessionId) -> Upstream | None:
        """The session's pod, if one can be dialled by now."""
        pod = self._pod(uuid)
        known = self._upstreams.get(uuid)
        if known is not None and (pod is None or pod.uid != known.uid):
            self._drop(uuid)
            known = None
        if known is None and pod is not None and pod.address and pod.port:
            known = self._upstreams[uuid] = Upstream(pod.uid, pod.address, pod.port, self._head_limit)
        if known is not None and pod is not None:
            known.ready = pod.ready
        return known

    async def answering(self, uuid: SessionId) -> Upstream:
        """Wait, for as long as it takes, until the session has a pod that answers. Raises Hopeless."""
        with self._following(uuid) as news:
            while True:
                news.clear()
                self.must_be_possible(uuid)
                upstream = self.present(uuid)
                if upstream is None:
                    await news.wait()
                elif upstream.answered or (await upstream.accepts_connections() and not upstream.gone.is_set()):
                    return upstream
                else:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(upstream.pause):
                            await news.wait()

    def must_be_possible(self, uuid: SessionId) -> None:
        """Raises Hopeless when nothing can come of waiting; time alone may tell, so ask again and again."""
        workload = self._cache.workload(uuid)
        if workload.phase(is_wanted=True) is Phase.FAILED and (workload.broken_reason or workload.final):
            raise CannotStart(workload.broken_reason or workload.failure or "Kubernetes does not say why.")

    async def close(self) -> None:
        self._unsubscribe()
        for uuid in list(self._upstreams):
            self._drop(uuid)
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _pod(self, uuid: SessionId) -> Pod | None:
        workload = self._cache.workload(uuid)
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
