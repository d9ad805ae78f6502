"""Somebody changes Deployments by hand: what operators are told is what makes the releases upgradable again."""

import asyncio
import json
import os
import re
import subprocess
from collections.abc import AsyncIterator, Callable

import pytest
import yaml

from service.domain.names import SessionId
from stack.stack import USERS, Stack
from tests.stack.client import Caller
from tests.stack.test_command_line import Run, run

__all__ = ["run"]

IMAGE = "{.spec.template.spec.containers[0].image}"
NEW = "docker.io/codercom/code-server:new"
BY_HAND = "by/hand:odd"


@pytest.fixture
def shell(stack: Stack) -> Callable[[str], None]:
    """Runs a command as an operator pastes it."""
    env = os.environ | {"PATH": stack.cluster.path, "KUBECONFIG": str(stack.cluster.kubeconfig)}

    def shell(command: str) -> None:
        done = subprocess.run(["sh", "-c", command], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    return shell


@pytest.fixture
async def uuids(stack: Stack, caller: Caller) -> AsyncIterator[list[SessionId]]:
    values = stack.values.read_text()
    users = [f"by-hand-{number}@example.com" for number in range(3)]
    uuids = [SessionId(answer[1]["uuid"]) for answer in await asyncio.gather(*map(caller.create, users))]
    yield uuids
    await asyncio.gather(*(caller.call("DELETE", f"/session/{uuid}?keep_data=false") for uuid in uuids))
    stack.cluster.stop(stack.name)
    stack.values.write_text(values)


def image(stack: Stack, uuid: SessionId) -> str:
    return stack.cluster.kubectl("-n", USERS, "get", "deployment", f"user-{uuid}", "-o", f"jsonpath={IMAGE}")


def revisions(stack: Stack, uuid: SessionId) -> list[str]:
    listed = stack.cluster.kubectl("-n", USERS, "get", "secrets", "-l", f"owner=helm,name=user-{uuid}", "-o", "name")
    return sorted(line.rpartition(".")[2] for line in listed.split())


async def test_what_the_doctor_advises_keeps_a_release_upgradable_and_an_upgrade_mends_one_that_was_not(
    run: Run, stack: Stack, uuids: list[SessionId], shell: Callable[[str], None]
) -> None:
    undone, undone_in_another_name, kept = uuids
    original = image(stack, kept)
    for uuid in uuids:
        shell(f"kubectl -n {USERS} set image deployment/user-{uuid} workspace={BY_HAND}")
    found = json.loads((await asyncio.to_thread(run, "doctor", "-o", "json", code=None)).stdout)
    steps = {each["subject"]: each["next_step"] for each in found if each["check"] == "edits"}
    for uuid, flag in ((undone, ""), (undone_in_another_name, " --field-manager=helm")):
        advised = re.search(r"`(helm -n .*?)`", steps[f"deployment/user-{uuid}"])
        assert advised
        shell(advised[1].replace(flag, ""))
        assert image(stack, uuid) == original

    values = yaml.safe_load(stack.values.read_text())
    stack.values.write_text(yaml.safe_dump({**values, "image": {"tag": "new"}}))
    stack.cluster.stop(stack.name)
    stack.start()
    for uuid in (undone, undone_in_another_name):
        await asyncio.to_thread(run, "upgrade", uuid)
        assert image(stack, uuid) == NEW
    refused = await asyncio.to_thread(run, "upgrade", kept, code=5)
    assert 'kubectl-set has set .spec.template.spec.containers[name="workspace"].image of' in refused.stderr
    assert "trying again" not in refused.stderr.lower()
    assert image(stack, kept) == BY_HAND
    assert revisions(stack, kept)[-1] <= "v3", "one try and one rollback"
    assert "kubectl-set has set" in (await asyncio.to_thread(run, "why", kept)).stdout

    told = re.search(r"`(helm -n .*?)`", refused.stderr.replace("\n", " "))
    assert told
    shell(told[1])
    await asyncio.to_thread(run, "upgrade", kept)
    assert image(stack, kept) == NEW
