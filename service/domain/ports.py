"""What the domain needs from the outside world, as small Protocols.

`service/adapters/` implements each for the real system, `tests/fakes/` in memory. The same contract tests
(`tests/contracts/`) run against both. Every method may raise the Unavailable error of its system.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import datetime, timedelta
from typing import Any, Protocol

from service.domain.expiry import Expired, ExpiryWarning
from service.domain.idle_times import IdleTimes
from service.domain.journal import HistoryEvent
from service.domain.names import SessionId
from service.domain.progress import Event, ProgressUpdate
from service.domain.queue_state import PushResult, QueueState
from service.domain.record import Record
from service.domain.rollout import Rollout
from service.domain.signing_key import SigningKey, StoredKeys
from service.domain.wanted import NOTHING_WANTED, Wanted
from service.domain.workload import UNASSIGNED, Assignment, Workload


class SessionLock(Protocol):
    """The right to change one session's release. Only one replica holds it at a time."""

    async def confirm(self) -> None:
        """Raise SessionBusy unless the lock is still held. Call it before every step that could undo another's work.

        A process that was frozen may resume long after another one has taken over.
        """


class Store(Protocol):
    """Records and claims, in Redis.

    An *owner* is the entry user_id -> id, which is written before anything else of a session and removed last.
    The *index* is complete when it has every session of the cluster. Until then a missing entry proves nothing, and
    methods raise IndexIncomplete instead of reporting it.
    """

    @property
    def unreadable(self) -> int:
        """The number of sessions whose record or queue this replica found unreadable.

        Such a session never fails a read of others: its record or queue state carries the `read_error`.
        """

    async def owner(self, user_id: str) -> SessionId | None:
        """The user's session id, or None. Raises SessionUnreadable when the entry is not an id, and IndexIncomplete."""

    async def claim(self, user_id: str, candidate: SessionId, wanted: Wanted = NOTHING_WANTED) -> SessionId:
        """Make `candidate` the user's id, unless the user has one already. Returns the user's id.

        A claim that is made keeps what the create wants, until there is a record.

        Raises IdTaken when the candidate belongs to another user.
        """

    async def wanted(self, uuid: SessionId) -> Wanted | None:
        """What the unfinished create wants that has claimed the id; None if there is none."""

    async def release_claim(self, user_id: str, uuid: SessionId) -> None:
        """Undo a claim that has no record yet. Does nothing otherwise."""

    async def claims(self) -> Sequence[tuple[SessionId, str]]:
        """Claims without a record, as (id, user_id): creates that are in progress or have died."""

    async def unfinished(self, age: timedelta, limit: int) -> Sequence[tuple[SessionId, str | None]]:
        """Creates and deletes that began at least `age` ago, are unfinished, and whose session is not locked.

        As (id, user_id) for a create and (id, None) for a delete. Cheap: claims and deletes maintain an index for it.
        """

    async def mark_finished(self, uuid: SessionId) -> None:
        """Remove the session from the index of unfinished work."""

    async def save(self, record: Record) -> None:
        """Write the record (not the queue) and its owner, replacing what was there. Repairs an unreadable record."""

    async def record(self, uuid: SessionId) -> Record:
        """The record with its queue state. Raises SessionNotFound and IndexIncomplete."""

    async def records(self, uuids: Sequence[SessionId]) -> Sequence[Record]:
        """The records of those sessions that have one, in the given order."""

    async def page(self, after: str, limit: int) -> Sequence[SessionId]:
        """Up to `limit` ids greater than `after` (which may be ""), ascending. Includes claims without a record."""

    async def mark_deleting(self, uuid: SessionId, *, keep_data: bool, expired: Expired | None = None) -> None:
        """Set the record's status to deleting. Raises SessionNotFound.

        With `expired`, raises SessionInUse if that is no longer so: another warning or none is stored, somebody has
        spared it, is deleting it, or (with `idle_since`) its queue wants it awake or somebody has used it since.
        """

    async def note_warning(self, uuid: SessionId, warning: ExpiryWarning | None) -> None:
        """Store what its user is told about its deletion; None: it stays. Nothing happens to an unreadable record."""

    async def note_round(self, gap: timedelta, known: datetime | None = None) -> tuple[datetime, datetime]:
        """Note that all sessions are being checked for expiry. Returns since when that has happened without a gap.

        And the store's own time. A gap is longer than `gap`, or its clock was set back, or it has lost the round that
        was noted at `known`, and so what users have asked for since.
        """

    async def note_released(self, uuid: SessionId, at: datetime | None) -> datetime | None:
        """Note when the release was first found missing, unless that is noted already. Returns the noted time.

        `at=None` removes the note, because the release is back. So does `save`. Raises SessionNotFound.
        """

    async def forget(self, uuid: SessionId) -> None:
        """Delete every key of the session, its owner entry last."""

    async def index_complete(self) -> bool:
        """Whether the index is complete."""

    async def mark_index_complete(self) -> None: ...

    def lock(self, uuid: SessionId) -> AbstractAsyncContextManager[SessionLock]:
        """Hold the session lock: one holder among all replicas. It expires some seconds after its holder has died.

        Raises SessionBusy on entry when another process holds it. Repeated attempts free a dead holder's lock sooner.
        """

    async def ping(self) -> None:
        """Raise unless the store accepts writes."""


