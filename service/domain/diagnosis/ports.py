"""What a diagnosis needs from the outside, beyond the ports of the use cases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Protocol

from service.domain.diagnosis.finding import Diagnosis
from service.domain.names import SessionId


@dataclass(frozen=True, slots=True)
class Edit:
    """Fields of an object that somebody else than its makers has set."""

    manager: str
    """The field manager, for example `kubectl-edit`."""
    fields: tuple[str, ...]
    at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectFacts:
    """An object in the users' namespace that belongs to a session, or has the label of one."""

    kind: str
    """As kubectl takes it, for example `deployment`."""
    name: str
    uuid: SessionId | None
    """None for an object that has a session's label without being one of its objects."""
    deleting_since: datetime | None = None
    finalizers: tuple[str, ...] = ()
    edits: tuple[Edit, ...] = ()
    revision: int | None = None
    """Of the Secret of a release."""
    state: str | None = None
    """Helm's own word for the revision."""
    modified_at: datetime | None = None
    unbound: bool = False
    """A claim that waits for a volume."""
    storage_class: str | None = None
    kept: bool = False
    """An uninstall of its release leaves the object."""
    not_ready: str | None = None
    """Why KEDA cannot work with a ScaledObject."""

    @property
    def label(self) -> str:
        return f"{self.kind}/{self.name}"


class Inventory(Protocol):
    """The objects of the users' namespace."""

    async def objects(self) -> Sequence[ObjectFacts]:
        """Every object, from the API server."""

    async def revisions(self, uuid: SessionId) -> Sequence[ObjectFacts]:
        """The revisions of one release, from the API server."""

    async def delete_revision(self, uuid: SessionId, revision: int) -> None:
        """Delete one revision of a release. Does nothing when it does not exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisConfiguration:
    """Settings of the Redis server; None where the service may not read them."""

    notifications: str | None = None
    """The flags of `notify-keyspace-events`."""
    policy: str | None = None
    """`maxmemory-policy`."""
    memory_limit: int | None = None
    """`maxmemory` in bytes; 0: none."""
    persistent: bool | None = None


@dataclass(slots=True)
class KeyFacts:
    """Which keys Redis has of one id."""

    lasting: set[str] = field(default_factory=set)
    """Keys beside the record that never expire."""
    lengths: dict[str, int] = field(default_factory=dict)
    """Lists that are longer than their limit, and how long they are."""


class RedisInspection(Protocol):
    """The Redis server itself, and its keys."""

    async def configuration(self) -> RedisConfiguration: ...

    async def refused(self) -> Sequence[str]:
        """What the service needs to do and Redis refuses to its user, in a few words each."""

    async def clock(self) -> datetime:
        """Redis' own time."""

    async def keys(self) -> Mapping[SessionId, KeyFacts]:
        """Keys of sessions that never expire or are too long; without ids of which there is nothing to say."""

    async def drop_orphans(self, uuid: SessionId) -> bool:
        """Delete the keys of an id that has neither a record nor a claim, if the index is complete.

        Returns whether it did so.
        """

    async def trim(self, uuid: SessionId) -> None:
        """Cut the session's lists to their limits, as the next write to them would."""

    async def enable_notifications(self) -> None:
        """Switch on the keyspace notifications that the service needs, beside those that are on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptDiagnoses:
    """What is known of the diagnoses of all replicas."""

    last: Diagnosis | None = None
    looking_since: datetime | None = None
    """When a replica last began to look, if it has not said that it is done. It may have died meanwhile."""


class Diagnoses(Protocol):
    """The last diagnosis of any replica, for a week. What cannot be read counts as none."""

    async def read(self) -> KeptDiagnoses: ...

    async def begin(self, at: datetime) -> None:
        """Note that a replica looks, since then."""

    async def keep(self, diagnosis: Diagnosis) -> None:
        """Replace the last one, and the note that a replica looks."""


class Reply(Enum):
    """What becomes of a TCP connection to a port of a pod."""

    ACCEPTED = "accepted"
    RESET = "reset"
    """The pod itself refuses it: nothing listens there."""
    REJECTED = "rejected"
    """Something on the way refuses it, by ICMP."""
    REFUSED = "refused"
    """One of these two; the system does not say which."""
    NONE = "none"
    """No answer within two seconds."""
    UNREACHABLE = "unreachable"
    """The connection does not leave this system."""


class PortProbe(Protocol):
    """What the cluster's network lets through, from this process."""

    async def reply(self, address: str, port: int) -> Reply:
        """Try one connection, send nothing, and close it."""
