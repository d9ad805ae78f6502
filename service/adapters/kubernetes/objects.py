"""The Kubernetes objects of one session: parsed down to the fields that matter, and combined into a Workload.

A parsed object takes a fiftieth of its JSON's memory, so a cache of ten thousand sessions fits into a small process.
"""

import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from service.adapters.kubernetes import pod_spec
from service.adapters.kubernetes.fields import (
    Json,
    Unreadable,
    annotations,
    as_dict,
    as_dicts,
    condition,
    count,
    is_terminating,
    labels,
    moment,
    name_of,
    seconds,
    text,
)
from service.adapters.kubernetes.idle_times_text import LEAST, LONGEST, from_text
from service.adapters.kubernetes.pod_status import (
    REPLACEMENT_TIME,
    PodDelay,
    PodFailure,
    deployment_failure,
    pod_delay,
    pod_failure,
    scaler_blocker,
)
from service.domain.errors import SessionNotFound
from service.domain.idle_times import IdleTimes
from service.domain.names import (
    BACKGROUND_ANNOTATION,
    CONTAINER,
    FIELD_MANAGER,
    GROUP_LABEL,
    IDLE_TIMES_ANNOTATION,
    LEASE_ANNOTATION,
    PARKED_ANNOTATION,
    PROFILE_LABEL,
    REVISION_ANNOTATION,
    REVOKED_ANNOTATION,
    USER_ANNOTATION,
    UUID_LABEL,
    SessionId,
    parse_session_id,
    release_name,
    scaler_name,
)
from service.domain.placement import ANYWHERE, Placement
from service.domain.release import Release, ReleaseState
from service.domain.workload import UNASSIGNED, Assignment, Pod, Requests, ScaledBy, Workload

log = logging.getLogger(__name__)

PAUSED = "autoscaling.keda.sh/paused"
PAUSED_REPLICAS = "autoscaling.keda.sh/paused-replicas"
"""The service never writes this one: an operator wants KEDA to keep the pod at that number."""
SERVICE_MANAGERS = (FIELD_MANAGER, "OpenAPI-Generator")
"""Field managers of the service. The second, its client's default, was that of former versions."""
_DEFAULT_TIMES = IdleTimes(cooldown=timedelta(seconds=300), poll=timedelta(seconds=30))
"""The service's own lease, and KEDA's own defaults."""
_TIMES = {
    "lease": f"annotation {LEASE_ANNOTATION}",
    "cooldown": "cooldownPeriod",
    "poll": "pollingInterval",
    "background": f"annotation {BACKGROUND_ANNOTATION}",
}
"""Where each of the idle times is written."""


class Kind(StrEnum):
    """The kinds of objects that make up a session; the values are their plural names in the API."""

    DEPLOYMENT = "deployments"
    SCALER = "scaledobjects"
    CLAIM = "persistentvolumeclaims"
    REVISION = "secrets"
    POD = "pods"


@dataclass(frozen=True, slots=True)
class Deployment:
    user_id: str | None
    assignment: Assignment
    terminating: bool
    created_at: datetime | None
    revoked_at: datetime | None
    replicas: int
    ready: int
    chart: str | None
    revision: str | None
    failure: str | None
    scaled_by: str | None
    """The field manager that last set the replicas."""
    scaled_at: str
    """When it did, by the API server's clock; empty when unknown."""
    requests: Requests | None
    placement: Placement


@dataclass(frozen=True, slots=True)
class Scaler:
    terminating: bool
    parked: bool
    last_active: datetime | None
    idle_times: IdleTimes
    pauses: tuple[str, ...]
    """The annotations by which an operator has paused KEDA for this session."""
    blocker: str | None
    invalid_times: str | None
    """A warning about idle times that are not durations, and are replaced by defaults."""
    keda_manager: str | None
    """The field manager that writes the status: KEDA, whose name differs between builds."""


@dataclass(frozen=True, slots=True)
class Claim:
    user_id: str | None
    assignment: Assignment
    terminating: bool


