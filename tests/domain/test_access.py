"""What admits a visitor and for how long, and that access to Redis admits nobody."""

import hashlib
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from service.domain.access import WorkspaceAccess
from service.domain.keyring import Keyring
from service.domain.names import SessionId
from service.domain.ports import TICKETS
from tests.fakes import MemoryCluster, MemorySigningKeys, MemoryTickets

UUID, OTHER = SessionId("abc123xy"), SessionId("zzz999zz")
STAY, LIMIT = timedelta(hours=12), timedelta(days=7)


class House:
    """Replicas that share tickets and keys, and a clock."""

    def __init__(self) -> None:
        self.now = 1_000_000_000.0
        self.tickets, self.keys = MemoryTickets(), MemorySigningKeys()
        self.cluster = MemoryCluster()
        self.access = self.replica()

    def replica(self) -> WorkspaceAccess:
        keyring = Keyring(self.keys, now=lambda: self.now)
        return WorkspaceAccess(
            self.tickets, keyring, self.cluster, origin=str, stay=STAY, limit=LIMIT, now=lambda: self.now
        )

    async def ticket(self, uuid: SessionId = UUID) -> str:
        return parse_qs(urlsplit((await self.access.issue_link(uuid)).url).query)["ticket"][0]

    async def given(self, uuid: SessionId = UUID) -> str:
        given = await self.access.redeem(await self.ticket(uuid), uuid)
        assert given is not None
        return given

    def pass_(self, time: timedelta) -> None:
        self.now += time.total_seconds()


@pytest.fixture
def house() -> House:
    return House()


async def test_a_ticket_planted_in_redis_opens_nothing(house: House) -> None:
    genuine = await house.ticket(OTHER)
    for planted in ("x" * 32, genuine, f"{genuine.rpartition('.')[0]}.{'A' * 43}"):
        await house.tickets.put(hashlib.sha256(planted.encode()).hexdigest(), UUID, timedelta(hours=1))
        assert await house.access.redeem(planted, UUID) is None


async def test_an_invalid_ticket_does_not_reach_redis(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def take(*_: object) -> bool:
        raise AssertionError

    genuine = await house.ticket()
    monkeypatch.setattr(house.tickets, "take", take)
    for forged in ("", "x", genuine[:-1], f"{genuine}\n", f"{genuine[:-1]}é", "\udce9", f"9{genuine}", "1" * 10_000):
        assert await house.access.redeem(forged, UUID) is None


async def test_a_ticket_expires_even_if_redis_keeps_it_longer(house: House) -> None:
    ticket = await house.ticket()
    await house.tickets.put(hashlib.sha256(ticket.encode()).hexdigest(), UUID, timedelta(days=1))
    house.pass_(timedelta(seconds=62))
    assert await house.access.redeem(ticket, UUID) is None


async def test_unused_tickets_of_a_session_are_bounded_and_the_oldest_is_dropped(house: House) -> None:
    tickets = [await house.ticket() for _ in range(TICKETS + 1)]
    other = await house.ticket(OTHER)
    assert await house.access.redeem(tickets[0], UUID) is None
    assert await house.access.redeem(tickets[1], UUID)
    assert await house.access.redeem(other, OTHER)


async def test_a_ticket_is_not_accepted_as_a_cookie_nor_a_cookie_as_a_ticket(house: House) -> None:
    ticket, given = await house.ticket(), await house.given()
    assert not await house.access.check_cookie(ticket, UUID)
    assert not await house.access.redeem(given, UUID)


async def test_a_cookie_is_renewed_after_half_its_life_up_to_the_absolute_limit(house: House) -> None:
    given, begun, renewals = await house.given(), house.now, 0
    while admission := await house.access.check_cookie(given, UUID):
        if admission.renewed:
            given, renewals = admission.renewed, renewals + 1
        house.pass_(timedelta(hours=1))
    assert house.now - begun == LIMIT.total_seconds()
    assert 20 < renewals < 30


async def test_an_unused_cookie_expires(house: House) -> None:
    given = await house.given()
    assert await house.access.check_cookie(given, UUID)
    assert house.access.known_since(given, UUID)
    house.pass_(STAY / 2)
    assert house.access.known_since(given, UUID) is None  # it is due for renewal
    house.pass_(STAY / 2)
    assert not await house.access.check_cookie(given, UUID)


async def test_the_sign_in_time_of_a_renewed_cookie_cannot_be_forged(house: House) -> None:
    until, since, *rest = (await house.given()).split(".")
    later = ".".join([until, str(int(since) + 1000), *rest])
    assert not await house.access.check_cookie(later, UUID)


async def test_rotating_keys_signs_nobody_out(house: House) -> None:
    given, second = await house.given(), house.replica()
    assert await second.check_cookie(given, UUID)
    second._keyring._rotate = timedelta(hours=1)
    house.pass_(timedelta(hours=1))
    await second._keyring._refresh()
    assert len(house.keys.keys) == 2
    house.pass_(STAY / 2)
    admission = await second.check_cookie(given, UUID)
    assert admission is not None
    assert admission.renewed is not None
    assert admission.renewed.split(".")[2] != given.split(".")[2]
    # The other replica has not heard of the new key yet, and has not read for a second.
    house.access._keyring._read_at = float("-inf")
    assert await house.access.check_cookie(admission.renewed, UUID)


async def test_withdrawing_keys_signs_everybody_out_at_once(house: House) -> None:
    given = await house.given()
    assert await house.access.check_cookie(given, UUID)
    house.keys.keys = ()
    await house.access._keyring._refresh()
    assert house.access.known_since(given, UUID) is None
    assert not await house.access.check_cookie(given, UUID)


async def test_an_emptied_redis_signs_nobody_out(house: House) -> None:
    given = await house.given()
    house.tickets.tickets.clear()
    assert await house.replica().check_cookie(given, UUID)
