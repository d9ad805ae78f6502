"""Sessions that have lived or slept too long: warned first, spared by whoever comes back, and deleted one by one.

Whatever is in doubt is kept.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.adapters.log.audit import LogAudit
from service.controller import expirer as expirer_module
from service.controller.expirer import Expirer
from service.domain.audit import Audit, AuditEntry, AuditFilter
from service.domain.errors import ClusterUnavailable, InstallFailed, RedisUnavailable, SessionInUse
from service.domain.expiry import Expired, ExpiryReason, ExpiryRule, ExpiryWarning
from service.domain.expiry_notes import ExpiryNotes
from service.domain.journal import Deleted, ExpiryAnnounced
from service.domain.metrics import NoMetrics
from service.domain.names import SessionId
from service.domain.permissions import SERVICE
from service.domain.record import RecordStatus
from service.domain.workload import Pod, Workload
from tests.domain.conftest import World

DAY = timedelta(days=1)
RULE = ExpiryRule(lifetime=90 * DAY, dormancy=30 * DAY, warning=3 * DAY)
LIFETIME, DORMANCY = ExpiryReason
Change = Callable[[World, SessionId], Awaitable[None]]


class Sheet(NoMetrics):
    """Counts what has expired."""

    def __init__(self) -> None:
        self.expired_by: list[ExpiryReason] = []
        self.any = asyncio.Event()

    def expired(self, reason: ExpiryReason) -> None:
        self.expired_by.append(reason)
        self.any.set()


@pytest.fixture
def world() -> World:
    return World(expiry_rule=RULE)


def expirer(
    world: World,
    audit: Audit | None = None,
    *,
    rule: ExpiryRule = RULE,
    per_hour: int = 3600,
    metrics: Sheet | None = None,
) -> Expirer:
    """The rule of a second one may differ from the world's, as in a replica with other settings."""
    world.expiry_rule = rule
    audit = audit or Audit(world.trail, LogAudit(), world.cluster)
    replica = world.replica(ExpiryNotes(audit, metrics or Sheet()))
    return Expirer(
        rule=rule,
        queries=replica.queries,
        store=world.store,
        activity=replica.activity,
        provisioner=replica.provisioner,
        journal=world.journal,
        interval=timedelta(minutes=5),
        per_hour=per_hour,
    )


async def entries(trail: Audit, uuid: SessionId) -> list[AuditEntry]:
    """What the service has done to the session of ann, once that is written."""
    writing = asyncio.create_task(trail.run())
    found: list[AuditEntry] = []
    chosen = AuditFilter(uuid=uuid, caller=SERVICE, user_id="ann")
    async with asyncio.timeout(5):
        while not found:
            await asyncio.sleep(0)
            found = list((await trail.page(cursor=None, limit=10, chosen=chosen)).entries)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    return found


def ago(days: float) -> datetime:
    return datetime.now(UTC) - days * DAY


def warned(days: float, reason: ExpiryReason) -> ExpiryWarning:
    return ExpiryWarning(at=ago(days), due=ago(days - 3), reason=reason)


def note(world: World, uuid: SessionId, **fields: Any) -> None:
    world.store.sessions[uuid] = replace(world.store.sessions[uuid], **fields)


def alter(world: World, uuid: SessionId, **fields: Any) -> None:
    world.cluster.change(replace(world.cluster.workload(uuid), **fields))


async def made(world: World, user: str = "ann", *, days: float = 0, **fields: Any) -> SessionId:
    uuid = (await world.provisioner.create(user)).uuid
    alter(world, uuid, created_at=ago(days))
    note(world, uuid, created_at=ago(days), written_at=None, **fields)
    return uuid


async def dormant(world: World, user: str = "ann") -> SessionId:
    """One that is to be deleted now: long asleep, and warned for four days, in which somebody looked at it."""
    world.store.rounds = ago(10), datetime.now(UTC)
    return await made(world, user, days=80, last_activity=ago(60), deletion_warning=warned(4, DORMANCY))


async def too_old(world: World, user: str = "ann") -> SessionId:
    world.store.rounds = ago(10), datetime.now(UTC)
    return await made(world, user, days=91, last_activity=ago(1), deletion_warning=warned(4, LIFETIME))


def announced(world: World) -> list[ExpiryAnnounced]:
    return [entry for entry in world.journal.entries if isinstance(entry, ExpiryAnnounced)]


