"""What the domain needs of the outside, as small Protocols; service/adapters/ implements each twice.

Once on the real part, once in memory; one suite of contract tests (tests/contracts) holds both to the same behaviour.
Every method may raise the Unavailable of its part.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import datetime, timedelta
from typing import Protocol

from service.domain.journal import HistoryEvent
from service.domain.names import SessionId
from service.domain.progress import Event, ProgressUpdate
from service.domain.session import IdleTimes, PushResult, QueueState, Record, Workload
from service.domain.signing_key import SigningKey, StoredKeys


class SessionLock(Protocol):
    """The right to work on one session, as long as nobody else has taken it over."""

    async def confirm(self) -> None:
        """Make sure that it is still held; to be called before every step that could undo another's work.

        A process that was frozen may come back when another one has long gone on. Raises SessionBusy.
        """


class Store(Protocol):
    """Records and claims, in Redis.

    An *owner* is the entry user_id -> id, made before anything else of a session and removed last.
    The *index* is whole when every session of the cluster is in it: before, an answer of "not there" means nothing,
    and the methods that would give it raise IndexIncomplete instead.
    """

    @property
    def unreadable(self) -> int:
        """Sessions whose record or queue was found unreadable, as far as this replica has looked.

        One such session fails no read of others: its record or queue state carries the `fault`.
        """

    async def owner(self, user_id: str) -> SessionId | None:
        """The id that belongs to the user. Raises SessionUnreadable when what is entered there is no id."""

    async def claim(self, user_id: str, candidate: SessionId) -> SessionId:
        """Make `candidate` the user's id, unless the user has one; return the user's id.

        Raises IdTaken when the candidate is another user's.
        """

    async def release_claim(self, user_id: str, uuid: SessionId) -> None:
        """Undo a claim that has no record yet; anything else is left alone."""

    async def claims(self) -> Sequence[tuple[SessionId, str]]:
        """Claims without a record, as (id, user_id): creates that are under way or died half-way."""

    async def unfinished(self, age: timedelta, limit: int) -> Sequence[tuple[SessionId, str | None]]:
        """Creates and deletes that began that long ago, are not finished, and that nobody is at work on.

        As (id, user_id), None for a delete. Cheap: from an index that claims and deletes enter and leave by themselves.
        """

    async def mark_finished(self, uuid: SessionId) -> None:
        """Take the session out of the index of unfinished work, where nothing is left to be done."""

    async def save(self, record: Record) -> None:
        """Write the record (not the queue) and its owner entry, over whatever was there, which heals a fault."""

    async def record(self, uuid: SessionId) -> Record:
        """The record with its queue state. Raises SessionNotFound."""

    async def records(self, uuids: Sequence[SessionId]) -> Sequence[Record]:
        """The records of those that have one, in the given order."""

    async def page(self, after: str, limit: int) -> Sequence[SessionId]:
        """Up to `limit` ids greater than `after` (which may be ""), ascending; some may be claims without a record."""

    async def mark_deleting(self, uuid: SessionId, *, keep_data: bool) -> None:
        """Turn the record's status into deleting. Raises SessionNotFound."""

    async def note_released(self, uuid: SessionId, at: datetime | None) -> datetime | None:
        """Note when the release was first seen to be gone, and return that; None: it is there again, as after a save.

        Raises SessionNotFound.
        """

    async def forget(self, uuid: SessionId) -> None:
        """Remove every key of the session, its owner entry last."""

    async def index_complete(self) -> bool:
        """Whether the index is whole."""

    async def mark_index_complete(self) -> None: ...

    def lock(self, uuid: SessionId) -> AbstractAsyncContextManager[SessionLock]:
        """Hold the session's session lock: one holder among all replicas, gone some seconds after its holder died.

        Raises SessionBusy on entry when somebody else holds it. Who asks repeatedly finds out that the holder is dead.
        """

    async def ping(self) -> None:
        """Prove that the store takes writes."""


class Queues(Protocol):
    """The wake queues, in Redis: each a lease that keeps its session awake while it is not empty.

    A *pending* wake is one that is not known to be served: KEDA has seen it, and the pod is up. It is kept apart from
    the queue, without an expiry, so that no outage of KEDA or of the service can lose it.
    """

    async def wake(self, uuid: SessionId, lease: timedelta) -> PushResult:
        """One step: push a token, keep the queue short, extend its expiry to `lease`, note activity and pending wake.

        Raises SessionNotFound, SessionUnreadable, SessionDeleting, IndexIncomplete.
        """

    async def heartbeat(self, uuid: SessionId, source: str, lease: timedelta) -> int:
        """The same for other activity than a wake, named by its `source`."""

    async def keep_awake(self, uuid: SessionId, until: datetime, lease: timedelta) -> datetime:
        """The same for a wish to be kept awake until then, which `lease` must reach; the latest wish there is."""

    async def clear(self, uuid: SessionId, *, asked: str | None = None) -> None:
        """Empty the queue, whatever it is, and forget pending wake and wish.

        `asked`, the id of a request that asks for sleep, is noted in the record together with the time.
        """

    async def read(self, uuids: Sequence[SessionId]) -> Mapping[SessionId, QueueState]:
        """The queue state of each."""

    async def pending(self, age: timedelta, limit: int) -> Sequence[SessionId]:
        """Sessions whose pending wake is that old or older, the oldest first."""

    async def renew(self, uuid: SessionId, lease: timedelta) -> None:
        """Give the queue at least `lease` to live, with a token when it is empty. Notes no activity."""

    async def settle(self, uuid: SessionId, seen: datetime) -> None:
        """Pushes until `seen` are served: only those since then are pending any more."""

    def pushes(self) -> AsyncIterator[SessionId | None]:
        """Ids to whose queue anybody pushed, as it happens; None whenever listening begins, for missed ones are gone.

        Ends by raising RedisUnavailable, or NotificationsRefused when Redis may not be told to notify.
        """


