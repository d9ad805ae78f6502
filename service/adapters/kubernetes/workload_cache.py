"""The WorkloadCache port: an informer that lists each kind once and then watches it, so that a read costs no request.

One reflector per kind resumes from the last resourceVersion that it saw, bookmarks included. It lists again when the
API server no longer has that version. It backs off with jitter when the API server does not answer, or ends a watch at
once. A watch whose peer is gone is noticed within a minute, when it should have ended.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from functools import partial

from service.adapters.kubernetes.api import KubeApi, ResourceVersionExpired, retry_delay
from service.adapters.kubernetes.fields import Json, as_dict, name_of, text
from service.adapters.kubernetes.objects import Kind, Objects, UnreadableObject, own_address, parse, session_id_of
from service.adapters.kubernetes.paths import collections
from service.adapters.kubernetes.pod_addresses import PodAddresses
from service.domain.backoff import Backoff
from service.domain.errors import ClusterUnavailable
from service.domain.names import SessionId
from service.domain.supervisor import Supervisor
from service.domain.workload import Workload

log = logging.getLogger(__name__)

_PROBE_AFTER = 5.0
"""Seconds of silence after which the cache probes the API server."""
BREAKS = ("expired", "lost", "unreadable")
"""The resourceVersion was too old; the API server did not answer; an object could not be read."""
_BACKOFF = (0.1, 2.0)
"""Seconds: the shortest and longest delay after a failure. Short, to notice soon when the API server is back."""
_RELIST_BACKOFF = (0.5, 30.0)
"""The same before listing everything again, which is expensive for the API server."""
_HEALTHY_AFTER = 5.0
"""Seconds after which a watch counts as healthy and the backoff is reset."""
_TRUSTED_AFTER = 2.0
"""Seconds after which an open watch counts as up to date, even if it has sent no event yet."""
_CONCURRENT_LISTS = 2
"""Kinds that one replica lists at the same time."""


class KubeWorkloadCache:
    """See `service.domain.ports.WorkloadCache`.

    A pod that waits longer than `schedule_timeout` for a node gets a warning.
    """

    def __init__(self, api: KubeApi, *, namespace: str, schedule_timeout: timedelta) -> None:
        self._api = api
        self._namespace = namespace
        self._collections = collections(namespace)
        self._schedule_timeout = schedule_timeout
        self._objects: dict[SessionId, Objects] = {}
        self._combined: dict[SessionId, Workload] = {}
        """Workloads that do not change by the passing of time alone, combined once and reused."""
        self._names: dict[Kind, dict[str, SessionId]] = {kind: {} for kind in Kind}
        self._addresses = PodAddresses()
        self._listeners: list[Callable[[SessionId], None]] = []
        self._lost: dict[Kind, float] = dict.fromkeys(Kind, 0.0)
        """Kinds whose watch has failed and received nothing since; the value says when it failed (0: never ran)."""
        self._opened: dict[Kind, float] = {}
        """Kinds whose watch is open, and since when."""
        self._list_slots = asyncio.Semaphore(_CONCURRENT_LISTS)
        self._last_contact = 0.0
        """When the API server last sent anything."""
        self._silent = False
        """The last probe got no answer."""
        self._unlisted = set(Kind)
        """Kinds that have never been listed completely."""
        self._synced = asyncio.Event()
        self.breaks: Counter[str] = Counter(dict.fromkeys(BREAKS, 0))
        """How often a watch could not resume, by cause (see BREAKS)."""

    # --- the port ---

    def workload(self, uuid: SessionId) -> Workload:
        combined = self._combined.get(uuid)
        if combined is not None:
            return combined
        objects = self._objects.get(uuid)
        if objects is None:
            return Workload(uuid)
        workload = objects.workload(uuid, namespace=self._namespace, schedule_timeout=self._schedule_timeout)
        if not objects.is_time_dependent:
            self._combined[uuid] = workload
        return workload

    def session_at(self, address: str) -> SessionId | None:
        return self._addresses.session(address)

    def uuids(self) -> Iterable[SessionId]:
        return list(self._objects)

    def behind(self) -> timedelta | None:
        now = _now()
        since = [lost for kind, lost in self._lost.items() if now - self._opened.get(kind, now) < _TRUSTED_AFTER]
        if self._silent:
            since.append(self._last_contact)
        return timedelta(seconds=now - min(since)) if since else None

    def subscribe(self, listener: Callable[[SessionId], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # --- the watches ---

    @property
    def has_synced(self) -> bool:
        """Whether every kind has been listed once."""
        return self._synced.is_set()

    def running(self, supervisor: Supervisor | None = None) -> AbstractAsyncContextManager[None]:
        """Run the watches until the context ends."""
        watches = {f"watch {kind.value}": partial(self._follow, kind) for kind in Kind}
        return (supervisor or Supervisor()).running({**watches, "watch probe": self._probe})

    async def wait_synced(self) -> None:
        await self._synced.wait()

    async def _follow(self, kind: Kind) -> None:
        version, backoff, relist_backoff = "", Backoff(*_BACKOFF), Backoff(*_RELIST_BACKOFF)
        while True:
            begun = _now()
            try:
                version = version or await self._list(kind)
                begun = _now()
                watch = self._api.watch(self._collections[kind], version, opened=partial(self._mark_opened, kind))
                async with contextlib.aclosing(watch) as changes:
                    async for change, item in changes:
                        version = text(as_dict(item.get("metadata")).get("resourceVersion")) or version
                        self._mark_alive(kind)
                        if change != "BOOKMARK":
                            self._apply(kind, item, deleted=change == "DELETED")
                # The API server ends every watch after a while. Back off from one that ends at once.
                delay = 0.0 if _now() - begun >= _HEALTHY_AFTER else backoff.next()
            except ResourceVersionExpired:
                log.info("listing again: the resourceVersion has expired", extra={"kind": kind.value})
                version, delay = "", relist_backoff.next()
                self.breaks["expired"] += 1
            except ClusterUnavailable as error:
                delay = self._mark_lost(kind, error, backoff.next())
            except Exception:
                log.exception("a watch failed; listing again", extra={"kind": kind.value})
                version, delay = "", relist_backoff.next()
                self._lost.setdefault(kind, _now())
                self.breaks["unreadable"] += 1
            finally:
                self._opened.pop(kind, None)
            if _now() - begun >= _HEALTHY_AFTER:
                backoff.reset()
                relist_backoff.reset()
            await asyncio.sleep(delay)

    def _mark_lost(self, kind: Kind, error: ClusterUnavailable, delay: float) -> float:
        """Note that the watch is lost. Returns the delay before the next attempt, longer if the API server asks."""
        self.breaks["lost"] += 1
        self._lost.setdefault(kind, _now())
        log.warning("the watch broke off", extra={"kind": kind.value, "why": repr(error.__cause__)[:200]})
        return delay if error.retry_after is None else max(delay, retry_delay(error.retry_after))

    async def _list(self, kind: Kind) -> str:
        """Replace everything known of the kind by a new list. Returns the resourceVersion to watch from."""
        missing, version = dict(self._names[kind]), ""
        async with self._list_slots:
            async for page, version in self._api.pages(self._collections[kind]):  # noqa: B007
                for item in page:
                    missing.pop(name_of(item), None)
                    self._apply(kind, item, deleted=False)
                self._last_contact = _now()
                await asyncio.sleep(0)
        for name, uuid in missing.items():
            self._put(kind, name, uuid, None)
        self._mark_alive(kind)
        self._unlisted.discard(kind)
        if not self._unlisted:
            self._synced.set()
        return version

    def _mark_opened(self, kind: Kind) -> None:
        self._opened[kind] = _now()

    def _mark_alive(self, kind: Kind) -> None:
        """Note that data has arrived: an open watch without any could be about to fail again."""
        self._lost.pop(kind, None)
        self._last_contact = _now()

    def _apply(self, kind: Kind, item: Json, *, deleted: bool) -> None:
        name = name_of(item)
        uuid, known = session_id_of(kind, item), self._names[kind].get(name)
        if known is not None and (deleted or uuid is None):
            self._put(kind, name, known, None)  # it is deleted, or no longer belongs to a session
        elif uuid is not None and not deleted:
            self._put(kind, name, uuid, item)

    def _put(self, kind: Kind, name: str, uuid: SessionId, item: Json | None) -> None:
        part = None if item is None else parse(kind, item)
        if kind is Kind.POD:
            self._addresses.put(name, uuid, own_address(part))
        if isinstance(part, UnreadableObject):
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
        self._combined.pop(uuid, None)
        for listener in [*self._listeners]:
            try:
                listener(uuid)
            except Exception:
                log.exception("a listener failed", extra={"uuid": uuid})

    async def _probe(self) -> None:
        """Notice an API server that keeps its connections open and sends nothing, which a watch alone cannot see."""
        while True:
            await asyncio.sleep(_PROBE_AFTER)
            if not self.has_synced or (_now() - self._last_contact < _PROBE_AFTER and not self._silent):
                continue
            try:
                await self._api.check_readable(self._collections[Kind.DEPLOYMENT])
                self._silent, self._last_contact = False, _now()
            except (ClusterUnavailable, ResourceVersionExpired):
                self._silent = True


def _now() -> float:
    return asyncio.get_running_loop().time()