@dataclass(frozen=True, slots=True)
class PodPart:
    created: str
    terminating: bool
    failed: bool
    """It will never run again; its ReplicaSet replaces it."""
    pod: Pod
    failure: PodFailure | None
    delay: PodDelay | None
    host_network: bool
    """It has the address of its node."""
    requests: Requests | None
    """A LimitRange may have set what the Deployment does not name."""


@dataclass(frozen=True, slots=True)
class UnreadableObject:
    """Stands for an object that cannot be read."""

    read_error: str


Part = Deployment | Scaler | Claim | Release | PodPart


_SINGLE = {Kind.DEPLOYMENT: "deployment", Kind.SCALER: "scaler", Kind.CLAIM: "claim"}
"""The kinds of which a session has at most one, and the field of `Objects` that holds it."""


@dataclass(slots=True)
class Objects:
    """The objects of one session, by kind and name."""

    deployment: Deployment | None = None
    scaler: Scaler | None = None
    claim: Claim | None = None
    revisions: dict[str, Release] = field(default_factory=dict)
    pods: dict[str, PodPart] = field(default_factory=dict)
    read_errors: dict[tuple[Kind, str], str] = field(default_factory=dict)
    """Why objects cannot be read. The last readable version of such an object stays."""

    def put(self, kind: Kind, name: str, part: Part | UnreadableObject | None) -> bool:
        """Store the part, or remove the stored one when it is None. Returns whether anything has changed."""
        if isinstance(part, UnreadableObject):
            changed = self.read_errors.get((kind, name)) != part.read_error
            self.read_errors[kind, name] = part.read_error
            return changed
        readable_again = self.read_errors.pop((kind, name), None) is not None
        parts: dict[str, Any] = self.pods if kind is Kind.POD else self.revisions
        if kind in _SINGLE:
            before = getattr(self, _SINGLE[kind])
            setattr(self, _SINGLE[kind], part)
        elif part is None:
            before = parts.pop(name, None)
        else:
            before, parts[name] = parts.get(name), part
        return readable_again or before != part

    def __bool__(self) -> bool:
        return bool(self.deployment or self.scaler or self.claim or self.revisions or self.pods or self.read_errors)

    @property
    def is_time_dependent(self) -> bool:
        """Whether the workload changes by the passing of time alone."""
        return any(part.delay or part.failed for part in self.pods.values())

    def _read_error(self, *kinds: Kind) -> str | None:
        """Why an object of one of these kinds cannot be read."""
        return next((error for (kind, _), error in self.read_errors.items() if kind in kinds), None)

    def workload(self, uuid: SessionId, *, namespace: str, schedule_timeout: timedelta) -> Workload:
        """Combine the objects. A pod that has been waiting longer than `schedule_timeout` gets a warning.

        `namespace` is the users': messages name commands with it.
        """
        deployment, scaler, claim = self.deployment, self.scaler, self.claim
        release = max(self.revisions.values(), key=lambda revision: revision.revision, default=None)
        if release is not None and release.state is ReleaseState.UNINSTALLED:
            release = None  # with `--keep-history`
        newest, now = self._newest(), datetime.now(UTC)
        failure, final = self._failure(newest, now)
        delay = newest.delay if newest else None
        read_error = self._read_error(Kind.DEPLOYMENT, Kind.SCALER)
        owners = (part.user_id for part in (deployment, claim) if part)
        return Workload(
            uuid,
            user_id=next(filter(None, owners), None),
            assignment=next((part.assignment for part in (deployment, claim) if part), UNASSIGNED),
            release=release,
            installed_revision=self._installed_revision(),
            deployed=deployment is not None or self._read_error(Kind.DEPLOYMENT) is not None,
            has_scaler=scaler is not None or self._read_error(Kind.SCALER) is not None,
            parked=scaler is not None and scaler.parked,
            last_active=scaler.last_active if scaler else None,
            idle_times=scaler.idle_times if scaler else None,
            deleting=any(part.terminating for part in (deployment, scaler) if part),
            # A terminating claim stays until the last pod releases it, and no pod can use it any more.
            volume=(claim is not None and not claim.terminating) or self._read_error(Kind.CLAIM) is not None,
            created_at=deployment.created_at if deployment else None,
            revoked_at=deployment.revoked_at if deployment else None,
            sign_ins_unknown=self._read_error(Kind.DEPLOYMENT) is not None,
            replicas=deployment.replicas if deployment else 0,
            scaled_by=_scaled_by(deployment, scaler),
            ready=deployment.ready if deployment else 0,
            pod=newest.pod if newest else None,
            requests=(newest and newest.requests) or (deployment.requests if deployment else None),
            placement=deployment.placement if deployment else ANYWHERE,
            chart=deployment.chart if deployment else None,
            revision=deployment.revision if deployment else None,
            read_error=read_error,
            failure=read_error or failure,
            final=read_error is not None or final,
            paused=_pause(uuid, namespace, scaler),
            blocker=(delay.message if delay and delay.is_blocker else None) or (scaler.blocker if scaler else None),
            warning=_warning(uuid, namespace, delay, schedule_timeout, now)
            or (scaler.invalid_times if scaler else None)
            or self._read_error(Kind.CLAIM),
        )

    def _installed_revision(self) -> int | None:
        """While an upgrade runs, and after one that failed, the revision before keeps helm's status `deployed`."""
        installed = (each.revision for each in self.revisions.values() if each.state is ReleaseState.DEPLOYED)
        return max(installed, default=None)

    def _newest(self) -> PodPart | None:
        """The session's pod: the newest one that has not failed, or else the newest."""
        since = self.deployment.scaled_at if self.deployment else ""
        # Pods that failed before the last scale stay until somebody removes them: their ReplicaSet does not.
        current = [
            part for part in self.pods.values() if not part.terminating and not (part.failed and part.created < since)
        ]
        return max(current, key=lambda part: (not part.failed, part.created), default=None)

    def _failure(self, newest: PodPart | None, now: datetime) -> tuple[str | None, bool]:
        """Why no pod gets ready, and whether the failure is final."""
        if newest is None or newest.failure is None:
            return self._read_error(Kind.POD) or (self.deployment.failure if self.deployment else None), False
        failure = newest.failure
        may_be_replaced = newest.failed and failure.since is not None and now - failure.since < REPLACEMENT_TIME
        return failure.message, failure.final and not may_be_replaced