class Queues(Protocol):
    """The wake queues, in Redis. Each is a lease: it keeps its session awake until it expires.

    A wake is *pending* until KEDA has seen it and the pod is up. It is stored apart from the queue and without an
    expiry, so that no outage of KEDA or of the service can lose it.
    """

    async def wake(self, uuid: SessionId, lease: timedelta) -> PushResult:
        """Atomically push a token, trim the queue, extend its expiry to `lease`, and note activity and pending wake.

        Raises SessionNotFound, SessionUnreadable, SessionDeleting, IndexIncomplete.
        """

    async def heartbeat(self, uuid: SessionId, source: str, lease: timedelta, ago: timedelta = timedelta(0)) -> int:
        """The same for activity other than a wake, `ago` before now; `source` names it. Returns the queue's length.

        Later activity that is known already stays noted.
        """

    async def background(self, uuid: SessionId, lease: timedelta, limit: timedelta) -> bool:
        """Note that a program works in the pod. Fill the queue for `lease`, until `limit` after the last activity.

        Notes no activity, unless none is known: then the limit counts from now. Returns whether the queue was filled;
        it is not beyond the limit, after a later request for sleep, or when the session is not there to be kept awake.
        """

    async def keep_awake(self, uuid: SessionId, until: datetime, lease: timedelta) -> datetime:
        """The same for an extension until that time, which `lease` must reach. Returns the latest extension's end."""

    async def spare(self, uuid: SessionId, until: datetime) -> datetime:
        """Keep the session from deletion until that time, and end the warning. Returns the latest such time.

        Raises SessionNotFound, SessionDeleting, SessionUnreadable.
        """

    async def end_sparing(self, uuid: SessionId) -> None:
        """Take every `spare` back. Raises as it does."""

    async def end_extension(self, uuid: SessionId, lease: timedelta) -> None:
        """Remove the extension, and shorten the queue's expiry to `lease`. Raises SessionNotFound."""

    async def announce_sleep(self, uuid: SessionId, within: timedelta) -> datetime | None:
        """Note that the session is going to sleep then; returns when. An earlier announcement stays.

        A wake or an extension takes it back, other activity does not. None if it cannot be noted.
        """

    async def clear(
        self, uuid: SessionId, *, asked: str | None = None, by: str = "", announced: datetime | None = None
    ) -> bool:
        """Delete the queue, of whatever type it is, the pending wake and the extension.

        `asked` is the id of a request for sleep, `by` its caller's name; the record keeps both together with the time.
        `announced`: do nothing and return False if the announcement of a sleep then was taken back.
        """

    async def read(self, uuids: Sequence[SessionId]) -> Mapping[SessionId, QueueState]:
        """The queue state of each session."""

    async def pending(self, age: timedelta, limit: int) -> Sequence[SessionId]:
        """Up to `limit` sessions whose wake has been pending for at least `age`, the oldest first."""

    async def renew(self, uuid: SessionId, lease: timedelta) -> None:
        """Extend the queue's expiry to at least `lease`; push a token if it is empty. Notes no activity."""

    async def settle(self, uuid: SessionId, seen: datetime) -> None:
        """Wakes pushed before `seen` are no longer pending."""

    def pushes(self) -> AsyncIterator[SessionId | None]:
        """Yield the id of each session whose queue anybody pushes to, and None whenever a subscription begins.

        None means that pushes may have been missed. Ends by raising RedisUnavailable, or NotificationsRefused when the
        service may not switch Redis' notifications on.
        """


