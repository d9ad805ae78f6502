"""Many sessions at once."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from service.domain.names import SessionId, release_name
from service.domain.record import Record, RecordStatus
from service.domain.release import Release, ReleaseState
from service.domain.workload import Workload
from tests.domain.conftest import World

EPOCH = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
IMAGE = 'ImagePullBackOff: Back-off pulling image "registry.example.com/work/space:2"'


def fill(world: World, count: int) -> None:
    """Sessions of `user00000@example.com` and so on; id and creation follow the number.

    Of a hundred each, two are awake, one wakes up, and one cannot pull its image.
    """
    for number in range(count):
        put(world, number, f"user{number:05}@example.com")


def put(world: World, number: int, user_id: str) -> SessionId:
    record = show(world, number, user_id)
    world.store.ids.append(record.uuid)
    world.store.users[user_id] = record.uuid
    world.queues.sessions[record.uuid] = record
    return record.uuid


def show(world: World, number: int, user_id: str) -> Record:
    """Let the cluster have the session. Returns its record."""
    uuid = SessionId(f"a{number:07}")
    created = EPOCH + timedelta(minutes=number)
    release = Release(release_name(uuid), 1, ReleaseState.DEPLOYED, created)
    workload = Workload(
        uuid, user_id=user_id, release=release, deployed=True, has_scaler=True, volume=True, created_at=created,
        chart="user-pod-0.1.0", revision="first",
    )  # fmt: skip
    match number % 100:
        case 1 | 2:
            workload = replace(workload, replicas=1, ready=1)
        case 3:
            workload = replace(workload, replicas=1)
        case 4:
            workload = replace(workload, replicas=1, failure=IMAGE)
        case _:
            pass
    world.cluster.workloads[uuid] = workload
    return Record(uuid, user_id, RecordStatus.CREATED, created, last_activity=created)
