"""The WorkloadCache on watches: lists each kind once, then follows its changes, so that reading costs no request.

One reflector per kind goes on from the last resourceVersion it saw (bookmarks included), lists again when the API
server no longer has that version, and backs off with jitter when it does not answer, or ends a watch at once. A watch
whose other end is gone without a word is noticed by its own end, which comes within a minute.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

from service.adapters.kubernetes.api import Expired, KubeApi, pause_of
from service.adapters.kubernetes.fields import Json, as_dict, name_of, text
from service.adapters.kubernetes.objects import Fault, Kind, Objects, cut, place
from service.adapters.kubernetes.paths import Paths
from service.domain.backoff import Backoff
from service.domain.errors import ClusterUnavailable
from service.domain.names import SessionId
from service.domain.session import Workload
from service.domain.supervisor import Supervisor

log = logging.getLogger(__name__)

_PROBE = 5.0
"""Seconds of silence after which the API server is asked whether it is still there."""
BREAKS = ("expired", "lost", "unreadable")
"""The version was too old to go on from; the API server did not answer; an object could not be read."""
_BACKOFF = (0.1, 2.0)
"""Seconds: the first pause after a failure, and the longest: an API server that is back is found soon."""
_RELIST = (0.5, 30.0)
"""The same before everything is listed again, which costs an API server much."""
_STEADY = 5.0
"""Seconds after which a watch counts as one that works."""
_HOLDS = 2.0
"""Seconds after which a watch that is open is believed to tell of all changes, although it has told of none yet."""
_LISTS_AT_ONCE = 2
"""Kinds that one replica lists at the same time."""


class KubeWorkloadCache:
    """See `service.domain.ports.WorkloadCache`. `patience`: how long a pod may wait for a node before a warning."""

    def __init__(self, api: KubeApi, *, namespace: str, patience: timedelta) -> None:
        self._api = api
        self._paths = Paths(namespace)
        self._patience = patience
        self._objects: dict[SessionId, Objects] = {}
        self._ready: dict[SessionId, Workload] = {}
        """Put together already, of those that do not change by time alone."""
        self._names: dict[Kind, dict[str, SessionId]] = {kind: {} for kind in Kind}
        self._listeners: list[Callable[[SessionId], None]] = []
        self._lost: dict[Kind, float] = dict.fromkeys(Kind, 0.0)
        """Kinds whose watch has failed, and since when (0: never ran); until they are heard of again."""
        self._opened: dict[Kind, float] = {}
        """Kinds whose watch is open, and since when."""
        self._listing = asyncio.Semaphore(_LISTS_AT_ONCE)
        self._heard = 0.0
        self._silent = False
        self._unlisted = set(Kind)
        """Kinds that have never been listed; whether their watches hold is another matter."""
        self._filled = asyncio.Event()
        self.breaks: Counter[str] = Counter(dict.fromkeys(BREAKS, 0))
        """How often a watch could not simply go on, and why (see BREAKS)."""

    # --- the port ---

    def workload(self, uuid: SessionId) -> Workload:
        known = self._ready.get(uuid)
        if known is not None:
            return known
        objects = self._objects.get(uuid)
        if objects is None:
            return Workload(uuid)
        workload = objects.workload(uuid, patience=self._patience)
        if not objects.age:
            self._ready[uuid] = workload
        return workload

    def uuids(self) -> Iterable[SessionId]:
        return list(self._objects)

    def behind(self) -> timedelta | None:
        now = _now()
        since = [lost for kind, lost in self._lost.items() if now - self._opened.get(kind, now) < _HOLDS]
        if self._silent:
            since.append(self._heard)
        return timedelta(seconds=now - min(since)) if since else None

    def subscribe(self, listener: Callable[[SessionId], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # --- following ---

    @property
    def filled(self) -> bool:
        """Whether everything has been listed once."""
        return self._filled.is_set()

    @asynccontextmanager
    async def following(self, supervisor: Supervisor | None = None) -> AsyncIterator[None]:
        """Follow for as long as the context lasts."""
        watches = {f"watch {kind.value}": partial(self._follow, kind) for kind in Kind}
        async with (supervisor or Supervisor()).running({**watches, "watch probe": self._probe}):
            yield

    async def wait_filled(self) -> None:
        await self._filled.wait()

    async def _follow(self, kind: Kind) -> None:
        version, lost, relists = "", Backoff(*_BACKOFF), Backoff(*_RELIST)
        while True:
            begun = _now()
            try:
                version = version or await self._list(kind)
                begun = _now()
                async for change, item in self._watch(kind, version):
                    version = text(as_dict(item.get("metadata")).get("resourceVersion")) or version
                    self._found(kind)
                    if change != "BOOKMARK":
                        self._enter(kind, item, gone=change == "DELETED")
                # An API server ends every watch after a while. One that ends at once is not what it should be.
                pause = 0.0 if _now() - begun >= _STEADY else lost.next()
            except Expired:
                log.info("listing again: the API server cannot go on", extra={"kind": kind.value})
                version, pause = "", relists.next()
                self.breaks["expired"] += 1
            except ClusterUnavailable as error:
                pause = self._is_lost(kind, error, lost.next())
            except Exception:
                log.exception("a watch failed; listing again", extra={"kind": kind.value})
                version, pause = "", relists.next()
                self._lost.setdefault(kind, _now())
                self.breaks["unreadable"] += 1
            if _now() - begun >= _STEADY:
                lost.reset()
                relists.reset()
            await asyncio.sleep(pause)

    def _is_lost(self, kind: Kind, error: ClusterUnavailable, pause: float) -> float:
        """Note that the watch does not run; the pause until the next try, longer where the API server asks for it."""
        self.breaks["lost"] += 1
        self._lost.setdefault(kind, _now())
        log.warning("the watch broke off", extra={"kind": kind.value, "why": repr(error.__cause__)[:200]})
        return pause if error.retry_after is None else max(pause, pause_of(error.retry_after))

    async def _watch(self, kind: Kind, version: str) -> AsyncGenerator[tuple[str, Json]]:
        path, selector = self._paths.of(kind), self._paths.selector(kind)
        metadata, opened = self._paths.metadata(kind), partial(self._opens, kind)
        changes = self._api.watch(path, selector, version, metadata=metadata, opened=opened)
        try:
            async with contextlib.aclosing(changes):
                async for change in changes:
                    yield change
        finally:
            self._opened.pop(kind, None)

    async def _list(self, kind: Kind) -> str:
        """Take in everything there is and forget what is not there any more; the version to go on from."""
        async with self._listing:
            return await self._list_all(kind)

    async def _list_all(self, kind: Kind) -> str:
        path, selector = self._paths.of(kind), self._paths.selector(kind)
        gone, version = dict(self._names[kind]), ""
        async for page, version in self._api.pages(path, selector, metadata=self._paths.metadata(kind)):  # noqa: B007
            for item in page:
                gone.pop(name_of(item), None)
                self._enter(kind, item, gone=False)
            self._heard = _now()
            await asyncio.sleep(0)
        for name, uuid in gone.items():
            self._put(kind, name, uuid, None)
        self._found(kind)
        self._unlisted.discard(kind)
        if not self._unlisted:
            self._filled.set()
        return version

    def _opens(self, kind: Kind) -> None:
        self._opened[kind] = _now()

    def _found(self, kind: Kind) -> None:
        """Something was heard of the kind: an open watch that says nothing could be one that will fail again."""
        self._lost.pop(kind, None)
        self._heard = _now()

    def _enter(self, kind: Kind, item: Json, *, gone: bool) -> None:
        name = name_of(item)
        uuid, known = place(kind, item), self._names[kind].get(name)
        if known is not None and (gone or uuid is None):
            self._put(kind, name, known, None)  # it is gone, or is no session's any more
        elif uuid is not None and not gone:
            self._put(kind, name, uuid, item)

    def _put(self, kind: Kind, name: str, uuid: SessionId, item: Json | None) -> None:
        part = None if item is None else cut(kind, item)
        if isinstance(part, Fault):
            self.breaks["unreadable"] += 1
        objects = self._objects.get(uuid)
        if part is None:
            self._names[kind].pop(name, None)
            if objects is None:
                return
        else:
            self._names[kind][name] = uuid
            objects = objects or self._objects.setdefault(uuid, Objects())
        if not objects.put(kind, name, part):
            return
        if not objects:
            del self._objects[uuid]
        self._ready.pop(uuid, None)
        for listener in [*self._listeners]:
            try:
                listener(uuid)
            except Exception:
                log.exception("a listener failed", extra={"uuid": uuid})

    async def _probe(self) -> None:
        """Find out about an API server that keeps its connections and sends nothing: a watch alone cannot tell."""
        while True:
            await asyncio.sleep(_PROBE)
            if not self.filled or (_now() - self._heard < _PROBE and not self._silent):
                continue
            try:
                await self._api.check_readable(self._paths.of(Kind.DEPLOYMENT), self._paths.selector(Kind.DEPLOYMENT))
                self._silent, self._heard = False, _now()
            except (ClusterUnavailable, Expired):
                self._silent = True


def _now() -> float:
    return asyncio.get_running_loop().time()