class Progress(Protocol):
    """The progress of wakes, in Redis: the present or last wake of each session, for an hour."""

    async def write(self, uuid: SessionId, *updates: ProgressUpdate) -> bool:
        """Write the updates that are not known yet; returns whether there is a wake that accepts them.

        `accepted` starts a wake when none is in progress. After `ready` or `asleep` a wake accepts no updates.
        """

    async def events(self, uuid: SessionId) -> Sequence[Event]:
        """The events of the wake from its beginning; empty when none is known."""

    async def notify(self, uuid: SessionId) -> None:
        """Set the flags of `following` at every replica: something else about the session is new."""

    def following(self, uuid: SessionId) -> AbstractContextManager[asyncio.Event]:
        """A flag that is set when there may be new events of the session, whichever replica wrote them.

        Events may occasionally be written without it.
        """


class History(Protocol):
    """The last events of each session, in Redis: limited in number, and deleted with the session."""

    async def append(self, event: HistoryEvent) -> bool:
        """Store the event and drop the oldest beyond the limit; False when `history.dedup_key` is known already.

        Stores nothing for a session without a record, and never the event's user, which the record has.
        """

    async def events(self, uuid: SessionId) -> Sequence[HistoryEvent]:
        """Newest first, without those that cannot be read."""


TICKETS = 32
"""The number of unused tickets that one session can have."""


class Tickets(Protocol):
    """The unused tickets, in Redis. They do not prove a ticket to be genuine: its seal does."""

    async def put(self, digest: str, uuid: SessionId, life: timedelta) -> None:
        """Store the digest of a new ticket for its lifetime. Beyond TICKETS, the session's oldest one is dropped."""

    async def take(self, digest: str, uuid: SessionId) -> bool:
        """Use the ticket up. Returns False when it was used before, or is unknown."""

    async def use_once(self, digest: str, life: timedelta) -> bool:
        """Note that something else that works once was used. Returns False when it was noted within `life` before."""

    async def drop_secret(self) -> None:
        """Delete the secret that earlier versions stored in Redis."""


class SignOuts(Protocol):
    """Tells every replica when a browser signs out of a workspace, in Redis.

    A replica that loses its connection hears what it missed within the last hour when it is subscribed again.
    """

    async def publish(self, uuid: SessionId, since: int) -> None:
        """The browser that signed in at `since`, in seconds since 1970, has signed out."""

    def subscribe(self, listener: Callable[[SessionId, int], None]) -> Callable[[], None]:
        """Call `listener` with both for every sign-out, this replica's own too, maybe more than once.

        Until the returned function is called.
        """


COMPANIONS = 64
"""The number of browsers of one session that are remembered."""
COMPANION_SEEN = timedelta(seconds=45)
"""How long a browser is remembered after it was last seen."""


class Companions(Protocol):
    """The browsers whose companion is connected to the gateway, at any replica; in Redis."""

    async def seen(self, uuid: SessionId, browser: str) -> None:
        """Remember the browser for COMPANION_SEEN. Beyond COMPANIONS, the session's oldest one is dropped."""

    async def is_seen(self, uuid: SessionId, browser: str) -> bool:
        """Whether it is remembered."""

    async def any_seen(self, uuid: SessionId) -> bool:
        """Whether any browser of the session is remembered."""


class SigningKeys(Protocol):
    """The keys that seal tickets and session cookies. They are shared by all replicas, and never in Redis."""

    async def read(self) -> StoredKeys:
        """Every readable key, and the stored version."""

    async def replace(self, keys: Sequence[SigningKey], version: str | None) -> bool:
        """Store exactly these keys. Does nothing and returns False when `version` is no longer the stored one."""


class Releases(Protocol):
    """The Helm releases of the sessions."""

    async def install(
        self, uuid: SessionId, user_id: str, idle_times: IdleTimes, assignment: Assignment = UNASSIGNED
    ) -> None:
        """Install `user-<uuid>`, or upgrade it if it exists, in exactly one helm process.

        Raises SessionBroken when the assigned profile is not defined.
        """

    @property
    def target(self) -> str:
        """Names all revisions of new releases. The same in every replica that has the same chart and values."""

    def revision(self, assignment: Assignment) -> str | None:
        """Names the chart and the chart values of a new release with that profile; None if it is not defined."""

    async def upgrade(self, workload: Workload) -> None:
        """Bring the release to its `revision`, in one helm process. It keeps the session's user and idle times.

        Never scales. A release that fails is left as the failure left it. Raises UpgradeFailed with helm's reason,
        UpgradeConflict where it would overwrite others' changes, and SessionBroken when its profile is not defined.
        """

    async def rollback(self, uuid: SessionId, number: int) -> None:
        """Bring the release back to its revision of that number. Raises UpgradeFailed with helm's reason."""

    async def uninstall(self, uuid: SessionId) -> None:
        """Uninstall the release. Does nothing when it does not exist."""

    async def check(self) -> None:
        """Raise unless helm runs and the chart renders with the configured values."""

    async def rendered(self) -> Mapping[str | None, Sequence[Mapping[str, Any]]]:
        """The objects of a session as they would be installed now, by the name of its profile; None: without one."""