def _pause(uuid: SessionId, namespace: str, scaler: Scaler | None) -> str | None:
    if scaler is None or not scaler.pauses:
        return None
    removed = " ".join(f"{name}-" for name in scaler.pauses)
    return (
        f"an operator has paused the session, so it is neither woken nor sent to sleep; wakes are held until"
        f" `kubectl -n {namespace} annotate scaledobject {scaler_name(uuid)} {removed}` ends the pause"
    )


def _warning(
    uuid: SessionId, namespace: str, delay: PodDelay | None, schedule_timeout: timedelta, now: datetime
) -> str | None:
    if delay is None or not delay.overdue(now, schedule_timeout):
        return None
    return (
        f"the pod has been waiting for more than {schedule_timeout.total_seconds():g} s: {delay.message}. The wake goes"
        f" on; `kubectl -n {namespace} describe pods -l {UUID_LABEL}={uuid}` shows more, and a new node or a repair"
        " lets the pod start"
    )


def session_id_of(kind: Kind, item: Json) -> SessionId | None:
    """The session that the object belongs to; None when it belongs to none.

    The label alone does not prove it, since anybody can set it on anything. Nor does the beginning of the name.
    """
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
    """Whether the session's own Deployment owns the pod: a bare pod, or that of a copy, may have the same labels."""
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


