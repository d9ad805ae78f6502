"""The faults, in the order of the table. Each is a context manager: the fault begins on entry and ends on exit."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from devcluster.certificates import Authority
from faults import truth
from faults.calls import Rules
from faults.load import Load
from faults.proxy import NonsenseServer
from faults.redis_pair import Pair
from faults.starts import Starts
from faults.system import System
from faults.trial import Fault

During = Callable[[System, Load], AbstractAsyncContextManager[None]]
_REDIS = frozenset({"redis"})
_KUBERNETES = frozenset({"kubernetes"})
_CAUGHT = ("helm-timeout", "install-failed")
"""The problem of a helm run that was interrupted by the API server's outage."""
_BURST = 4


@asynccontextmanager
async def nothing(_system: System, _load: Load) -> AsyncIterator[None]:
    """The same load without a fault, to compare with."""
    yield


# --- replicas ---


@asynccontextmanager
async def replicas_killed(system: System, load: Load) -> AsyncIterator[None]:
    """Each replica in turn, each time in the middle of creates."""
    for delay in (0.15, 0.5):
        for replica in system.replicas:
            load.burst(_BURST)
            await asyncio.sleep(delay)
            await system.kill(replica)
            await asyncio.sleep(1)
            await system.start(replica)
    yield


@asynccontextmanager
async def replica_frozen(system: System, _load: Load) -> AsyncIterator[None]:
    """The leader and the other replica in turn, for longer than a leader's term."""
    for replica in system.replicas:
        replica.away()
        system.cluster.pause(replica.name)
        await asyncio.sleep(5)
        system.cluster.resume(replica.name)
        replica.back()
        await asyncio.sleep(1)
    yield


@asynccontextmanager
async def rolling_update(system: System, _load: Load) -> AsyncIterator[None]:
    """The replicas restart one after the other; calls to a replica that is still in service must succeed."""
    for _ in range(2):
        for replica in system.replicas:
            await system.terminate(replica)
            await system.start(replica)
            await asyncio.sleep(1)
    yield


@asynccontextmanager
async def ended_while_starting(system: System, _load: Load) -> AsyncIterator[None]:
    """SIGTERM at every moment of a third replica's start."""
    starts = Starts(system.replicas[0].stack)
    system.ledger.wrong += await starts.ended_at_every_moment()
    yield


# --- components of the cluster ---


def frozen(component: str) -> During:
    """It keeps its connections but does not answer."""

    @asynccontextmanager
    async def during(system: System, _load: Load) -> AsyncIterator[None]:
        system.cluster.pause(component)
        yield
        system.cluster.resume(component)

    return during


def killed(component: str) -> During:
    """It is killed, and started again."""

    @asynccontextmanager
    async def during(system: System, _load: Load) -> AsyncIterator[None]:
        await asyncio.to_thread(system.cluster.stop, component, how=signal.SIGKILL)
        yield
        await asyncio.to_thread(system.cluster.start, component)

    return during


# --- Redis ---


@asynccontextmanager
async def redis_emptied(system: System, _load: Load) -> AsyncIterator[None]:
    async with truth.connected(system.redis_port, system.cluster.redis_password) as redis:
        await redis.flushall()
    system.ledger.emptied(time.monotonic())
    yield


@asynccontextmanager
async def redis_full(system: System, _load: Load) -> AsyncIterator[None]:
    async with truth.connected(system.redis_port, system.cluster.redis_password) as redis:
        await redis.config_set("maxmemory", "1")
        yield
        await redis.config_set("maxmemory", "0")


@asynccontextmanager
async def redis_failed_over(system: System, _load: Load) -> AsyncIterator[None]:
    """A replica becomes the primary; the old primary stays as its replica and keeps its connections."""
    pair = await system.settled.enter_async_context(Pair.of(system))
    await pair.fail_over()
    system.settled.push_async_callback(pair.fail_back)
    yield


@asynccontextmanager
async def redis_half_open(system: System, _load: Load) -> AsyncIterator[None]:
    """The connections of one replica to Redis are half-open."""
    system.replicas[0].redis.half_open()
    yield


# --- the API server ---


