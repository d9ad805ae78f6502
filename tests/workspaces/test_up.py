"""`make up` with a real node, after one without."""

from collections.abc import Iterator

import pytest

from images import recipes
from images.recipes import Name
from stack import visitor
from stack.calls import call
from stack.stack import USERS, Stack
from stack.visitor import Placement
from tests.conftest import SHORT, free_port
from tests.waiting import until

OTHER = "other@example.com"


@pytest.fixture
def simulated(real_stack: Stack) -> Iterator[Stack]:
    """A service that was started without a real node."""
    stack = Stack(
        real_stack.cluster, port=free_port(), gateway_port=free_port(), settings=SHORT, volume=True, name="up-service"
    )
    stack.up()
    yield stack
    real_stack.cluster.stop(stack.name)


async def test_only_the_demo_session_moves_to_the_real_node(simulated: Stack) -> None:
    create = f"{simulated.url}/session/create"
    assert not simulated.is_outdated()
    uuid, other = (call("POST", create, {"user_id": user})["uuid"] for user in (visitor.USER_ID, OTHER))
    image = recipes.build(Name.TINY)
    stack = Stack(
        simulated.cluster,
        port=simulated.port,
        settings=simulated.settings,
        image=image,
        volume=True,
        name=simulated.name,
    )
    before = stack.cluster.pid(stack.name)
    assert stack.is_outdated()
    assert stack.up()
    pid = stack.cluster.pid(stack.name)
    assert pid != before

    invitation = visitor.invite(stack, image)
    assert invitation.uuid == uuid
    real = Placement(is_real=True, image=image.reference)
    placements = visitor.placements(stack)
    assert (placements[uuid], placements[other].is_real) == (real, False)
    session = f"{stack.url}/session/{uuid}"
    call("POST", f"{session}/wake")
    await until(lambda: call("GET", f"{session}/status")["phase"] == "ready", 60)

    def installed() -> str:
        return stack.cluster.kubectl("-n", USERS, "get", "deployment", f"user-{uuid}", "-o", "jsonpath={.metadata.uid}")

    release = installed()
    assert visitor.invite(stack, image).uuid == uuid
    assert not stack.is_outdated()
    assert not stack.up()
    assert (installed(), stack.cluster.pid(stack.name)) == (release, pid)
