"""The pods that requests are proxied to, each at its own address.

A moment later the address may be another user's pod. So connections belong to a pod's uid, and are closed as soon as
the cache shows another pod for the session.
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
from service.domain.phase import Phase
from service.domain.ports import WorkloadCache
from service.edge.aiohttp_internals.client import OriginClient, abort_body
from service.edge.connection_limits import HEADER_LIMIT, HEADER_LINES

UNAVAILABLE = frozenset({502, 503, 504})
"""Statuses by which a sidecar in front of the program says that the program has not started."""
_PROBE_INTERVAL = 0.02
"""Seconds between two attempts to connect to a pod that has just got its address. The first response waits for them."""
_EAGER_SECONDS = 3.0
"""For how long attempts come that often. Later they back off, and so they do where only a sidecar listens."""
_PROBE_BACKOFF = (0.05, 0.5)
"""Seconds: the first and the longest pause of that back-off."""
_CONNECT_TIMEOUT = 0.5
_PROBE_TIMEOUT = 1.0
"""Seconds after which a program that has taken a request counts as started: it is merely slow."""
_KEEPALIVE = 4.0
"""Seconds that an idle connection is kept. Node closes its side after five."""
_READ_AHEAD = 64 * 1024
"""Half of the bytes of a response that are read ahead of a slow client, roughly."""


class PodLost(Exception):
    """The pod is gone or never received the request, so the request can be repeated."""


class CannotStart(Exception):
    """Waiting will not make a pod respond; the message says why."""


class Upstream:
    """One pod: its `uid`, where it listens, and the connections to it."""

    def __init__(self, uid: str, address: str, port: int, head_limit: int = HEADER_LIMIT) -> None:
        self.uid = uid
        self.address = address
        self.port = port
        self.ready = False
        """Kubernetes reports it. Before that, something other than the workspace's program may answer."""
        self.responds = False
        """It has accepted a connection, or a request where it is not ready."""
        self.probe_interval = _PROBE_INTERVAL
        """Seconds until the next attempt to connect makes sense."""
        self.gone = asyncio.Event()
        """It is being deleted, or another pod has taken its place."""
        self.responses: set[ClientResponse] = set()
        """Those being streamed. When the pod is gone, their readers get a ClientPayloadError."""
        self._created_at = time.monotonic()
        self._listens = False
        self._backoff = Backoff(*_PROBE_BACKOFF)
        self._probing: asyncio.Task[bool] | None = None
        self._host = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        self._http = OriginClient(
            f"http://{self._host}",
            connect_timeout=_CONNECT_TIMEOUT,
            keepalive=_KEEPALIVE,
            head_limit=head_limit,
            read_ahead=_READ_AHEAD,
            max_headers=HEADER_LINES,
        )

    def request(
        self,
        method: str,
        target: str,
        headers: CIMultiDict[str],
        *,
        data: AsyncIterator[bytes] | None = None,
    ) -> Coroutine[Any, Any, ClientResponse]:
        """Send a request with exactly these headers. `target`, a path with its query, is sent byte for byte.

        Raises PodLost when the pod is gone by now.
        """
        if self.gone.is_set():
            raise PodLost
        return self._http.request(method, target, headers, data=data)

    async def accepts_connections(self) -> bool:
        """Whether the pod responds. Callers at the same time share one probe."""
        if self._probing is None:
            self._probing = asyncio.create_task(self._probe(), name=f"probe of {self.uid}")
            self._probing.add_done_callback(self._probed)
        return await asyncio.shield(self._probing)

    def request_failed(self) -> None:
        """A request found no started program. Probe again before the next one, unless the pod is ready."""
        if not self.ready:
            self.responds = False

    async def close(self) -> None:
        self.gone.set()
        for response in self.responses:
            abort_body(response, ClientPayloadError("the pod is gone"))
        await self._http.close()
        if self._probing is not None:
            await asyncio.wait({self._probing})

    def _probed(self, _: "asyncio.Task[bool]") -> None:
        self._probing = None

    async def _probe(self) -> bool:
        self._listens = await self._can_connect()
        self.responds = self._listens and (self.ready or await self._program_responds())
        if self.responds:
            self._backoff.reset()
        elif self._listens or time.monotonic() - self._created_at > _EAGER_SECONDS:
            self.probe_interval = self._backoff.next()
        return self.responds

    async def _can_connect(self) -> bool:
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT):
                transport, _ = await asyncio.get_running_loop().create_connection(
                    asyncio.Protocol, self.address, self.port, flags=socket.AI_NUMERICHOST
                )
        except (OSError, TimeoutError):
            return False
        transport.abort()
        return True

    async def _program_responds(self) -> bool:
        """Whether the program itself responds, in a pod that is not ready: a sidecar would reset, or send a 502.

        A harmless request finds out, so that no other request is lost.
        """
        headers = CIMultiDict({hdrs.HOST: self._host, hdrs.USER_AGENT: "user-pods-gateway", hdrs.ACCEPT: "*/*"})
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT), await self.request(hdrs.METH_HEAD, "/", headers) as response:
                return response.status not in UNAVAILABLE
        except (ClientConnectionError, PodLost, RuntimeError):
            return False
        except (ClientError, TimeoutError):
            return True  # it is slow, or does not speak HTTP, which its visitors should see


