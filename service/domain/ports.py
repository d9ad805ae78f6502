"""What the domain needs of the outside, as small Protocols; service/adapters/ implements each twice.

Once on the real part, once in memory; one suite of contract tests (tests/contracts) holds both to the same behaviour.
Every method may raise the Unavailable of its part.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from service.domain.names import SessionId
from service.domain.session import Record, Workload


class Store(Protocol):
    """Records, wake queues and claims, in Redis.

    An *owner* is the entry user_id -> id, made before anything else of a session and removed last.
    The *index* is whole when every session of the cluster is in it: before, an answer of "not there" means nothing,
    and the methods that would give it raise IndexIncomplete instead.
    """

    async def owner(self, user_id: str) -> SessionId | None:
        """The id that belongs to the user."""

    async def claim(self, user_id: str, candidate: SessionId) -> SessionId:
        """Make `candidate` the user's id, unless the user has one; return the user's id.

        Raises IdTaken when the candidate is another user's.
        """

    async def disclaim(self, user_id: str, uuid: SessionId) -> None:
        """Undo a claim that has no record yet; anything else is left alone."""

    async def claims(self) -> Sequence[tuple[SessionId, str]]:
        """Claims without a record, as (id, user_id): creates that are under way or died half-way."""

    async def save(self, record: Record) -> None:
        """Write the record (not the queue) and its owner entry, over whatever was there."""

    async def record(self, uuid: SessionId) -> Record:
        """The record with its queue length. Raises SessionNotFound."""

    async def records(self, uuids: Sequence[SessionId]) -> Sequence[Record]:
        """The records of those that have one, in the given order."""

    async def page(self, after: str, limit: int) -> Sequence[SessionId]:
        """Up to `limit` ids greater than `after` (which may be ""), ascending; some may be claims without a record."""

    async def deleting(self, uuid: SessionId, *, keep_data: bool) -> None:
        """Turn the record's status into deleting. Raises SessionNotFound."""

    async def forget(self, uuid: SessionId) -> None:
        """Remove every key of the session, its owner entry last."""

    async def wake(self, uuid: SessionId) -> int:
        """Push a token, keep the queue short, set its expiry and note the activity, as one step.

        Returns the queue's length. Raises SessionNotFound, SessionDeleting.
        """

    async def hush(self, uuid: SessionId) -> None:
        """Empty the queue."""

    async def whole(self) -> bool:
        """Whether the index is whole."""

    async def mark_whole(self) -> None: ...

    def working(self, uuid: SessionId) -> AbstractAsyncContextManager[None]:
        """Hold the session's work lease: one holder among all replicas, gone soon after its holder died.

        Raises SessionBusy on entry when somebody else holds it.
        """

    async def ping(self) -> None:
        """Prove that the store takes writes."""


class Releases(Protocol):
    """Helm."""

    async def install(self, uuid: SessionId, user_id: str) -> None:
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

    async def put_to_sleep(self, uuid: SessionId) -> None:
        """Scale to 0. Raises SessionReleased when there is nothing to scale."""

    async def delete_volume(self, uuid: SessionId) -> None: ...

    async def check(self) -> None:
        """Prove that the API server answers and lets us see the users' namespace."""

    async def check_keda(self) -> None:
        """Prove that KEDA works (see the adapter for how). Raises KedaUnavailable."""
