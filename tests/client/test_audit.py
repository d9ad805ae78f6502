"""The audit by client and command line: who has done what."""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from service.domain.audit import AuditEntry
from service.domain.permissions import RULES
from tests.client.conftest import KEY, Either, Run
from tests.domain.conftest import World
from user_pods_client.cli import audit

NOW = datetime.now(UTC)


def entry(number: int, *, minutes: float = 0, **more: object) -> AuditEntry:
    base = AuditEntry(
        caller="shop", role="frontend", operation="delete", uuid="abc123xy", result="done", status=204,
        at=NOW - timedelta(minutes=minutes), request=f"request-{number}",
    )  # fmt: skip
    return replace(base, **more)  # type: ignore[arg-type]


@pytest.fixture
async def signed_in(run: Run, url: str) -> Run:
    assert (await run("login", url, stdin=KEY)).code == 0
    return run


async def names(run: Run, *argv: str) -> list[str]:
    done = await run("audit", *argv, "-o", "name")
    assert done.code == 0, done.err
    return [line.removeprefix("request-") for line in done.out.split()]


async def test_every_entry_comes_page_by_page(pods: Either, world: World) -> None:
    for number in range(7):
        await world.trail.append(entry(number, caller="shop" if number % 2 else "ci"))
    found = await pods.all_of("audit_entries", page_size=2)
    assert [each.request_id for each in found] == [f"request-{number}" for number in reversed(range(7))]
    assert [each.request_id for each in await pods.all_of("audit_entries", caller="shop")] == [
        "request-5", "request-3", "request-1",
    ]  # fmt: skip


async def test_it_is_listed_for_people_and_filtered(signed_in: Run, world: World) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    for each in (
        entry(0, minutes=200),
        entry(1, minutes=50, operation="sleep", uuid=uuid),
        entry(2, minutes=20, result="forbidden", status=403, caller="ci"),
        entry(3, minutes=10, person="bob", caller="person", user_id="o'neil@example.com"),
    ):
        await world.trail.append(each)
    lines = (await signed_in("audit")).out.splitlines()
    assert lines[0].split() == ["TIME", "WHO", "ROLE", "DID", "SESSION", "USER", "RESULT", "REPEATS", "REQUEST"]
    assert ["bob" in lines[1], "forbidden" in lines[2]] == [True, True]
    assert await names(signed_in) == ["3", "2", "1", "0"]
    assert await names(signed_in, "--since", "1h") == ["3", "2", "1"]
    assert await names(signed_in, "--failed") == ["2"]
    assert await names(signed_in, "--operation", "sleep") == ["1"]
    assert await names(signed_in, "--by", "bob") == ["3"]
    assert await names(signed_in, "ann") == ["1"]
    assert await names(signed_in, "abc123xy", "--limit", "2") == ["3", "2"], "a session that is no longer there"
    assert json.loads((await signed_in("audit", "-o", "json", "--by", "ci")).out)[0]["result"] == "forbidden"
    assert await names(signed_in, "--user", "o'neil@example.com") == ["3"]
    assert "o'neil@example.com" in lines[1]
    unknown = await signed_in("audit", "carol@example.com")
    assert unknown.code == 3
    assert "user-pods audit --user carol@example.com" in unknown.err, "it may have been deleted"


async def test_following_shows_each_new_entry_once(
    signed_in: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        await world.trail.append(entry(number, minutes=0.1))

    def add(*entries: AuditEntry) -> None:
        for each in entries:
            asyncio.run(world.trail.append(each))  # in the thread of the command

    steps: Iterator[Callable[[], None]] = iter([
        add,
        lambda: add(entry(3), entry(4, result="forbidden")),
        add,
        lambda: add(entry(5, minutes=0.2), entry(6)),
    ])  # fmt: skip

    def sleep(_: float) -> None:
        step = next(steps, None)
        if step is None:
            raise KeyboardInterrupt
        step()

    monkeypatch.setattr(audit.time, "sleep", sleep)  # type: ignore[attr-defined]
    done = await signed_in("audit", "-f", "--limit", "2", "-o", "json")
    assert done.code == 130
    shown = [json.loads(line)["request_id"].removeprefix("request-") for line in done.out.splitlines()]
    assert shown == ["1", "2", "3", "4", "5", "6"], "also one that another replica entered late"


async def test_following_an_empty_audit_begins_with_the_first_entry(
    signed_in: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = iter([entry(0), None, None])

    def sleep(_: float) -> None:
        if (each := next(steps)) is None:
            raise KeyboardInterrupt
        asyncio.run(world.trail.append(each))

    monkeypatch.setattr(audit.time, "sleep", sleep)  # type: ignore[attr-defined]
    done = await signed_in("audit", "--follow")
    assert (done.code, done.out.count("delete"), "abc123xy" in done.out) == (130, 1, True)
    heads, line = done.out.splitlines()
    for head, cell in (("WHO", "shop"), ("DID", "delete"), ("SESSION", "abc123xy"), ("REQUEST", "request-0")):
        assert heads.index(head) == line.index(cell), "each column is below its head"


async def test_it_says_what_a_result_means_and_which_operations_there_are(signed_in: Run, world: World) -> None:
    await world.trail.append(entry(0, result="idle-times-refused", status=422))
    lines = (await signed_in("audit")).out.splitlines()
    assert lines[-1].startswith("idle-times-refused: 422: ")
    unknown = await signed_in("audit", "--operation", "bogus")
    assert "No operation is called bogus; there are: activity, " in unknown.out
    assert {*RULES, "sign_in", "sign_out", "end_extension"} == audit._OPERATIONS
    assert "REPEATS says" in (await signed_in("audit", "--help")).out