class Pods:
    """The pods of all sessions, kept up to date by the cache."""

    def __init__(self, cache: WorkloadCache, *, head_limit: int = HEADER_LIMIT) -> None:
        """`head_limit`: bytes that the head of a pod's response may have."""
        self._cache = cache
        self._head_limit = head_limit
        self._upstreams: dict[SessionId, Upstream] = {}
        self._watchers: defaultdict[SessionId, set[asyncio.Event]] = defaultdict(set)
        self._closing: set[asyncio.Task[None]] = set()
        self._unsubscribe = cache.subscribe(self._on_change)

    def current(self, uuid: SessionId) -> Upstream | None:
        """The session's pod, once it has an address."""
        workload = self._cache.workload(uuid)
        # At 0 replicas, a pod that is still visible is about to be deleted.
        pod = workload.pod if workload.replicas and workload.user_id is not None else None
        known = self._upstreams.get(uuid)
        if known is not None and (pod is None or pod.uid != known.uid):
            self._drop(uuid)
            known = None
        if known is None and pod is not None and pod.address and pod.port:
            known = self._upstreams[uuid] = Upstream(pod.uid, pod.address, pod.port, self._head_limit)
        if known is not None and pod is not None:
            known.ready = pod.ready
        return known

    async def responding(self, uuid: SessionId) -> Upstream:
        """Wait, however long it takes, until the session has a pod that responds. Raises CannotStart."""
        with self._watching(uuid) as changed:
            while True:
                changed.clear()
                self.check_startable(uuid)
                upstream = self.current(uuid)
                if upstream is not None and (
                    upstream.responds or (await upstream.accepts_connections() and not upstream.gone.is_set())
                ):
                    return upstream
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(upstream.probe_interval if upstream is not None else None):
                        await changed.wait()

    def check_startable(self, uuid: SessionId) -> None:
        """Raises CannotStart when it makes no sense to wait. That may depend on time alone, so check repeatedly."""
        workload = self._cache.workload(uuid)
        if workload.phase(is_wanted=True) is Phase.FAILED and (workload.broken_reason or workload.final):
            raise CannotStart(workload.broken_reason or workload.failure or "Kubernetes does not say why.")

    async def close(self) -> None:
        self._unsubscribe()
        for uuid in list(self._upstreams):
            self._drop(uuid)
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _on_change(self, uuid: SessionId) -> None:
        if uuid in self._upstreams:
            self.current(uuid)
        for changed in self._watchers.get(uuid, ()):
            changed.set()

    def _drop(self, uuid: SessionId) -> None:
        upstream = self._upstreams.pop(uuid)
        upstream.gone.set()
        task = asyncio.create_task(upstream.close(), name=f"closing {upstream.uid}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    @contextmanager
    def _watching(self, uuid: SessionId) -> Iterator[asyncio.Event]:
        """An event that is set when the session's workload changes."""
        changed = asyncio.Event()
        self._watchers[uuid].add(changed)
        try:
            yield changed
        finally:
            self._watchers[uuid].discard(changed)
            if not self._watchers[uuid]:
                del self._watchers[uuid]