def parse(kind: Kind, item: Json) -> Part | UnreadableObject | None:
    """The parsed object; None for a Secret that only looks like a revision."""
    try:
        return _PARSERS[kind](item)
    except Exception as error:  # noqa: BLE001 - any error concerns this object alone
        name = name_of(item)
        why = str(error) if isinstance(error, Unreadable) else repr(error)
        log.warning("an object cannot be read", extra={"kind": kind.value, "object": name, "why": why[:200]})
        return UnreadableObject(
            f"the object {name} ({kind.value}) cannot be read: {why[:200]}. The service leaves the session alone until"
            " the object is repaired or removed"
        )


def own_address(part: Part | UnreadableObject | None) -> str | None:
    """The address that a pod has for itself; None for anything else. A failed pod has lost its own."""
    if not isinstance(part, PodPart) or part.failed or part.host_network:
        return None
    return part.pod.address


def _deployment(item: Json) -> Deployment:
    metadata, spec, status = as_dict(item.get("metadata")), as_dict(item.get("spec")), as_dict(item.get("status"))
    writer, written = _last_writer(item, "f:spec", "f:replicas")
    pod = as_dict(as_dict(spec.get("template")).get("spec"))
    return Deployment(
        user_id=annotations(item).get(USER_ANNOTATION),
        assignment=_assignment(item),
        terminating=is_terminating(item),
        created_at=moment(metadata.get("creationTimestamp")),
        revoked_at=_revoked_at(item),
        replicas=count(spec.get("replicas"), "spec.replicas"),
        ready=count(status.get("readyReplicas") or 0, "status.readyReplicas"),
        chart=labels(item).get("helm.sh/chart"),
        revision=_shared(annotations(item).get(REVISION_ANNOTATION)),
        failure=deployment_failure(item),
        scaled_by=writer,
        scaled_at=written,
        requests=pod_spec.requests(pod),
        placement=pod_spec.placement(pod),
    )


def _assignment(item: Json) -> Assignment:
    idle_times = from_text(annotations(item).get(IDLE_TIMES_ANNOTATION))
    chosen = labels(item)
    found = Assignment(
        profile=chosen.get(PROFILE_LABEL) or None, group=chosen.get(GROUP_LABEL) or None, idle_times=idle_times
    )
    return _shared_assignments.setdefault(found, found)


def _shared(text: str | None) -> str | None:
    """The same object for all sessions, to save memory."""
    return None if text is None else sys.intern(text)


def _revoked_at(item: Json) -> datetime | None:
    """Raises Unreadable for what is no time: whoever was to be kept out would get in again."""
    given = annotations(item).get(REVOKED_ANNOTATION)
    found = moment(given)
    if given is not None and found is None:
        raise Unreadable(
            f"annotation {REVOKED_ANNOTATION} is {given!r:.40}, which is not a time. Nobody can open the workspace"
            " until a revocation, or `kubectl annotate --overwrite`, sets one"
        )
    return found


def _scaler(item: Json) -> Scaler:
    spec, status, notes = as_dict(item.get("spec")), as_dict(item.get("status")), annotations(item)
    idle_times, invalid_times = _idle_times(notes, spec)
    paused = _is_true(notes.get(PAUSED))
    parked = paused and _is_our_park(item, notes)
    pauses = {PAUSED: paused and not parked, PAUSED_REPLICAS: PAUSED_REPLICAS in notes}
    return Scaler(
        terminating=is_terminating(item),
        parked=parked,
        last_active=moment(status.get("lastActiveTime")),
        idle_times=idle_times,
        pauses=tuple(name for name, set_by_operator in pauses.items() if set_by_operator),
        blocker=scaler_blocker(item),
        invalid_times=invalid_times,
        keda_manager=_last_writer(item, "f:status")[0],
    )


def _idle_times(notes: Mapping[str, str], spec: Json) -> tuple[IdleTimes, str | None]:
    """The idle times, and a warning about those that are not durations."""
    times, invalid = {}, []
    given = {
        "lease": notes.get(LEASE_ANNOTATION),
        "cooldown": spec.get("cooldownPeriod"),
        "poll": spec.get("pollingInterval"),
        "background": notes.get(BACKGROUND_ANNOTATION),
    }
    for name, value in given.items():
        time = seconds(value, least=LEAST[name], most=LONGEST)
        if time is not None:
            times[name] = time
        elif value is not None:
            invalid.append(f"{_TIMES[name]} is {value!r:.40}")
    found = replace(_DEFAULT_TIMES, **times)
    warning = f"the ScaledObject has invalid times, so the defaults apply: {', '.join(invalid)}; correct them"
    return _shared_idle_times.setdefault(found, found), warning if invalid else None