async def test_a_dormant_session_is_warned_and_then_deleted_with_its_home_kept(world: World) -> None:
    uuid, fresh = await made(world, days=40, last_activity=ago(28)), await made(world, "bob", days=10)
    sheet = Sheet()
    duty = expirer(world, metrics=sheet)
    await duty.expire()
    await duty.expire()
    (warning,) = announced(world)
    assert (warning.uuid, warning.why) == (uuid, DORMANCY)
    assert abs(warning.due - (datetime.now(UTC) + 3 * DAY)) < timedelta(minutes=1), "the warning has its full time"
    assert duty.warned == {DORMANCY: 1}
    world.store.rounds = ago(10), datetime.now(UTC)
    note(world, uuid, last_activity=ago(31), deletion_warning=warned(2.9, DORMANCY))
    await duty.expire()
    assert uuid in world.store.sessions, "its user has been warned for less than three days"
    note(world, uuid, deletion_warning=warned(3.1, DORMANCY))
    await duty.expire()
    assert set(world.store.sessions) == {fresh}
    assert world.cluster.workload(uuid).volume
    (deleted,) = [entry for entry in world.journal.entries if isinstance(entry, Deleted)]
    assert (deleted.by, deleted.keep_data) == ("dormancy", True)
    assert sheet.expired_by == [DORMANCY]


async def test_the_next_session_of_the_user_has_a_life_of_its_own(world: World) -> None:
    await too_old(world)
    await expirer(world).expire()
    assert not world.store.sessions
    uuid = (await world.provisioner.create("ann")).uuid
    note(world, uuid, created_at=ago(91))  # as of a delete that was interrupted
    expiry = (await expirer(world)._queries.status(uuid)).expiry
    assert expiry is not None
    assert expiry.at > datetime.now(UTC) + 29 * DAY


# --- mistakes in settings ---


async def test_without_limits_nothing_is_warned_or_deleted() -> None:
    world = World()
    uuid = await dormant(world)
    await expirer(world, rule=ExpiryRule()).expire()
    assert uuid in world.store.sessions
    assert not announced(world)


async def test_a_limit_that_is_a_mistake_only_warns_and_its_correction_takes_that_back(world: World) -> None:
    fleet = [await made(world, f"user{number}", days=20, last_activity=ago(1)) for number in range(20)]
    mistake = ExpiryRule(dormancy=timedelta(hours=1), warning=3 * DAY)
    for _ in range(3):
        await expirer(world, rule=mistake).expire()
    assert set(world.store.sessions) == set(fleet)
    assert len(announced(world)) == len(fleet)
    await expirer(world).expire()
    assert {record.deletion_warning for record in world.store.sessions.values()} == {None}


async def test_what_was_warned_of_before_the_limits_were_off_is_warned_of_again(world: World) -> None:
    uuid = await dormant(world)
    world.store.rounds = ago(10), ago(0.1)
    await expirer(world).expire()
    assert uuid in world.store.sessions
    (warning,) = announced(world)
    assert warning.due > datetime.now(UTC) + 2.9 * DAY


async def test_deletions_are_paced(world: World) -> None:
    for number in range(15):
        await dormant(world, f"user{number}")
    duty = expirer(world, per_hour=60)
    for _ in range(5):
        await duty.expire()
    assert len(world.store.sessions) == 14, "the leader may have changed again and again"
    duty._counted -= 300
    await duty.expire()
    assert len(world.store.sessions) == 9, "one a minute"
    duty._counted -= 86_400
    duty._per_second = 2 / 300
    duty._most = 2
    await duty.expire()
    assert len(world.store.sessions) == 7, "a day without a round saves up no more than two rounds may delete"


async def test_none_is_deleted_while_the_pace_is_0(world: World) -> None:
    uuid = await dormant(world)
    duty = expirer(world, per_hour=0)
    duty._counted -= 100_000
    await duty.expire()
    assert uuid in world.store.sessions
    assert duty.warned == {DORMANCY: 1}


# --- whoever is there is spared ---


async def wakes(world: World, uuid: SessionId) -> None:
    await world.activity.wake(uuid)


async def has_a_pod(world: World, uuid: SessionId) -> None:
    alter(world, uuid, replicas=1, ready=1)


async def has_a_pod_that_ends(world: World, uuid: SessionId) -> None:
    alter(world, uuid, pod=Pod("pod-uid"))


