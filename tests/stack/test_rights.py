"""The Roles of the service's chart against what the service really asks of the API server, as its audit log has it."""

from collections.abc import Iterator

import pytest

from stack.stack import Stack
from tests.chart.rendering import rights
from tests.conftest import free_port
from tests.stack.client import Caller


@pytest.fixture
def complete(stack: Stack) -> Iterator[Stack]:
    """The service with a gateway and volumes, in place of the usual one."""
    stack.cluster.stop(stack.name)
    complete = Stack(
        stack.cluster,
        port=stack.port,
        settings=stack.settings,
        name=stack.name,
        gateway_port=free_port(),
        volume=True,
    )
    complete.prepare()
    complete.start()
    yield complete
    stack.cluster.stop(stack.name)
    stack.prepare()
    stack.start()


async def test_every_right_of_the_chart_is_used_and_none_is_missing(complete: Stack, caller: Caller, user: str) -> None:
    """Without any one of its rules, this fails: the service would be refused a call."""
    uuid = (await caller.create(user))[1]["uuid"]
    await caller.call("POST", f"/session/{uuid}/wake")
    await caller.until(uuid, "ready")
    assert (await caller.call("POST", f"/session/{uuid}/open"))[0] == 201
    assert (await caller.call("POST", f"/session/{uuid}/revoke"))[0] < 300
    assert (await caller.call("POST", f"/session/{uuid}/sleep"))[0] == 202
    await caller.until(uuid, "asleep")
    # An upgrade of the release, by which a create repairs it.
    complete.cluster.kubectl("-n", "users", "delete", "scaledobject", f"user-{uuid}-scaler")
    assert (await caller.create(user))[1]["uuid"] == uuid
    assert (await caller.call("GET", "/health"))[0] == 200
    assert (await caller.call("DELETE", f"/session/{uuid}?keep_data=false"))[0] == 204
    cluster, account = complete.cluster, complete.account
    assert cluster.forbidden(account) == []
    used = cluster.used(account)
    held = rights(complete.rights())["session-service"]
    assert sorted(right for right in held if right not in used | {(*each[:4], "") for each in used}) == []
