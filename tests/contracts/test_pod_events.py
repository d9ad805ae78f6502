"""The port for pod events: in memory, and with the real API and the service's rights."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from service.adapters.kubernetes.api import KubeApi, connect
from service.adapters.kubernetes.pod_events import KubePodEvents
from service.domain.names import SessionId, new_session_id
from service.domain.ports import PodEvents
from service.domain.progress import ProgressUpdate, Stage
from stack.stack import SERVICE, SYSTEM, USERS, Stack
from tests.fakes import MemoryPodEvents
from tests.stack.client import until

PULLED, WARNING = ProgressUpdate(Stage.PULLED), ProgressUpdate(Stage.WARNING, "FailedMount: the volume is away")
SleepCause = Callable[[SessionId, str, ProgressUpdate], None]
Told = tuple[SessionId, str, ProgressUpdate]


@pytest.fixture(params=["memory", pytest.param("cluster", marks=pytest.mark.cluster)])
async def parts(request: pytest.FixtureRequest) -> AsyncIterator[tuple[PodEvents, SleepCause]]:
    if request.param == "memory":
        memory = MemoryPodEvents()
        yield memory, memory.publish
        return
    stack: Stack = request.getfixturevalue("stack")
    async with await connect(stack.cluster.service_account(SYSTEM, SERVICE)) as api:
        yield KubePodEvents(KubeApi(api, timeout=5), namespace=USERS), _left(stack)


def event(uuid: SessionId, uid: str, update: ProgressUpdate) -> dict[str, object]:
    """What a kubelet writes."""
    pulled = update.stage is Stage.PULLED
    reason, _, message = (update.reason or "Pulled: the image is there").partition(": ")
    involved = {"kind": "Pod", "name": f"user-{uuid}-5d9c-x2v4z", "namespace": USERS, "uid": uid}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"about-{secrets.token_hex(8)}", "namespace": USERS},
        "type": "Normal" if pulled else "Warning",
        "reason": reason,
        "message": message,
        "involvedObject": {**involved, "fieldPath": "spec.containers{workspace}"} if pulled else involved,
    }


@asynccontextmanager
async def listening(source: PodEvents, cause: SleepCause, uuid: SessionId) -> AsyncIterator[list[Told]]:
    """What is told meanwhile; begins with warnings of a pod `first`, which are caused until one is told."""
    heard: list[Told] = []
    task = asyncio.create_task(_listen(source, heard))

    async def hears() -> bool:
        cause(uuid, "first", WARNING)
        await asyncio.sleep(0.1)
        return bool(heard)

    try:
        await until(hears, 20, lambda: "nothing is told")
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _listen(source: PodEvents, heard: list[Told]) -> None:
    async for told in source.updates():
        heard += [told]  # one by one, as it happens


async def last(heard: list[Told], told: Told) -> None:
    async def there() -> bool:
        return heard[-1] == told

    await until(there, 20, lambda: f"it is not told: {heard}")


async def test_new_events_are_reported_and_earlier_ones_are_not(parts: tuple[PodEvents, SleepCause]) -> None:
    source, cause = parts
    uuid = new_session_id()
    cause(uuid, "too early", WARNING)
    async with listening(source, cause, uuid) as heard:
        cause(uuid, "second", PULLED)
        await last(heard, (uuid, "second", PULLED))
    assert set(heard) == {(uuid, "first", WARNING), (uuid, "second", PULLED)}


async def test_irrelevant_events_are_not_reported(stack: Stack) -> None:
    uuid = new_session_id()
    names = ("other", f"user-{uuid[:7]}-5d9c-x", f"system-{uuid}-5d9c-x")
    own = {"kind": "Pod", "name": f"user-{uuid}-5d9c-x", "namespace": USERS, "uid": "none"}
    idle = [
        *({**event(uuid, "none", WARNING), "involvedObject": {**own, "name": name}} for name in names),
        {**event(uuid, "none", WARNING), "involvedObject": {**own, "kind": "Service"}},
        {**event(uuid, "none", WARNING), "type": "Normal"},
        {**event(uuid, "none", PULLED), "involvedObject": {**own, "fieldPath": "spec.containers{sidecar}"}},
    ]
    async with await connect(stack.cluster.service_account(SYSTEM, SERVICE)) as api:
        source = KubePodEvents(KubeApi(api, timeout=5), namespace=USERS)
        async with listening(source, _left(stack), uuid) as heard:
            stack.cluster.apply(*idle)
            _left(stack)(uuid, "last", PULLED)
            await last(heard, (uuid, "last", PULLED))
    assert {uid for _, uid, _ in heard} == {"first", "last"}


def _left(stack: Stack) -> SleepCause:
    return lambda uuid, uid, update: stack.cluster.apply(event(uuid, uid, update))
