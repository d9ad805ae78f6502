"""Revoked sign-ins open nothing, on any replica; those that come after do."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from service.domain.access import WorkspaceAccess
from service.domain.errors import ClusterUnavailable, RedisUnavailable, SessionNotFound
from service.domain.history import Kind
from service.domain.journal import Revoked
from service.domain.keyring import Keyring
from service.domain.names import SessionId
from tests.domain.conftest import World
from tests.fakes import MemorySigningKeys, MemoryTickets


class Scene:
    """A session, two replicas, and a clock. `created` is when the API server says that its Deployment was made."""

    def __init__(self, world: World, uuid: SessionId) -> None:
        self.world, self.uuid, self.now = world, uuid, 1_000_000_000.4
        self.tickets, self.keys = MemoryTickets(), MemorySigningKeys()
        self.access, self.other = self.replica(), self.replica()
        self.world.revocation._now = lambda: datetime.fromtimestamp(self.now, UTC)
        self.change(created_at=self.at(-3600))

    def replica(self) -> WorkspaceAccess:
        keyring = Keyring(self.keys, now=lambda: self.now)
        return WorkspaceAccess(self.tickets, keyring, self.world.cluster, origin=str, now=lambda: self.now)

    def at(self, seconds: float) -> datetime:
        return datetime.fromtimestamp(int(self.now) + seconds, UTC)

    def change(self, **changes: object) -> None:
        self.world.cluster.change(replace(self.world.cluster.workload(self.uuid), **changes))  # type: ignore[arg-type]

    async def ticket(self) -> str:
        return parse_qs(urlsplit((await self.access.issue_link(self.uuid)).url).query)["ticket"][0]

    async def cookie(self) -> str:
        cookie = await self.access.redeem(await self.ticket(), self.uuid)
        assert cookie is not None
        return cookie

    async def opens(self, cookie: str) -> bool:
        """Whether the cookie opens the workspace, by both replicas' word."""
        found = {bool(await access.check_cookie(cookie, self.uuid)) for access in (self.access, self.other)}
        known = {access.known_since(cookie, self.uuid) is not None for access in (self.access, self.other)}
        assert len(found) == 1
        assert known == found
        return found.pop()


@pytest.fixture
async def scene(world: World) -> Scene:
    return Scene(world, (await world.provisioner.create("ann")).uuid)


async def test_a_revocation_ends_every_sign_in_so_far(scene: Scene) -> None:
    cookie, ticket = await scene.cookie(), await scene.ticket()
    assert await scene.opens(cookie)
    scene.now += 5
    assert await scene.world.revocation.revoke(scene.uuid, by="api") == scene.at(0)
    assert not await scene.opens(cookie)
    assert await scene.access.redeem(ticket, scene.uuid) is None


async def test_a_sign_in_right_after_a_revocation_counts_and_one_within_the_same_second_before_does_not(
    scene: Scene,
) -> None:
    before = await scene.cookie()
    await scene.world.revocation.revoke(scene.uuid, by="api")
    after = await scene.cookie()
    assert not await scene.opens(before)
    assert await scene.opens(after)


async def test_a_ticket_from_before_makes_no_cookie_that_outlives_the_revocation(scene: Scene) -> None:
    # A replica that has not heard yet exchanges the ticket, seconds after the revocation.
    ticket = await scene.ticket()
    scene.now += 2
    at = scene.at(0)
    scene.now += 5
    cookie = await scene.other.redeem(ticket, scene.uuid)
    assert cookie is not None
    assert await scene.opens(cookie)
    scene.change(revoked_at=at)
    assert not await scene.opens(cookie)


async def test_a_renewed_cookie_is_as_old_as_its_first(scene: Scene) -> None:
    cookie = await scene.cookie()
    scene.now += scene.access.stay.total_seconds() * 0.75
    valid = await scene.access.check_cookie(cookie, scene.uuid)
    assert valid is not None
    assert valid.renewed is not None
    scene.change(revoked_at=scene.at(-60))
    assert not await scene.opens(valid.renewed)


