"""How many more sessions may be awake, by what the nodes have and what the pods of awake sessions request of it.

It is an upper bound: requests of other pods on the same nodes are not known.
"""

import asyncio
import logging
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from service.domain.clock import utc_now
from service.domain.cluster_facts import ClusterFacts, Node
from service.domain.errors import Unavailable
from service.domain.placement import ANYWHERE, Placement
from service.domain.ports import WorkloadCache
from service.domain.workload import Requests, Workload

log = logging.getLogger(__name__)

_FRESH = 30.0
"""Seconds for which one read of the nodes serves everybody who asks."""
_AGAIN = 5.0
"""Seconds after which a read that failed is tried again."""
_KEPT = timedelta(minutes=5)
"""For this long, nodes that were read are better than none, if the API server does not answer."""
_RECENT = 5.0
"""Seconds for which one sum serves everybody who asks."""
_BATCH = 500
_EPSILON = 1e-9


class Resource(StrEnum):
    CPU = "cpu"
    MEMORY = "memory"
    PODS = "pods"


@dataclass(frozen=True, slots=True)
class Amounts:
    """CPUs, GiB and a number of pods."""

    cpu: float = 0
    memory: float = 0
    pods: int = 0

    def __add__(self, other: "Amounts") -> "Amounts":
        return Amounts(self.cpu + other.cpu, self.memory + other.memory, self.pods + other.pods)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Of the nodes that take pods of sessions. `at`: when the nodes were read."""

    at: datetime
    nodes: int
    left_out: int
    """Nodes that are cordoned or not ready, or whose labels or taints keep all sessions' pods away."""
    allocatable: Amounts
    requested: Amounts
    """By the pods of awake sessions on these nodes."""
    waiting: int
    """Awake sessions whose pod has no node yet."""
    size: Requests | None
    """What a session's pod usually requests; None if there is no session."""
    room: int | None
    """How many more sessions of this size may be awake, at most; None if there is no session."""
    limited_by: Resource | None
    """What runs out first."""


class Unseen(StrEnum):
    """Why there is no capacity to tell."""

    NOT_ALLOWED = "not allowed"
    UNKNOWN = "unknown"
    """The API server does not answer, or not yet."""


class Demand:
    """What sessions request, summed up one by one."""

    def __init__(self) -> None:
        self.waiting = 0
        self._placed: dict[str, Amounts] = defaultdict(Amounts)
        self._kinds: Counter[tuple[int, int]] = Counter()
        self._examples: dict[tuple[int, int], tuple[Requests, Placement]] = {}

    @classmethod
    def of(cls, workloads: Iterable[Workload]) -> "Demand":
        demand = cls()
        for each in workloads:
            demand.add(each)
        return demand

    def add(self, workload: Workload) -> None:
        requests = workload.requests
        if requests is not None:
            # By identity: the few distinct values are shared, and hashing ten thousand of them takes long.
            kind = (id(requests), id(workload.placement))
            self._kinds[kind] += 1
            self._examples[kind] = (requests, workload.placement)
        if workload.replicas > 0:
            node = workload.pod.node if workload.pod is not None else None
            if node is None:
                self.waiting += 1
            else:
                cpu, memory = (requests.cpu, requests.memory) if requests is not None else (0, 0)
                self._placed[node] += Amounts(cpu, memory, 1)

    def on(self, node: str) -> Amounts:
        return self._placed.get(node, Amounts())

    def placements(self) -> Collection[Placement]:
        return {placement for _, placement in self._examples.values()} or {ANYWHERE}

    def usual(self) -> tuple[Requests, Placement] | None:
        """The most frequent kind of pod; one that requests nothing, which a LimitRange may change, only if all do."""
        counts: Counter[tuple[Requests, Placement]] = Counter()
        for kind, number in self._kinds.items():
            counts[self._examples[kind]] += number
        known = {kind: number for kind, number in counts.items() if kind[0].cpu or kind[0].memory} or counts
        return max(known, key=lambda kind: (known[kind], kind[0].memory, kind[0].cpu), default=None)


