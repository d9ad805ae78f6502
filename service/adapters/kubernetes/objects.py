"""Kubernetes' objects of one session, cut down to what is looked at, and put together to a Workload.

A cut object takes a fiftieth of its JSON's memory, so a cache of ten thousand sessions fits into a small process.
"""

import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from service.adapters.kubernetes.fields import (
    Json,
    Unreadable,
    annotations,
    as_dict,
    as_dicts,
    count,
    going,
    labels,
    moment,
    name_of,
    needed_text,
    seconds,
    text,
)
from service.adapters.kubernetes.pod_status import (
    REPLACED,
    Delay,
    PodFailure,
    deployment_failure,
    pod_delay,
    pod_failure,
    scaler_blocker,
)
from service.domain.errors import SessionNotFound
from service.domain.names import (
    CONTAINER,
    FIELD_MANAGER,
    LEASE_ANNOTATION,
    PARKED_ANNOTATION,
    USER_ANNOTATION,
    UUID_LABEL,
    SessionId,
    parse_session_id,
    release_name,
    scaler_name,
)
from service.domain.session import IdleTimes, Pod, Release, ReleaseState, ScaledBy, Workload

log = logging.getLogger(__name__)

PAUSED = "autoscaling.keda.sh/paused"
PAUSED_REPLICAS = "autoscaling.keda.sh/paused-replicas"
"""The service never writes this one: whoever did wants KEDA to hold the pod at that number."""
_SERVICE = (FIELD_MANAGER, "OpenAPI-Generator")
"""What the API server calls the service; the latter, the default of its client, is what it called former versions."""
_LONGEST = 10 * 365 * 86_400.0
"""Seconds: no time of falling asleep is longer."""


class Kind(StrEnum):
    """The kinds of objects that make up a session; the values are their plurals in the API."""

    DEPLOYMENT = "deployments"
    SCALER = "scaledobjects"
    CLAIM = "persistentvolumeclaims"
    REVISION = "secrets"
    POD = "pods"


@dataclass(frozen=True, slots=True)
class Deployment:
    user_id: str | None
    going: bool
    created_at: datetime | None
    replicas: int
    ready: int
    chart: str | None
    failure: str | None
    scaled_by: str | None
    """The field manager that has set the replicas last."""
    scaled_at: str
    """When, by the API server's clock; empty when it does not tell."""


@dataclass(frozen=True, slots=True)
class Scaler:
    going: bool
    parked: bool
    last_active: datetime | None
    idle_times: IdleTimes
    pauses: tuple[str, ...]
    """The annotations by which an operator has KEDA leave the number of pods as it is."""
    blocker: str | None
    odd: str | None
    """Times that are none, for which the usual ones are taken."""
    keda: str | None
    """The field manager that writes its status: KEDA, whatever it calls itself there."""


@dataclass(frozen=True, slots=True)
class Claim:
    user_id: str | None
    going: bool


@dataclass(frozen=True, slots=True)
class PodPart:
    created: str
    going: bool
    failed: bool
    """It has ended for good; its ReplicaSet makes another one."""
    pod: Pod
    failure: PodFailure | None
    delay: Delay | None


@dataclass(frozen=True, slots=True)
class Fault:
    """In the place of a part that cannot be read: why."""

    words: str


Part = Deployment | Scaler | Claim | Release | PodPart


_SINGLE = {Kind.DEPLOYMENT: "deployment", Kind.SCALER: "scaler", Kind.CLAIM: "claim"}
"""The kinds of which a session has one at most, and where `Objects` has it."""


