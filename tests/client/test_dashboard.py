"""The client and the command line know where the dashboard is."""

from collections.abc import AsyncIterator

import pytest

from tests.client.conftest import KEY, Connect, Run
from tests.dashboard.conftest import serving
from tests.domain.conftest import World
from user_pods_client.cli import browser
from user_pods_client.cli.exits import ExitCode
from user_pods_client.problems import NotFound


@pytest.fixture
async def origin(world: World) -> AsyncIterator[str]:
    """Where a service with a dashboard answers. Ask for it before `connect`, which closes its clients first."""
    async with serving(world, former=[KEY]) as board:
        yield board.origin


async def test_its_address_is_printed_and_opened(run: Run, origin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def show(url: str) -> bool:
        opened.append(url)
        return len(opened) == 1

    monkeypatch.setattr(browser, "show", show)
    assert (await run("login", origin, stdin=KEY)).code == 0
    done = await run("dashboard")
    assert (done.code, done.out, done.err) == (0, f"{origin}/dashboard\n", "")
    done = await run("dashboard")
    assert (done.code, "open the address in one yourself" in done.err) == (0, True)
    assert opened == [f"{origin}/dashboard"] * 2
    assert (await run("dashboard", "--no-browser")).out == f"{origin}/dashboard\n"
    assert len(opened) == 2


async def test_a_service_without_one_is_named_with_the_reason(run: Run, url: str) -> None:
    assert (await run("login", url, stdin=KEY)).code == 0
    done = await run("dashboard")
    assert (done.code, done.out) == (ExitCode.UNAVAILABLE, "")
    assert done.err.startswith(f"user-pods: the service at {url.rstrip('/')} has no dashboard\n")
    assert "only where callers need a key or a token" in done.err


async def test_either_client_finds_it_or_says_that_there_is_none(origin: str, connect: Connect, url: str) -> None:
    assert await connect(origin + "/", KEY).call("dashboard") == f"{origin}/dashboard"
    with pytest.raises(NotFound):
        await connect(url, KEY).call("dashboard")
