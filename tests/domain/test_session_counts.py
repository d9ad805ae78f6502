"""Sessions are counted by phase from view and queues."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from service.domain.names import SessionId
from service.domain.phase import Phase
from service.domain.session_counts import SessionCounter
from service.domain.workload import Workload
from tests.domain.conftest import World
from tests.domain.test_life import WHOLE


def put(world: World, number: int, workload: Workload) -> SessionId:
    uuid = SessionId(f"{number:08d}")
    world.cluster.change(replace(workload, uuid=uuid))
    return uuid


async def test_every_phase_parked_session_and_queue_is_counted(world: World) -> None:
    parked, awake = replace(WHOLE, parked=True), replace(WHOLE, replicas=1)
    later = datetime.now(UTC) + timedelta(hours=1)
    for number, workload in enumerate(
        (
            parked,
            parked,
            awake,
            replace(awake, ready=1),
            replace(awake, failure="ErrImagePull"),
            replace(WHOLE, has_scaler=False),
            replace(WHOLE, deleting=True),
            Workload(SessionId(""), volume=True),
        )
    ):
        put(world, number, workload)
    pushed = put(world, 8, parked)
    world.queues.push_by_hand(pushed, later)
    world.queues.push_by_hand(pushed, later)
    counted = await SessionCounter(world.cluster, world.queues).count()
    assert counted.phases == {
        Phase.ASLEEP: 2,
        Phase.WAKING: 2,
        Phase.READY: 1,
        Phase.FAILED: 2,
        Phase.DELETING: 1,
        Phase.RELEASED: 1,
    }
    assert (counted.parked, counted.queued, counted.tokens, counted.pending) == (3, 1, 2, 0)


async def test_a_wake_that_keda_has_not_seen_is_pending_since_its_push(world: World) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    await world.activity.wake(uuid)
    world.queues.waiting[uuid] -= timedelta(seconds=90)
    counted = await SessionCounter(world.cluster, world.queues).count()
    assert (counted.pending, counted.queued) == (1, 1)
    assert timedelta(seconds=90) <= counted.oldest < timedelta(seconds=100)


async def test_sessions_of_several_reads_are_all_counted(world: World) -> None:
    for number in range(1201):
        put(world, number, WHOLE)
    assert (await SessionCounter(world.cluster, world.queues).count()).phases == {Phase.ASLEEP: 1201}
