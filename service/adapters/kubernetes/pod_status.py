"""Why a pod does not get ready, in the words of Kubernetes and KEDA; None when nothing speaks against it yet."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from service.adapters.kubernetes.fields import Json, as_dict, as_dicts, moment

_RETRIED = frozenset(
    {
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImagePull",
        "ImageInspectError",
        "ImagePullBackOff",
        "PostStartHookError",
        "PreCreateHookError",
        "PreStartHookError",
        "RegistryUnavailable",
        "RunContainerError",
        "SignatureValidationFailed",
    }
)
"""Reasons for waiting that the kubelet retries, with a back-off of minutes at most."""
_FINAL = frozenset({"ErrImageNeverPull", "InvalidImageName"})
"""Reasons for waiting that do not pass until somebody changes the session's image or puts it on the node."""
REPLACED = timedelta(seconds=3)
"""A pod that has failed counts as final after this: its ReplicaSet mostly has another one long before."""


@dataclass(frozen=True, slots=True)
class PodFailure:
    """What stands against the pod. `since` is when it began, where that matters."""

    words: str
    final: bool = False
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Delay:
    """What holds the pod up and passes by waiting, in general."""

    words: str
    since: datetime | None
    early: bool = True
    """Worth to be told at once; otherwise every pod goes through it."""

    def overdue(self, now: datetime, patience: timedelta) -> bool:
        """Whether it lasts longer than that."""
        return self.since is not None and now - self.since > patience


def pod_failure(pod: Json) -> PodFailure | None:
    """The pod's own end, or the first container that cannot start."""
    status = as_dict(pod.get("status"))
    if status.get("phase") == "Failed":
        # Evicted, or refused by the node (OutOfcpu, NodeAffinity, UnexpectedAdmissionError, ...): it never comes back.
        return PodFailure(_sentence(status), final=True, since=_latest(pod))
    for container in _containers(status):
        waiting = as_dict(as_dict(container.get("state")).get("waiting"))
        reason = waiting.get("reason")
        if reason in _FINAL:
            return PodFailure(_sentence(waiting), final=True)
        if reason in _RETRIED:
            return PodFailure(_sentence(waiting) + _last_end(container))
    return None


def pod_delay(pod: Json) -> Delay | None:
    """Why no node takes the pod (somebody may leave, or a node be added), or that the node is still preparing it."""
    status = as_dict(pod.get("status"))
    conditions = {condition.get("type"): condition for condition in as_dicts(status.get("conditions"))}
    scheduled = conditions.get("PodScheduled", {})
    since = moment(scheduled.get("lastTransitionTime"))
    if scheduled.get("status") == "False":
        return Delay(_sentence(scheduled), since)
    for container in _containers(status):
        waiting = as_dict(as_dict(container.get("state")).get("waiting"))
        if waiting.get("reason") in ("ContainerCreating", "PodInitializing") and _prepares(status):
            words = f"{_sentence(waiting)}: the node prepares volumes, network and image"
            return Delay(words, since, early=False)
    return None


def _prepares(status: Json) -> bool:
    """Whether no container has run yet: afterwards, a long wait for the next one is the image's own affair."""
    states = [as_dict(container.get("state")) for container in _containers(status)]
    return not any(state.get("running") or state.get("terminated") for state in states)


def deployment_failure(status: Json) -> str | None:
    """Pods that cannot even be created, for instance for lack of quota."""
    for condition in as_dicts(status.get("conditions")):
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return _sentence(condition)
    return None


def scaler_blocker(scaled: Json) -> str | None:
    """KEDA cannot work with the ScaledObject, for instance since Redis refuses the password.

    It says so for a moment too, when it and the service write at the same time; and a pod that is there needs no KEDA.
    """
    for condition in as_dicts(as_dict(scaled.get("status")).get("conditions")):
        if condition.get("type") == "Ready" and condition.get("status") == "False":
            return _sentence(condition)
    return None


def _containers(status: Json) -> list[Json]:
    return as_dicts(status.get("initContainerStatuses")) + as_dicts(status.get("containerStatuses"))


def _last_end(container: Json) -> str:
    """How the container ended the last time, for who reads only that it crashes."""
    end = as_dict(as_dict(container.get("lastState")).get("terminated"))
    if not end:
        return ""
    return f" (it ended before: {end.get('reason') or 'Unknown'}, exit code {end.get('exitCode')})"


def _latest(pod: Json) -> datetime | None:
    """When the pod failed, as closely as it tells."""
    status, metadata = as_dict(pod.get("status")), as_dict(pod.get("metadata"))
    stamps = [condition.get("lastTransitionTime") for condition in as_dicts(status.get("conditions"))]
    times = map(moment, [*stamps, status.get("startTime"), metadata.get("creationTimestamp")])
    return max(filter(None, times), default=None)


def _sentence(source: Json) -> str:
    reason, message = source.get("reason") or "Unknown", str(source.get("message") or "")
    return f"{reason}: {message[:500]}" if message else str(reason)
