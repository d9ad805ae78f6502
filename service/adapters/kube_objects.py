"""Kubernetes' objects of one session, cut down to what is looked at, and put together to a Workload.

A cut object takes a fiftieth of its JSON's memory, so a view of ten thousand sessions fits into a small process.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from service.adapters.trouble import deployment_trouble, pod_hindrance, pod_trouble, scaler_hindrance
from service.domain.names import (
    CONTAINER,
    FIELD_MANAGER,
    LEASE_ANNOTATION,
    USER_ANNOTATION,
    UUID_LABEL,
    SessionId,
    parse_session_id,
)
from service.domain.session import Pod, Release, ReleaseState, Rhythm, ScaledBy, Workload

PAUSED = "autoscaling.keda.sh/paused"

Json = dict[str, Any]


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
    trouble: str | None
    scaled_by: str | None
    """The field manager that has set the replicas last."""


@dataclass(frozen=True, slots=True)
class Scaler:
    going: bool
    parked: bool
    last_active: datetime | None
    rhythm: Rhythm
    hindrance: str | None
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
    pod: Pod
    trouble: str | None
    hindrance: tuple[str, datetime | None] | None
    """What holds it up, and since when."""


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

    def put(self, kind: Kind, name: str, part: Part | None) -> bool:
        """Enter the part, or remove what was there when there is none; whether that changes anything."""
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
        return bool(self.deployment or self.scaler or self.claim or self.revisions or self.pods)

    @property
    def age(self) -> bool:
        """Whether time alone changes what they say together."""
        return any(part.hindrance for part in self.pods.values())

    def workload(self, uuid: SessionId, *, patience: timedelta) -> Workload:
        """Put together; a pod that no node takes is in trouble when that lasts longer than `patience`."""
        deployment, scaler, claim = self.deployment, self.scaler, self.claim
        release = max(self.revisions.values(), key=lambda revision: revision.revision, default=None)
        if release is not None and release.state is ReleaseState.UNINSTALLED:
            release = None  # with `--keep-history`
        pod, trouble, hindrance = self._pod(patience)
        owners = (part.user_id for part in (deployment, claim) if part)
        return Workload(
            uuid,
            user_id=next(filter(None, owners), None),
            release=release,
            deployed=deployment is not None,
            scaled=scaler is not None,
            parked=scaler is not None and scaler.parked,
            last_active=scaler.last_active if scaler else None,
            rhythm=scaler.rhythm if scaler else None,
            deleting=any(part.going for part in (deployment, scaler) if part),
            # One that is being deleted stays until the last pod lets go of it; nobody can have it any more.
            volume=claim is not None and not claim.going,
            created_at=deployment.created_at if deployment else None,
            replicas=deployment.replicas if deployment else 0,
            scaled_by=_scaled_by(deployment, scaler),
            ready=deployment.ready if deployment else 0,
            pod=pod,
            chart=deployment.chart if deployment else None,
            trouble=trouble or (deployment.trouble if deployment else None),
            final=bool(trouble),
            hindrance=hindrance or (scaler.hindrance if scaler else None),
        )

    def _pod(self, patience: timedelta) -> tuple[Pod | None, str | None, str | None]:
        standing = [part for part in self.pods.values() if not part.going]
        if not standing:
            return None, None, None
        newest = max(standing, key=lambda part: part.created)
        if newest.trouble or newest.hindrance is None:
            return newest.pod, newest.trouble, None
        words, since = newest.hindrance
        lasting = since is not None and datetime.now(UTC) - since > patience
        return newest.pod, words if lasting else None, None if lasting else words


def place(kind: Kind, item: Json) -> SessionId | None:
    """The session that the object belongs to, by its label and, since a label can be put on anything, its name."""
    metadata = item["metadata"]
    labels, name = metadata.get("labels") or {}, metadata["name"]
    uuid = labels.get("name", "").removeprefix("user-") if kind is Kind.REVISION else labels.get(UUID_LABEL, "")
    prefix = f"sh.helm.release.v1.user-{uuid}." if kind is Kind.REVISION else f"user-{uuid}"
    try:
        return parse_session_id(uuid) if name.startswith(prefix) else None
    except Exception:  # noqa: BLE001 - somebody else's object that happens to bear the label
        return None


def cut(kind: Kind, item: Json) -> Part | None:
    """What is looked at of the object; None for a Secret that only looks like a revision."""
    return _CUTS[kind](item)


def _deployment(item: Json) -> Deployment:
    metadata, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    return Deployment(
        user_id=annotations(item).get(USER_ANNOTATION),
        going=going(item),
        created_at=moment(metadata.get("creationTimestamp")),
        replicas=int(spec.get("replicas", 0)),
        ready=int(status.get("readyReplicas", 0)),
        chart=(metadata.get("labels") or {}).get("helm.sh/chart"),
        trouble=deployment_trouble(status),
        scaled_by=_writer(item, "f:spec", "f:replicas"),
    )


def _scaler(item: Json) -> Scaler:
    spec, status, notes = item["spec"], item.get("status") or {}, annotations(item)
    rhythm = Rhythm(
        lease=_seconds(notes.get(LEASE_ANNOTATION)) or Rhythm().lease,
        cooldown=timedelta(seconds=spec.get("cooldownPeriod", 300)),
        poll=timedelta(seconds=spec.get("pollingInterval", 30)),
    )
    parked = notes.get(PAUSED) == "true"
    return Scaler(
        going=going(item),
        parked=parked,
        last_active=moment(status.get("lastActiveTime")),
        rhythm=_rhythms.setdefault(rhythm, rhythm),
        hindrance=scaler_hindrance(item),
        keda=_writer(item, "f:status"),
    )


def _scaled_by(deployment: Deployment | None, scaler: Scaler | None) -> ScaledBy | None:
    if deployment is None or deployment.scaled_by is None:
        return None
    if deployment.scaled_by == FIELD_MANAGER:
        return ScaledBy.SERVICE
    by_keda = deployment.scaled_by.startswith("keda") or (scaler is not None and deployment.scaled_by == scaler.keda)
    return ScaledBy.KEDA if by_keda else ScaledBy.OTHER


def _writer(item: Json, *field: str) -> str | None:
    """The field manager that has changed the field last; None when the API server does not tell.

    A change takes the field from all managers but the one that made it; those who set the same value since share it.
    """
    written, writer = "", None
    for entry in item["metadata"].get("managedFields") or []:
        part: Any = entry.get("fieldsV1")
        for name in field:
            part = part.get(name) if isinstance(part, dict) else None
        if part is not None and (entry.get("time") or "") >= written:
            written, writer = entry.get("time") or "", sys.intern(entry.get("manager") or "")
    return writer


_rhythms: dict[Rhythm, Rhythm] = {}
"""The few different ones, shared by all sessions."""


def _claim(item: Json) -> Claim:
    return Claim(annotations(item).get(USER_ANNOTATION), going(item))


def _revision(item: Json) -> Release | None:
    labels = item["metadata"].get("labels") or {}
    try:
        revision, state = int(labels["version"]), ReleaseState(labels["status"])
        stamp = labels.get("modifiedAt") or labels.get("createdAt")
        modified = datetime.fromtimestamp(int(stamp), UTC) if stamp else moment(item["metadata"]["creationTimestamp"])
    except (KeyError, ValueError):
        return None
    return Release(labels["name"], revision, state, modified or datetime.now(UTC))


def _pod(item: Json) -> PodPart:
    metadata, status = item["metadata"], item.get("status") or {}
    conditions = {condition["type"]: condition for condition in status.get("conditions") or []}
    containers = {container["name"]: container for container in status.get("containerStatuses") or []}
    return PodPart(
        created=metadata["creationTimestamp"] or "",
        going=going(item),
        pod=Pod(
            uid=metadata["uid"],
            address=status.get("podIP"),
            port=_port(item["spec"]),
            scheduled=bool(item["spec"].get("nodeName")),
            started="running" in (containers.get(CONTAINER, {}).get("state") or {}),
            ready=conditions.get("Ready", {}).get("status") == "True",
        ),
        trouble=pod_trouble(item),
        hindrance=pod_hindrance(item),
    )


def _port(spec: Json) -> int | None:
    """The first port of the workspace's container."""
    workspace: Json = next((each for each in spec.get("containers") or [] if each["name"] == CONTAINER), {})
    return next((int(port["containerPort"]) for port in workspace.get("ports") or []), None)


_CUTS: Mapping[Kind, Callable[[Json], Part | None]] = {
    Kind.DEPLOYMENT: _deployment,
    Kind.SCALER: _scaler,
    Kind.CLAIM: _claim,
    Kind.REVISION: _revision,
    Kind.POD: _pod,
}


def _seconds(text: str | None) -> timedelta | None:
    try:
        return timedelta(seconds=float(text)) if text else None
    except (ValueError, OverflowError):
        return None  # changed by hand to something else


def going(item: Json) -> bool:
    """Whether the object is being deleted."""
    return "deletionTimestamp" in item["metadata"]


def annotations(item: Json) -> dict[str, str]:
    return item["metadata"].get("annotations") or {}


def moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
