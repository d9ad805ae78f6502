"""A process that takes calls and a process that controls: all they share is Redis and the cluster."""

from tests.controller.test_leader import TERM, Replica
from tests.domain.conftest import World
from tests.fakes import MemoryElection
from tests.waiting import until


async def test_a_wake_of_a_process_without_a_controller_is_carried_out_by_the_leader() -> None:
    world = World()
    uuid = (await world.provisioner.create("ann")).uuid
    controller = Replica(world.cluster, world.queues, MemoryElection("controller", TERM), pending=0.05)
    async with controller.running():
        await until(lambda: controller.leader.leads)
        await world.activity.wake(uuid)
        await until(lambda: world.cluster.workload(uuid).replicas == 1)
    await world.provisioner.close()