def capacity(nodes: Collection[Node], demand: Demand, at: datetime) -> Capacity:
    placements = demand.placements()
    counted = [
        node
        for node in nodes
        if node.usable and any(placement.accepts(node.labels, node.taints) for placement in placements)
    ]
    usual = demand.usual()
    room, limited_by = _room(counted, demand, *usual) if usual is not None else (None, None)
    return Capacity(
        at=at,
        nodes=len(counted),
        left_out=len(nodes) - len(counted),
        allocatable=sum((Amounts(node.cpu, node.memory, node.pods) for node in counted), Amounts()),
        requested=sum((demand.on(node.name) for node in counted), Amounts()),
        waiting=demand.waiting,
        size=usual[0] if usual is not None else None,
        room=room,
        limited_by=limited_by,
    )


def _room(nodes: Iterable[Node], demand: Demand, size: Requests, placement: Placement) -> tuple[int, Resource | None]:
    """Node by node, since a pod does not fit into what several nodes have left together."""
    fitting, by_resource = 0, Counter[Resource]()
    for node in nodes:
        if placement.accepts(node.labels, node.taints):
            fits = _fits(node, demand.on(node.name), size)
            fitting += min(fits.values())
            by_resource.update(fits)
    scarcest = min(by_resource, key=lambda resource: by_resource[resource], default=None)
    return max(0, fitting - demand.waiting), scarcest


def _fits(node: Node, requested: Amounts, size: Requests) -> Mapping[Resource, int]:
    """How many pods of that size fit into what is left, by each resource that they take."""
    left = {
        Resource.CPU: (node.cpu - requested.cpu, size.cpu),
        Resource.MEMORY: (node.memory - requested.memory, size.memory),
        Resource.PODS: (node.pods - requested.pods, 1),
    }
    return {resource: max(0, math.floor(free / each + _EPSILON)) for resource, (free, each) in left.items() if each > 0}


class ClusterCapacity:
    """Reads the nodes when somebody asks. Everybody shares one read, for which nobody waits longer than `wait`."""

    def __init__(
        self,
        facts: ClusterFacts,
        cache: WorkloadCache,
        *,
        wait: float = 1.0,
        now: Callable[[], datetime] = utc_now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`wait`: seconds. `clock` returns seconds and never goes back."""
        self._facts = facts
        self._cache = cache
        self._wait = wait
        self._now = now
        self._clock = clock
        self._reading: asyncio.Task[None] | None = None
        self._began = -math.inf
        self._due = -math.inf
        """When the nodes have to be read again."""
        self._nodes: tuple[datetime, Collection[Node] | None] | None = None
        """The last answer, and when it came; None before the first one. It holds None without the right."""
        self._summing = asyncio.Lock()
        self._sum: tuple[float, Capacity] | None = None

    async def read(self) -> Capacity | Unseen:
        """As it was half a minute ago at most, or five minutes if the API server does not answer. Raises nothing."""
        if self._reading is None and self._clock() >= self._due:
            self._began = self._clock()
            self._reading = asyncio.create_task(self._read_nodes(), name="nodes")
        if self._reading is not None and (left := self._began + self._wait - self._clock()) > 0:
            await asyncio.wait([self._reading], timeout=left)
        if self._nodes is None:
            return Unseen.UNKNOWN
        at, nodes = self._nodes
        if nodes is None:
            return Unseen.NOT_ALLOWED
        return await self._summed(nodes, at) if self._now() - at < _KEPT else Unseen.UNKNOWN

    async def _read_nodes(self) -> None:
        pause = _AGAIN
        try:
            self._nodes = self._now(), await self._facts.nodes()
            pause = _FRESH
        except Unavailable as error:
            log.info("the nodes cannot be read: %s", error)
        except Exception:
            log.exception("the nodes cannot be read")
        finally:
            self._due, self._reading = self._clock() + pause, None

    async def _summed(self, nodes: Collection[Node], at: datetime) -> Capacity:
        async with self._summing:
            if self._sum is None or self._sum[1].at != at or self._clock() - self._sum[0] >= _RECENT:
                demand, uuids = Demand(), list(self._cache.uuids())
                for start in range(0, len(uuids), _BATCH):
                    for uuid in uuids[start : start + _BATCH]:
                        demand.add(self._cache.workload(uuid))
                    await asyncio.sleep(0)
                self._sum = self._clock(), capacity(nodes, demand, at)
            return self._sum[1]
