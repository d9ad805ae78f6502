"""Two fault trials on the real cluster, so that the harness does not rot; `make faults` runs all of them."""

from dataclasses import replace

import pytest

from faults.catalogue import FAULTS
from faults.system import System
from faults.trial import trial
from stack.stack import Stack

QUICK = ("Redis full", "bad keys of single sessions")


@pytest.mark.timeout(300)
async def test_nothing_is_lost_or_wrong_while_a_part_fails(stack: Stack) -> None:
    stack.cluster.stop(stack.name)  # it has other settings, and might lead
    said: list[str] = []
    async with System.started(stack.cluster) as system:
        for fault in (fault for fault in FAULTS if fault.name in QUICK):
            row = await trial(system, replace(fault, hold=2), said.append)
            assert row.lost == []
            assert row.wrong == []
            assert row.healed is not None
            assert row.bad == []
            assert row.operations > 10
    assert len(said) == 3 * len(QUICK)