@dataclass(slots=True)
class Objects:
    """What there is of one session, by kind and name."""

    deployment: Deployment | None = None
    scaler: Scaler | None = None
    claim: Claim | None = None
    revisions: dict[str, Release] = field(default_factory=dict)
    pods: dict[str, PodPart] = field(default_factory=dict)
    faults: dict[tuple[Kind, str], str] = field(default_factory=dict)
    """What cannot be read, and why; what was last read of it stays."""

    def put(self, kind: Kind, name: str, part: Part | Fault | None) -> bool:
        """Enter the part, or remove what was there when there is none; whether that changes anything."""
        if isinstance(part, Fault):
            changed = self.faults.get((kind, name)) != part.words
            self.faults[kind, name] = part.words
            return changed
        healed = self.faults.pop((kind, name), None) is not None
        return self._put(kind, name, part) or healed

    def _put(self, kind: Kind, name: str, part: Part | None) -> bool:
        if kind in _SINGLE:
            changed = bool(getattr(self, _SINGLE[kind]) != part)
            setattr(self, _SINGLE[kind], part)
            return changed
        parts: dict[str, Any] = self.pods if kind is Kind.POD else self.revisions
        changed = parts.get(name) != part
        if part is None:
            parts.pop(name, None)
        else:
            parts[name] = part
        return changed

    def __bool__(self) -> bool:
        return bool(self.deployment or self.scaler or self.claim or self.revisions or self.pods or self.faults)

    @property
    def age(self) -> bool:
        """Whether time alone changes what they say together."""
        return any(part.delay or part.failed for part in self.pods.values())

    def _fault(self, *kinds: Kind) -> str | None:
        """Why an object of these kinds cannot be read."""
        return next((words for (kind, _), words in self.faults.items() if kind in kinds), None)

    def workload(self, uuid: SessionId, *, patience: timedelta) -> Workload:
        """Put together; a pod that waits for longer than `patience` is warned of."""
        deployment, scaler, claim = self.deployment, self.scaler, self.claim
        release = max(self.revisions.values(), key=lambda revision: revision.revision, default=None)
        if release is not None and release.state is ReleaseState.UNINSTALLED:
            release = None  # with `--keep-history`
        newest, now = self._newest(), datetime.now(UTC)
        failure, final = self._failure(newest, now)
        delay = newest.delay if newest else None
        fault = self._fault(Kind.DEPLOYMENT, Kind.SCALER)
        owners = (part.user_id for part in (deployment, claim) if part)
        return Workload(
            uuid,
            user_id=next(filter(None, owners), None),
            release=release,
            deployed=deployment is not None or self._fault(Kind.DEPLOYMENT) is not None,
            scaled=scaler is not None or self._fault(Kind.SCALER) is not None,
            parked=scaler is not None and scaler.parked,
            last_active=scaler.last_active if scaler else None,
            idle_times=scaler.idle_times if scaler else None,
            deleting=any(part.going for part in (deployment, scaler) if part),
            # One that is being deleted stays until the last pod lets go of it; nobody can have it any more.
            volume=(claim is not None and not claim.going) or self._fault(Kind.CLAIM) is not None,
            created_at=deployment.created_at if deployment else None,
            replicas=deployment.replicas if deployment else 0,
            scaled_by=_scaled_by(deployment, scaler),
            ready=deployment.ready if deployment else 0,
            pod=newest.pod if newest else None,
            chart=deployment.chart if deployment else None,
            read_error=fault,
            failure=fault or failure,
            final=fault is not None or final,
            paused=_pause(uuid, scaler),
            blocker=(delay.words if delay and delay.early else None) or (scaler.blocker if scaler else None),
            warning=_warning(delay, patience, now) or (scaler.odd if scaler else None) or self._fault(Kind.CLAIM),
        )

    def _newest(self) -> PodPart | None:
        """The session's pod. One that has ended for good counts only until there is another one."""
        since = self.deployment.scaled_at if self.deployment else ""
        # Those that failed in a life before stay until somebody removes them: their ReplicaSet does not.
        standing = [
            part for part in self.pods.values() if not part.going and not (part.failed and part.created < since)
        ]
        return max(standing, key=lambda part: (not part.failed, part.created), default=None)

    def _failure(self, newest: PodPart | None, now: datetime) -> tuple[str | None, bool]:
        """Why there is no pod that gets ready, and whether that is for good."""
        odd = self._fault(Kind.POD)
        if newest is None or newest.failure is None:
            return odd or (self.deployment.failure if self.deployment else None), False
        failure = newest.failure
        replaced = newest.failed and failure.since is not None and now - failure.since < REPLACED
        return failure.words, failure.final and not replaced


def _pause(uuid: SessionId, scaler: Scaler | None) -> str | None:
    if scaler is None or not scaler.pauses:
        return None
    removed = " ".join(f"{name}-" for name in scaler.pauses)
    return (
        f"an operator has paused the session, so it is neither woken nor sent to sleep; wakes are held until"
        f" `kubectl annotate scaledobject {scaler_name(uuid)} {removed}` ends the pause"
    )


def _warning(delay: Delay | None, patience: timedelta, now: datetime) -> str | None:
    if delay is None or not delay.overdue(now, patience):
        return None
    return (
        f"the pod has been waiting for more than {patience.total_seconds():g} s: {delay.words}. It is still waited for;"
        " `kubectl describe pod` tells more, and a node or a repair lets it go on"
    )


