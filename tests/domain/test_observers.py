"""An observer that fails is its own affair: neither the wake nor the other observers suffer."""

import pytest

from service.domain.names import SessionId
from service.domain.observers import isolated
from tests.domain.conftest import World


class Failing:
    def on_wake(self, uuid: SessionId) -> None:
        raise RuntimeError(uuid)


class Listening:
    def __init__(self) -> None:
        self.woken: list[SessionId] = []

    def on_wake(self, uuid: SessionId) -> None:
        self.woken.append(uuid)


async def test_a_failing_observer_stops_neither_the_wake_nor_the_others(world: World) -> None:
    uuid, listening = (await world.provisioner.create("ann")).uuid, Listening()
    world.wake_observers += [Failing(), listening]
    assert (await world.activity.wake(uuid)).length == 1
    assert listening.woken == [uuid]


def test_a_failure_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    isolated(Failing().on_wake, SessionId("abc123xy"))
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.exc_info is not None