async def has_a_pod_that_fails(world: World, uuid: SessionId) -> None:
    alter(world, uuid, replicas=1, failure="CrashLoopBackOff")


async def was_awake_for_others(world: World, uuid: SessionId) -> None:
    alter(world, uuid, last_active=ago(1))


async def was_just_used(world: World, uuid: SessionId) -> None:
    note(world, uuid, last_activity=datetime.now(UTC))


async def is_kept(world: World, uuid: SessionId) -> None:
    await world.activity.keep(uuid, 10 * DAY)


async def is_paused(world: World, uuid: SessionId) -> None:
    alter(world, uuid, paused="an operator has paused it")


async def is_broken(world: World, uuid: SessionId) -> None:
    alter(world, uuid, has_scaler=False)


async def cannot_be_read(world: World, uuid: SessionId) -> None:
    alter(world, uuid, read_error="the annotation is odd")


async def has_an_odd_record(world: World, uuid: SessionId) -> None:
    world.queues.unreadable_records[uuid] = "session:... has a created_at that is not a time"


async def is_released(world: World, uuid: SessionId) -> None:
    alter(world, uuid, release=None, deployed=False)


async def does_not_say_its_age(world: World, uuid: SessionId) -> None:
    alter(world, uuid, created_at=None)


async def was_just_created(world: World, uuid: SessionId) -> None:
    alter(world, uuid, created_at=datetime.now(UTC))


async def was_warned_in_the_future(world: World, uuid: SessionId) -> None:
    note(world, uuid, deletion_warning=warned(-100, DORMANCY))


async def lost_its_warning(world: World, uuid: SessionId) -> None:
    note(world, uuid, deletion_warning=None)


IN_USE = (wakes, has_a_pod, has_a_pod_that_ends, has_a_pod_that_fails, was_awake_for_others, was_just_used)
DOUBTFUL = (is_paused, is_broken, cannot_be_read, has_an_odd_record, is_released, does_not_say_its_age)
EITHER = (is_kept, was_just_created, was_warned_in_the_future, lost_its_warning, *DOUBTFUL)


@pytest.mark.parametrize("change", [*IN_USE, *EITHER], ids=lambda change: change.__name__)
async def test_dormancy_deletes_no_session_that(world: World, change: Change) -> None:
    uuid = await dormant(world)
    await change(world, uuid)
    await expirer(world).expire()
    await expirer(world).expire()
    assert world.store.sessions[uuid].status is RecordStatus.CREATED
    warning = world.store.sessions[uuid].deletion_warning
    assert warning is None or warning.due > datetime.now(UTC) + 2.9 * DAY


@pytest.mark.parametrize("change", EITHER, ids=lambda change: change.__name__)
async def test_age_deletes_no_session_that(world: World, change: Change) -> None:
    uuid = await too_old(world)
    await change(world, uuid)
    await expirer(world).expire()
    await expirer(world).expire()
    assert world.store.sessions[uuid].status is RecordStatus.CREATED


@pytest.mark.parametrize(
    "change",
    [wakes, was_just_used, is_kept, lost_its_warning, has_a_pod, is_paused],
    ids=lambda change: change.__name__,
)
async def test_a_change_in_the_last_moment_wins(world: World, change: Change) -> None:
    uuid = await dormant(world)
    session = await world.queries.status(uuid)
    assert session.record.deletion_warning is not None
    expired = Expired(session.record.deletion_warning, session.last_awake)
    await change(world, uuid)
    with pytest.raises(SessionInUse):
        await world.provisioner.delete(uuid, keep_data=True, wait=False, expired=expired)
    assert world.store.sessions[uuid].status is RecordStatus.CREATED