def place(kind: Kind, item: Json) -> SessionId | None:
    """The session that the object belongs to, None for somebody else's: a label can be put on anything, and a name may
    merely begin like one of ours."""
    found, name = labels(item), name_of(item)
    claimed = found.get("name", "").removeprefix("user-") if kind is Kind.REVISION else found.get(UUID_LABEL, "")
    try:
        uuid = parse_session_id(claimed)
    except SessionNotFound:
        return None
    return uuid if _OURS[kind](item, name, uuid) else None


def _is_revision(_item: Json, name: str, uuid: SessionId) -> bool:
    prefix, dot, number = name.rpartition(".v")
    return bool(dot) and prefix == f"sh.helm.release.v1.{release_name(uuid)}" and number.isascii() and number.isdigit()


def _is_pod(item: Json, _name: str, uuid: SessionId) -> bool:
    """Whether the session's own Deployment has made it: a bare pod, or one of a copy, may bear the same labels."""
    replica_set = f"{release_name(uuid)}-{labels(item).get('pod-template-hash')}"
    owners = as_dicts(as_dict(item.get("metadata")).get("ownerReferences"))
    return any(owner.get("kind") == "ReplicaSet" and owner.get("name") == replica_set for owner in owners)


_OURS: Mapping[Kind, Callable[[Json, str, SessionId], bool]] = {
    Kind.DEPLOYMENT: lambda _, name, uuid: name == release_name(uuid),
    Kind.SCALER: lambda _, name, uuid: name == scaler_name(uuid),
    Kind.CLAIM: lambda _, name, uuid: name == release_name(uuid),
    Kind.REVISION: _is_revision,
    Kind.POD: _is_pod,
}


def cut(kind: Kind, item: Json) -> Part | Fault | None:
    """What is looked at of the object; None for a Secret that only looks like a revision."""
    try:
        return _CUTS[kind](item)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is about this one object
        name = name_of(item)
        why = str(error) if isinstance(error, Unreadable) else repr(error)
        log.warning("an object cannot be read", extra={"kind": kind.value, "object": name, "why": why[:200]})
        return Fault(
            f"the object {name} ({kind.value}) cannot be read: {why[:200]}. The session is left as it is until the"
            " object is repaired or removed"
        )


def _deployment(item: Json) -> Deployment:
    metadata, spec, status = as_dict(item.get("metadata")), as_dict(item.get("spec")), as_dict(item.get("status"))
    writer, written = _writer(item, "f:spec", "f:replicas")
    return Deployment(
        user_id=annotations(item).get(USER_ANNOTATION),
        going=going(item),
        created_at=moment(metadata.get("creationTimestamp")),
        replicas=count(spec.get("replicas"), "spec.replicas"),
        ready=count(status.get("readyReplicas") or 0, "status.readyReplicas"),
        chart=labels(item).get("helm.sh/chart"),
        failure=deployment_failure(status),
        scaled_by=writer,
        scaled_at=written,
    )


def _scaler(item: Json) -> Scaler:
    spec, status, notes = as_dict(item.get("spec")), as_dict(item.get("status")), annotations(item)
    lease, cooldown, poll = notes.get(LEASE_ANNOTATION), spec.get("cooldownPeriod"), spec.get("pollingInterval")
    idle_times = IdleTimes(
        lease=seconds(lease, least=1, most=_LONGEST) or IdleTimes().lease,
        cooldown=_or_kedas(cooldown, 300, least=0),
        poll=_or_kedas(poll, 30, least=1),
    )
    paused = _is_true(notes.get(PAUSED))
    parked = paused and _is_our_park(item, notes)
    pauses = {PAUSED: paused and not parked, PAUSED_REPLICAS: PAUSED_REPLICAS in notes}
    return Scaler(
        going=going(item),
        parked=parked,
        last_active=moment(status.get("lastActiveTime")),
        idle_times=_rhythms.setdefault(idle_times, idle_times),
        pauses=tuple(name for name, set_by_operator in pauses.items() if set_by_operator),
        blocker=scaler_blocker(item),
        odd=_odd(lease, cooldown, poll),
        keda=_writer(item, "f:status")[0],
    )


def _is_true(paused: str | None) -> bool:
    """As KEDA reads it: what is no truth value pauses as well."""
    return paused is not None and paused not in ("0", "f", "F", "false", "FALSE", "False")


def _is_our_park(item: Json, notes: Mapping[str, str]) -> bool:
    """Whether the service has set `paused`, and no operator.

    Former versions set no mark. Nor does a mark alone say so: such a version leaves it behind when it unparks, and an
    operator may be a moment ahead of a park. But a restored backup has one manager for both.
    """
    writer = _writer(item, *_ANNOTATION, f"f:{PAUSED}")[0]
    if writer in _SERVICE:
        return True
    return PARKED_ANNOTATION in notes and writer == _writer(item, *_ANNOTATION, f"f:{PARKED_ANNOTATION}")[0]