@asynccontextmanager
async def api_server_nonsense(system: System, _load: Load) -> AsyncIterator[None]:
    """Every answer is a 200 that is not a Kubernetes object."""
    certificate, key = Authority(system.cluster.state / "certificates").issue("server", user="devcluster-server")
    async with NonsenseServer.serving(certificate, key) as nonsense:
        for replica in system.replicas:
            replica.kube.redirect(nonsense.port)
        yield
        for replica in system.replicas:
            replica.kube.redirect(system.cluster.port("apiserver"))


@asynccontextmanager
async def watch_half_open(system: System, _load: Load) -> AsyncIterator[None]:
    """The connections of one replica to the API server are half-open."""
    system.replicas[0].kube.half_open()
    yield


# --- single sessions ---

_BAD_KEYS = (
    "redis.call('SET', KEYS[1], '1')",
    "redis.call('SADD', KEYS[1], '1')",
    "redis.call('ZADD', KEYS[1], 1, '1')",
)


@asynccontextmanager
async def bad_keys(system: System, load: Load) -> AsyncIterator[None]:
    """Wake queues of wrong types, a record that cannot be read, and a queue's key that is not UTF-8."""
    users = [system.user("victim") for _ in range(len(_BAD_KEYS) + 1)]
    await load.made(users)
    uuids = [system.ledger.account(user).uuid for user in users]
    system.ledger.rules.victims.update(uuids)
    async with truth.connected(system.redis_port, system.cluster.redis_password) as redis:
        for uuid, script in zip(uuids, _BAD_KEYS, strict=False):
            await redis.eval(f"redis.call('DEL', KEYS[1]); {script}", 1, f"queue:{uuid}")
        record = f"session:{uuids[-1]}"
        kept = await redis.hgetall(record)
        await redis.hset(record, mapping={"status": "no such state", "created_at": "yesterday"})
        await redis.rpush(b"queue:\xff\xfe\xfd", "1")
        yield
        await redis.delete(*(f"queue:{uuid}" for uuid in uuids), b"queue:\xff\xfe\xfd")
        await redis.hset(record, mapping=kept)


def _fault(
    name: str, during: During, *, parts: frozenset[str] = frozenset(), kinds: Sequence[str] = (), stale: float = 10,
    hold: float = 8,
) -> Fault:  # fmt: skip
    def rules() -> Rules:
        return Rules(parts=parts, kinds=frozenset(kinds), stale=stale)

    return Fault(name=name, during=during, rules=rules, hold=hold)


FAULTS = (
    _fault("none, to compare", nothing),
    _fault("each replica killed in the middle of creates", replicas_killed, hold=0),
    _fault("each replica frozen", replica_frozen, hold=0),
    _fault("rolling update", rolling_update, hold=0),
    _fault("SIGTERM at every moment of the start", ended_while_starting, hold=0),
    _fault("KEDA frozen", frozen("keda"), parts=frozenset({"keda"}), hold=12),
    _fault("KEDA killed", killed("keda"), parts=frozenset({"keda"}), hold=10),
    _fault("Redis frozen", frozen("redis"), parts=_REDIS),
    _fault("Redis killed", killed("redis"), parts=_REDIS),
    _fault("Redis emptied", redis_emptied, parts=_REDIS, kinds=["index-incomplete"], hold=0),
    _fault("Redis full", redis_full, parts=_REDIS),
    _fault("Redis failed over", redis_failed_over, parts=_REDIS, hold=4),
    _fault("Redis connections half-open", redis_half_open, parts=_REDIS, hold=0),
    _fault("API server frozen", frozen("kube-apiserver"), parts=_KUBERNETES, kinds=_CAUGHT),
    # KEDA starts again with it (devcluster).
    _fault("API server killed", killed("kube-apiserver"), parts=_KUBERNETES | {"keda"}, kinds=_CAUGHT),
    _fault("API server answers nonsense", api_server_nonsense, parts=_KUBERNETES, kinds=_CAUGHT),
    _fault("watches half-open", watch_half_open, parts=_KUBERNETES, kinds=_CAUGHT, stale=60, hold=0),
    _fault("bad keys of single sessions", bad_keys),
)