async def test_a_wake_between_the_last_look_and_the_deletion_wins(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid, woken = await dormant(world), asyncio.Event()
    read = world.cluster.read

    async def read_and_wake(uuids: Sequence[SessionId]) -> Mapping[SessionId, Workload]:
        found = await read(uuids)
        if uuid in uuids and not woken.is_set():
            woken.set()
            await world.activity.wake(uuid)
        return found

    monkeypatch.setattr(world.cluster, "read", read_and_wake)
    await expirer(world).expire()
    assert world.store.sessions[uuid].status is RecordStatus.CREATED
    assert world.queues.queue(uuid).tokens == 1


async def test_a_warning_from_the_future_is_given_anew(world: World) -> None:
    uuid = await dormant(world)
    await was_warned_in_the_future(world, uuid)
    await expirer(world).expire()
    warning = world.store.sessions[uuid].deletion_warning
    assert warning is not None
    assert timedelta(0) <= datetime.now(UTC) - warning.at < timedelta(minutes=1)


async def test_a_use_between_two_rounds_makes_the_warning_void(world: World) -> None:
    uuid = await made(world, days=80, last_activity=ago(0.1), deletion_warning=warned(4, DORMANCY))
    world.store.rounds = ago(10), datetime.now(UTC)
    hasty = ExpiryRule(dormancy=timedelta(hours=1), warning=3 * DAY)
    await expirer(world, rule=hasty).expire()
    assert uuid in world.store.sessions
    (warning,) = announced(world)
    assert warning.due > datetime.now(UTC) + 2.9 * DAY


async def test_a_delete_that_somebody_has_asked_for_keeps_its_own_terms(world: World) -> None:
    uuid = await too_old(world)
    record = world.store.sessions[uuid]
    assert record.deletion_warning is not None
    await world.store.mark_deleting(uuid, keep_data=False)
    with pytest.raises(SessionInUse):
        await world.provisioner.delete(uuid, keep_data=True, expired=Expired(record.deletion_warning, None))
    assert world.store.sessions[uuid].keep_data is False


# --- clocks, caches, crashes ---


async def test_a_time_without_rounds_restarts_every_warning(world: World) -> None:
    uuid = await dormant(world)
    world.store.rounds = ago(10), ago(0.05)  # more than an hour: the service was down, or the clock was put forward
    await expirer(world).expire()
    assert uuid in world.store.sessions
    found = world.store.sessions[uuid].deletion_warning
    assert found is not None
    assert found.due > datetime.now(UTC) + 2.9 * DAY


async def test_a_clock_that_was_set_back_restarts_every_warning(world: World) -> None:
    uuid = await dormant(world)
    world.store.rounds = ago(10), datetime.now(UTC) + timedelta(minutes=5)
    await expirer(world).expire()
    assert uuid in world.store.sessions


async def test_an_empty_redis_restarts_every_warning(world: World) -> None:
    uuid = await dormant(world)
    world.store.rounds = None
    await expirer(world).expire()
    assert uuid in world.store.sessions


@pytest.mark.parametrize("backup", [timedelta(minutes=10), None])
async def test_a_backup_of_redis_that_is_minutes_old_restarts_every_warning(
    world: World, backup: timedelta | None
) -> None:
    """Whoever has asked meanwhile to keep a session has seen that it is kept."""
    uuid = await too_old(world)
    duty = expirer(world)
    duty._allowed = 0
    await duty.expire()
    assert world.store.sessions[uuid].deletion_warning is not None
    world.store.rounds = (ago(10), datetime.now(UTC) - backup) if backup else None
    duty._allowed = duty._most
    await duty.expire()
    assert uuid in world.store.sessions
    found = world.store.sessions[uuid].deletion_warning
    assert found is not None
    assert found.due > datetime.now(UTC) + 2.9 * DAY
    await duty.expire()
    assert world.store.sessions[uuid].deletion_warning == found


async def test_nothing_happens_while_the_clock_differs_from_that_of_redis(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid, fresh = await dormant(world), await made(world, "bob")
    note_round = world.store.note_round

    async def late(gap: timedelta, known: datetime | None = None) -> tuple[datetime, datetime]:
        since, now = await note_round(gap, known)
        return since, now - timedelta(minutes=2)

    monkeypatch.setattr(world.store, "note_round", late)
    await expirer(world).expire()
    assert set(world.store.sessions) == {uuid, fresh}
    assert not announced(world)


async def test_nothing_is_deleted_while_the_cache_is_behind(world: World) -> None:
    uuid = await too_old(world)
    world.cluster.behind = lambda: timedelta(seconds=9)  # type: ignore[method-assign]
    await expirer(world).expire()
    assert uuid in world.store.sessions


async def test_two_leaders_delete_once(world: World) -> None:
    uuid, other = await dormant(world), await too_old(world, "bob")
    sheet = Sheet()
    duties = [expirer(world, metrics=sheet) for _ in range(3)]
    for duty in duties:
        duty._allowed = duty._most
    await asyncio.gather(*(duty.expire() for duty in duties))
    assert not world.store.sessions.keys() & {uuid, other}
    assert sorted(sheet.expired_by) == sorted([DORMANCY, LIFETIME])
    deleted = [entry.uuid for entry in world.journal.entries if isinstance(entry, Deleted)]
    assert sorted(map(str, deleted)) == sorted((uuid, other))


async def test_a_deletion_that_a_crash_interrupts_is_finished_and_keeps_the_home(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = await dormant(world)
    uninstall = world.releases.uninstall

    async def dies(uuid: SessionId) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(world.releases, "uninstall", dies)
    with pytest.raises(asyncio.CancelledError):
        await expirer(world).expire()
    assert world.store.sessions[uuid].status is RecordStatus.DELETING
    monkeypatch.setattr(world.releases, "uninstall", uninstall)
    sheet, trail = Sheet(), Audit(world.trail, LogAudit(), world.cluster)
    recoveries = []
    for _ in range(2):
        world.use(world.replica(ExpiryNotes(trail, sheet)))
        recoveries.append(world.recovery())
    await asyncio.gather(*(each.run() for each in recoveries))
    assert uuid not in world.store.sessions
    assert world.cluster.workload(uuid).volume
    assert sheet.expired_by == [DORMANCY]
    assert [(entry.operation, entry.user_id) for entry in await entries(trail, uuid)] == [("delete:dormancy", "ann")]
    assert [entry.by for entry in world.journal.entries if isinstance(entry, Deleted)] == ["dormancy"]


async def test_a_warning_that_could_not_be_stored_was_not_given(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    uuid = await made(world, days=1000)

    async def refuse(uuid: SessionId, warning: ExpiryWarning | None) -> None:
        raise RedisUnavailable

    monkeypatch.setattr(world.store, "note_warning", refuse)
    for _ in range(3):
        await expirer(world).expire()
    assert uuid in world.store.sessions
    assert not announced(world)


@pytest.mark.parametrize("error", [InstallFailed, ClusterUnavailable, RuntimeError])
async def test_one_session_that_cannot_be_deleted_holds_up_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    odd, fine = await too_old(world, "ann"), await too_old(world, "bob")
    uninstall, tries = world.releases.uninstall, [0]

    async def refuse(uuid: SessionId) -> None:
        if uuid == odd:
            tries[0] += 1
            raise error
        await uninstall(uuid)

    monkeypatch.setattr(world.releases, "uninstall", refuse)
    duty = expirer(world)
    duty._allowed = duty._most
    await duty.expire()
    await duty.expire()
    assert fine not in world.store.sessions
    assert tries == [1], "the next attempt waits"


async def test_a_session_that_is_too_old_sleeps_before_it_is_deleted(world: World) -> None:
    uuid = await too_old(world)
    await world.activity.wake(uuid)
    await has_a_pod(world, uuid)
    scaled: list[int] = []
    scale = world.cluster.scale

    async def noted(uuid: SessionId, replicas: int) -> None:
        scaled.append(replicas)
        await scale(uuid, replicas)

    world.cluster.scale = noted  # type: ignore[method-assign]
    trail = Audit(world.trail, LogAudit(), world.cluster)
    await expirer(world, trail).expire()
    assert scaled == [0]
    assert uuid not in world.store.sessions
    assert [(entry.operation, entry.result) for entry in await entries(trail, uuid)] == [("delete:lifetime", "done")]


async def test_the_duty_outlasts_an_outage_and_reports_nothing_once_another_replica_leads(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    uuid = await dormant(world)
    sheet = Sheet()
    duty = expirer(world, metrics=sheet)
    duty._interval = 0.001
    page, failures = duty._queries.page, [RedisUnavailable(), RedisUnavailable()]

    async def sometimes(**arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return await page(**arguments)

    monkeypatch.setattr(duty._queries, "page", sometimes)
    with caplog.at_level(logging.WARNING, logger=expirer_module.__name__):
        leading = asyncio.create_task(duty.lead())
        async with asyncio.timeout(10):
            await sheet.any.wait()
    assert uuid not in world.store.sessions
    leading.cancel()
    await asyncio.gather(leading, return_exceptions=True)
    assert "no session is warned or deleted until redis answers" in caplog.text
    assert duty.warned is None