class Rollouts(Protocol):
    """The last rollout, in Redis. Only one is kept."""

    async def read(self) -> Rollout | None:
        """The last one; None when there is none, or it cannot be read."""

    async def replace(self, rollout: Rollout, version: int) -> bool:
        """Store it, if the stored one has that version, 0 for none. Returns whether it did so.

        The stored version is `rollout.version`, which must be another one.
        """


class Cluster(Protocol):
    """The Kubernetes API, limited to the users' namespace."""

    async def read(self, uuids: Sequence[SessionId]) -> dict[SessionId, Workload]:
        """The workload of each id, from the API server; an empty one when nothing of the session exists."""

    def scan(self) -> AsyncIterator[Workload]:
        """Yield the workload of every session of which anything exists, in any order."""

    async def find(self, user_id: str) -> SessionId | None:
        """The id of the session of which the user has a Deployment or a kept volume."""

    async def reserve(self, uuid: SessionId, user_id: str, assignment: Assignment = UNASSIGNED) -> None:
        """Create the Deployment with 0 replicas, for helm to adopt. This claims the id in the cluster.

        It keeps the assignment, so that any replica can finish the session with it.
        Does nothing when the user has reserved it already. Raises IdTaken when the Deployment is another user's.
        """

    async def unreserve(self, uuid: SessionId) -> None:
        """Delete a Deployment without a release. Does nothing when it does not exist."""

    async def scale(self, uuid: SessionId, replicas: int) -> None:
        """Set the Deployment's replicas. Raises SessionReleased when there is no Deployment."""

    async def park(self, uuid: SessionId) -> None:
        """Make KEDA ignore the session. Does nothing without a ScaledObject."""

    async def unpark(self, uuid: SessionId) -> None:
        """Make KEDA scale the session again, which it starts at once."""

    async def revoke(self, uuid: SessionId, at: datetime) -> None:
        """Set `Workload.revoked_at`, in whole seconds. Does nothing when there is no Deployment."""

    async def delete_volume(self, uuid: SessionId) -> None: ...

    async def disown(self, uuid: SessionId, managers: Collection[str]) -> bool:
        """Leave to helm alone what these field managers have set to helm's values, as who applies its manifest.

        Returns whether there were any.
        """

    async def check(self) -> None:
        """Raise unless the API server answers and the service may read the users' namespace."""

    async def check_keda(self) -> None:
        """Raise KedaUnavailable unless KEDA works (the adapter says how it knows)."""


class WorkloadCache(Protocol):
    """An informer's cache of the users' namespace. Reads are immediate and send no request."""

    def workload(self, uuid: SessionId) -> Workload:
        """The session's workload; an empty one when nothing of the session exists."""

    def session_at(self, address: str) -> SessionId | None:
        """The session whose pod has that address, and no other session's; None when there is none.

        Pods in the network of their node are left out: they share its address.
        """

    def uuids(self) -> Iterable[SessionId]:
        """Every session of which anything exists."""

    @property
    def has_synced(self) -> bool:
        """Whether everything has been read once. Until then, what is missing may exist."""

    def behind(self) -> timedelta | None:
        """How old the cache may be; None while its watches are up to date."""

    def subscribe(self, listener: Callable[[SessionId], None]) -> Callable[[], None]:
        """Call `listener` after every change of a workload, until the returned function is called."""


class PodEvents(Protocol):
    """Kubernetes' own events about the sessions' pods."""

    def updates(self) -> AsyncIterator[tuple[SessionId, str, ProgressUpdate]]:
        """(session, uid of the pod, update) as they happen: pulled images and warnings. Raises ClusterUnavailable."""


class Election(Protocol):
    """Elects one of the replicas as the leader, by a lease in the cluster."""

    lease_duration: timedelta
    """How long a leader leads after its last renewal, even if it cannot renew the lease."""

    async def acquire_or_renew(self) -> bool:
        """Try to take or renew the lease. Returns whether this replica leads. Call it several times per duration."""

    async def release(self) -> None:
        """Release the lease if this replica holds it, so that another replica can lead at once."""