class Progress(Protocol):
    """The progress of wakes, in Redis: the present or last wake of each session, for an hour."""

    async def write(self, uuid: SessionId, *updates: ProgressUpdate) -> bool:
        """Write the updates that are not known yet; returns whether there is a wake that accepts them.

        `accepted` starts a wake when none is in progress. After `ready` or `asleep` a wake accepts no updates.
        """

    async def events(self, uuid: SessionId) -> Sequence[Event]:
        """The events of the wake from its beginning; empty when none is known."""

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
"""Tickets of one session that can be open at the same time."""


class Tickets(Protocol):
    """Which tickets are not used yet, in Redis. Whether a ticket is genuine is not to be learned here."""

    async def put(self, digest: str, uuid: SessionId, life: timedelta) -> None:
        """Remember the digest of a new ticket for its life. The oldest of a session's is forgotten beyond TICKETS."""

    async def take(self, digest: str, uuid: SessionId) -> bool:
        """Whether the session's ticket was not used yet; it is by that."""

    async def drop_secret(self) -> None:
        """Remove the secret that earlier versions kept in Redis."""


class SigningKeys(Protocol):
    """What tickets and session cookies are sealed with, outside of Redis; shared by all replicas."""

    async def read(self) -> StoredKeys:
        """Every key that can be read, and the version of what is there."""

    async def replace(self, keys: Sequence[SigningKey], version: str | None) -> bool:
        """Keep exactly these keys; False when somebody else has written since that version, and nothing was done."""


class Releases(Protocol):
    """Helm."""

    async def install(self, uuid: SessionId, user_id: str, idle_times: IdleTimes) -> None:
        """Install `user-<uuid>`, or upgrade it if it is there, by exactly one helm process."""

    async def uninstall(self, uuid: SessionId) -> None:
        """Remove the release; one that does not exist is removed already."""

    async def check(self) -> None:
        """Prove that helm runs and that the chart renders with the configured values."""


class Cluster(Protocol):
    """The Kubernetes API, seen through the users' namespace."""

    async def read(self, uuids: Sequence[SessionId]) -> dict[SessionId, Workload]:
        """The workloads of the given ids, one for each, empty ones for those of which nothing exists."""

    def scan(self) -> AsyncIterator[Workload]:
        """Every session of which anything exists, in any order."""

    async def find(self, user_id: str) -> SessionId | None:
        """The id under which the user has a Deployment or a kept volume."""

    async def reserve(self, uuid: SessionId, user_id: str) -> None:
        """Create the Deployment with 0 replicas, for helm to adopt; also the id's claim in the cluster.

        A reservation of the same user is left as it is. Raises IdTaken when the Deployment is somebody else's.
        """

    async def unreserve(self, uuid: SessionId) -> None:
        """Delete a Deployment that no release stands behind; one that does not exist is fine."""

    async def scale(self, uuid: SessionId, replicas: int) -> None:
        """Set the wanted replicas. Raises SessionReleased when there is nothing to scale."""

    async def park(self, uuid: SessionId) -> None:
        """Tell KEDA to leave the session alone. No ScaledObject, nothing to do."""

    async def unpark(self, uuid: SessionId) -> None:
        """Tell KEDA to look after the session, which it then does at once."""

    async def delete_volume(self, uuid: SessionId) -> None: ...

    async def check(self) -> None:
        """Prove that the API server answers and lets us see the users' namespace."""

    async def check_keda(self) -> None:
        """Prove that KEDA works (see the adapter for how). Raises KedaUnavailable."""


class WorkloadCache(Protocol):
    """What a watch over the users' namespace has brought so far: answers at once and asks nobody."""

    def workload(self, uuid: SessionId) -> Workload:
        """The session's workload; an empty one when nothing of it exists."""

    def uuids(self) -> Iterable[SessionId]:
        """Every session of which anything exists."""

    def behind(self) -> timedelta | None:
        """How old the cache may be; None while the watch keeps up."""

    def subscribe(self, listener: Callable[[SessionId], None]) -> Callable[[], None]:
        """Call `listener` after every change of a workload, until the returned function is called."""


class PodEvents(Protocol):
    """Kubernetes' own events about the sessions' pods."""

    def updates(self) -> AsyncIterator[tuple[SessionId, str, ProgressUpdate]]:
        """(session, uid of the pod, update) as they happen: pulled images and warnings. Raises ClusterUnavailable."""


class Election(Protocol):
    """Who of the replicas leads, decided in the cluster."""

    lease_duration: timedelta
    """How long a leader that is not heard of any more may still believe that it leads."""

    async def acquire_or_renew(self) -> bool:
        """Take or renew the lease; whether it is this replica's. To be repeated several times a term."""

    async def release(self) -> None:
        """Give the lease back, so that another may lead at once."""