@pytest.mark.parametrize("behind", [0, 30])
async def test_a_second_revocation_ends_what_came_after_the_first_whatever_the_clock(
    scene: Scene, behind: float
) -> None:
    first = await scene.world.revocation.revoke(scene.uuid, by="api")
    cookie = await scene.cookie()
    scene.now -= behind  # another replica's clock
    assert await scene.world.revocation.revoke(scene.uuid, by="api") > first
    assert not await scene.opens(cookie)


async def test_the_same_id_in_a_new_session_is_not_opened_by_cookies_of_the_old_one(scene: Scene) -> None:
    cookie = await scene.cookie()
    await scene.world.revocation.revoke(scene.uuid, by="api")
    scene.now += 3600
    second = await scene.cookie()
    scene.now += 60
    # Uninstalled and created again: the annotation is gone with its Deployment, and the volume has kept the id.
    scene.change(revoked_at=None, created_at=scene.at(0))
    assert not await scene.opens(cookie)
    assert not await scene.opens(second)
    assert await scene.opens(await scene.cookie())


async def test_an_api_server_whose_clock_is_ahead_keeps_nobody_out(scene: Scene) -> None:
    scene.change(created_at=scene.at(90))
    assert await scene.opens(await scene.cookie())


async def test_what_cannot_be_read_lets_nobody_in_until_it_can(scene: Scene) -> None:
    cookie, ticket = await scene.cookie(), await scene.ticket()
    scene.change(sign_ins_unknown=True)
    assert not await scene.opens(cookie)
    assert await scene.access.redeem(ticket, scene.uuid) is None
    scene.change(sign_ins_unknown=False)
    assert await scene.opens(cookie)


async def test_a_replica_that_still_reads_the_cluster_lets_nobody_in(scene: Scene) -> None:
    cookie, ticket = await scene.cookie(), await scene.ticket()
    scene.world.cluster.has_synced = False
    starting = scene.replica()
    for refused in (starting.check_cookie(cookie, scene.uuid), starting.redeem(ticket, scene.uuid)):
        with pytest.raises(ClusterUnavailable):
            await refused
    scene.world.cluster.has_synced = True
    assert await starting.check_cookie(cookie, scene.uuid)
    assert await starting.redeem(ticket, scene.uuid), "the ticket was used up"


async def test_a_time_far_ahead_keeps_everybody_out_until_then(scene: Scene) -> None:
    cookie = await scene.cookie()
    scene.change(revoked_at=scene.at(86_400))
    assert not await scene.opens(cookie)
    assert await scene.access.redeem(await scene.ticket(), scene.uuid) is None
    scene.now += 86_401
    assert await scene.opens(await scene.cookie())


async def test_access_is_revoked_without_redis(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object) -> None:
        raise RedisUnavailable

    cookie = await scene.cookie()
    monkeypatch.setattr(scene.world.store, "record", away)
    await scene.world.revocation.revoke(scene.uuid, by="api")
    assert not await scene.opens(cookie)


async def test_the_history_has_it(scene: Scene) -> None:
    await scene.world.revocation.revoke(scene.uuid, by="api")
    (entry,) = [entry for entry in scene.world.journal.entries if isinstance(entry, Revoked)]
    await scene.world.history.append(entry)
    (line,) = await scene.world.queries.history(scene.uuid)
    assert (line.kind, line.by) == (Kind.REVOCATION, "api")


async def test_what_has_no_workload_is_answered_by_its_record(scene: Scene) -> None:
    with pytest.raises(SessionNotFound):
        await scene.world.revocation.revoke(SessionId("00000000"), by="api")
    await scene.world.releases.uninstall(scene.uuid)
    await scene.world.revocation.revoke(scene.uuid, by="api")


async def test_a_lifetime_of_tickets_in_fractions_of_a_second_shortens_no_sign_in(scene: Scene) -> None:
    scene.access._ticket = scene.other._ticket = timedelta(seconds=1.5)
    scene.change(created_at=scene.at(0))
    for scene.now in (1_000_000_000.0, 1_000_000_000.2, 1_000_000_000.9):
        assert await scene.opens(await scene.cookie())