_ANNOTATION = ("f:metadata", "f:annotations")
"""Where managed fields have annotations."""


def _or_kedas(value: Any, default: float, *, least: float) -> timedelta:
    found = seconds(value, least=least, most=_LONGEST)
    return timedelta(seconds=default) if found is None else found


def _odd(lease: Any, cooldown: Any, poll: Any) -> str | None:
    given = {
        f"annotation {LEASE_ANNOTATION}": (lease, 1),
        "cooldownPeriod": (cooldown, 0),
        "pollingInterval": (poll, 1),
    }
    odd = [
        f"{name} is {value!r:.40}"
        for name, (value, least) in given.items()
        if value is not None and seconds(value, least=least, most=_LONGEST) is None
    ]
    return (
        f"the ScaledObject has odd times, so the usual ones are assumed: {', '.join(odd)}; correct them"
        if odd
        else None
    )


def _scaled_by(deployment: Deployment | None, scaler: Scaler | None) -> ScaledBy | None:
    if deployment is None or deployment.scaled_by is None:
        return None
    if deployment.scaled_by == FIELD_MANAGER:
        return ScaledBy.SERVICE
    by_keda = deployment.scaled_by.startswith("keda") or (scaler is not None and deployment.scaled_by == scaler.keda)
    return ScaledBy.KEDA if by_keda else ScaledBy.OTHER


def _writer(item: Json, *field: str) -> tuple[str | None, str]:
    """The field manager that has changed the field last, and when; None when the API server does not tell.

    A change takes the field from all managers but the one that made it; those who set the same value since share it.
    """
    written, writer = "", None
    for entry in as_dicts(as_dict(item.get("metadata")).get("managedFields")):
        part: Any = entry.get("fieldsV1")
        for name in field:
            part = part.get(name) if isinstance(part, dict) else None
        time = text(entry.get("time")) or ""
        if part is not None and time >= written:
            written, writer = time, sys.intern(text(entry.get("manager")) or "")
    return writer, written


_rhythms: dict[IdleTimes, IdleTimes] = {}
"""The few different ones, shared by all sessions."""


def _claim(item: Json) -> Claim:
    return Claim(annotations(item).get(USER_ANNOTATION), going(item))


def _revision(item: Json) -> Release | None:
    found = labels(item)
    try:
        revision, state = int(found["version"]), ReleaseState(found["status"])
        stamp = found.get("modifiedAt") or found.get("createdAt")
        created = moment(as_dict(item.get("metadata")).get("creationTimestamp"))
        modified = datetime.fromtimestamp(int(stamp), UTC) if stamp else created
    except (KeyError, ValueError, OverflowError, OSError):
        return None
    return Release(found["name"], revision, state, modified or datetime.now(UTC))


def _pod(item: Json) -> PodPart:
    metadata, spec, status = as_dict(item.get("metadata")), as_dict(item.get("spec")), as_dict(item.get("status"))
    conditions = {condition.get("type"): condition for condition in as_dicts(status.get("conditions"))}
    containers = {container.get("name"): container for container in as_dicts(status.get("containerStatuses"))}
    return PodPart(
        created=text(metadata.get("creationTimestamp")) or "",
        going=going(item),
        failed=status.get("phase") == "Failed",
        pod=Pod(
            uid=needed_text(item, "uid"),
            address=text(status.get("podIP")),
            port=_port(spec),
            scheduled=bool(spec.get("nodeName")),
            started="running" in as_dict(containers.get(CONTAINER, {}).get("state")),
            ready=conditions.get("Ready", {}).get("status") == "True",
        ),
        failure=pod_failure(item),
        delay=pod_delay(item),
    )


def _port(spec: Json) -> int | None:
    """The first port of the workspace's container."""
    workspace: Json = next((each for each in as_dicts(spec.get("containers")) if each.get("name") == CONTAINER), {})
    ports = [port.get("containerPort") for port in as_dicts(workspace.get("ports"))]
    return next((port for port in ports if isinstance(port, int) and 0 < port < 65536), None)


_CUTS: Mapping[Kind, Callable[[Json], Part | None]] = {
    Kind.DEPLOYMENT: _deployment,
    Kind.SCALER: _scaler,
    Kind.CLAIM: _claim,
    Kind.REVISION: _revision,
    Kind.POD: _pod,
}