def _is_true(paused: str | None) -> bool:
    """Whether KEDA takes the annotation as true, which it does for any value that is not false."""
    return paused is not None and paused not in ("0", "f", "F", "false", "FALSE", "False")


def _is_our_park(item: Json, notes: Mapping[str, str]) -> bool:
    """Whether the service has set `paused`, rather than an operator.

    The service's own annotation beside it proves nothing alone. Former versions did not write it, and leave it behind
    when they unpark; and an operator may pause a moment before the service parks. But after the restore of a backup one
    manager owns both annotations.
    """
    writer = _last_writer(item, *_ANNOTATION, f"f:{PAUSED}")[0]
    if writer in SERVICE_MANAGERS:
        return True
    return PARKED_ANNOTATION in notes and writer == _last_writer(item, *_ANNOTATION, f"f:{PARKED_ANNOTATION}")[0]


_ANNOTATION = ("f:metadata", "f:annotations")
"""The path of annotations in managedFields."""


def _scaled_by(deployment: Deployment | None, scaler: Scaler | None) -> ScaledBy | None:
    if deployment is None or deployment.scaled_by is None:
        return None
    if deployment.scaled_by == FIELD_MANAGER:
        return ScaledBy.SERVICE
    keda = scaler.keda_manager if scaler else None
    by_keda = deployment.scaled_by.startswith("keda") or deployment.scaled_by == keda
    return ScaledBy.KEDA if by_keda else ScaledBy.OTHER


def _last_writer(item: Json, *field: str) -> tuple[str | None, str]:
    """The field manager that last changed the field, and when; None when the API server does not say.

    A change takes the field from all other managers; those who later set the same value share it.
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


_shared_idle_times: dict[IdleTimes, IdleTimes] = {}
"""The few distinct values, shared by all sessions to save memory."""


_shared_assignments: dict[Assignment, Assignment] = {}
"""The same for assignments."""


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
    uid = text(metadata.get("uid"))
    if uid is None:
        raise Unreadable("metadata.uid is missing")
    states = (each.get("state") for each in as_dicts(status.get("containerStatuses")) if each.get("name") == CONTAINER)
    return PodPart(
        created=text(metadata.get("creationTimestamp")) or "",
        terminating=is_terminating(item),
        failed=status.get("phase") == "Failed",
        pod=Pod(
            uid=uid,
            address=text(status.get("podIP")),
            port=_port(spec),
            scheduled=bool(spec.get("nodeName")),
            node=_shared(text(spec.get("nodeName"))),
            started="running" in as_dict(next(states, None)),
            ready=bool(condition(item, "Ready", "True")),
            created_at=moment(metadata.get("creationTimestamp")),
        ),
        failure=pod_failure(item),
        host_network=spec.get("hostNetwork") is True,
        delay=pod_delay(item),
        requests=pod_spec.requests(spec),
    )


def _port(spec: Json) -> int | None:
    """The first port of the workspace container."""
    workspace: Json = next((each for each in as_dicts(spec.get("containers")) if each.get("name") == CONTAINER), {})
    ports = [port.get("containerPort") for port in as_dicts(workspace.get("ports"))]
    return next((port for port in ports if isinstance(port, int) and 0 < port < 65536), None)


_PARSERS: Mapping[Kind, Callable[[Json], Part | None]] = {
    Kind.DEPLOYMENT: _deployment,
    Kind.SCALER: _scaler,
    Kind.CLAIM: lambda item: Claim(annotations(item).get(USER_ANNOTATION), _assignment(item), is_terminating(item)),
    Kind.REVISION: _revision,
    Kind.POD: _pod,
}
