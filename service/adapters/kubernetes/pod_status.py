"""Why a pod is not ready, in the words of Kubernetes and KEDA; None while nothing is wrong."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from service.adapters.kubernetes.fields import Json, as_dict, as_dicts, condition, moment

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
"""Waiting reasons that the kubelet retries, with a back-off of minutes at most."""
_FINAL = frozenset({"ErrImageNeverPull", "InvalidImageName"})
"""Waiting reasons that last until somebody changes the session's image, or loads it onto the node."""
REPLACEMENT_TIME = timedelta(seconds=3)
"""A failed pod counts as a final failure only after this: usually its ReplicaSet has replaced it long before."""
_UNBOUND = "unbound immediate PersistentVolumeClaims"
"""The scheduler's words for a claim without a volume."""
_NO_VOLUME = (
    " (no volume yet; does the cluster have a default StorageClass, or the chart a `persistence.storageClassName`?)"
)


@dataclass(frozen=True, slots=True)
class PodFailure:
    """Why the pod failed or cannot start. `since` is when it failed, where that matters."""

    message: str
    final: bool = False
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class PodDelay:
    """Why the pod is late. Most delays end by themselves."""

    message: str
    since: datetime | None
    is_blocker: bool = True
    """Report it at once as a temporary blocker. False for a delay that every pod goes through."""

    def overdue(self, now: datetime, schedule_timeout: timedelta) -> bool:
        """Whether the delay has lasted longer than `schedule_timeout`."""
        return self.since is not None and now - self.since > schedule_timeout


def pod_failure(pod: Json) -> PodFailure | None:
    """The failure of the pod itself, or of the first container that cannot start."""
    status = as_dict(pod.get("status"))
    if status.get("phase") == "Failed":
        # Evicted, or rejected by the node (OutOfcpu, NodeAffinity, UnexpectedAdmissionError, ...): such a pod never
        # runs again.
        return PodFailure(_sentence(status), final=True, since=_latest(pod))
    for container in _containers(status):
        waiting = _waiting(container)
        if waiting.get("reason") in _FINAL:
            return PodFailure(_sentence(waiting), final=True)
        if waiting.get("reason") in _RETRIED:
            return PodFailure(_sentence(waiting) + _last_end(container))
    return None


def pod_delay(pod: Json) -> PodDelay | None:
    """Why no node has room for the pod, or that its node is still preparing it.

    Room appears when another pod leaves or a node is added.
    """
    status = as_dict(pod.get("status"))
    if unscheduled := condition(pod, "PodScheduled", "False"):
        message = _sentence(unscheduled)
        hint = _NO_VOLUME if _UNBOUND in message else ""
        return PodDelay(message + hint, moment(unscheduled.get("lastTransitionTime")))
    for container in _containers(status):
        waiting = _waiting(container)
        if waiting.get("reason") in ("ContainerCreating", "PodInitializing") and _is_preparing(status):
            message = f"{_sentence(waiting)}: the node prepares volumes, network and image"
            since = condition(pod, "PodScheduled", "True").get("lastTransitionTime")
            return PodDelay(message, moment(since), is_blocker=False)
    return None


def _is_preparing(status: Json) -> bool:
    """Whether no container has run yet. Once one has, a long wait for the next one is due to the image."""
    states = [as_dict(container.get("state")) for container in _containers(status)]
    return not any(state.get("running") or state.get("terminated") for state in states)


def deployment_failure(deployment: Json) -> str | None:
    """Why the Deployment's pods cannot be created at all, for example for lack of quota."""
    failure = condition(deployment, "ReplicaFailure", "True")
    return _sentence(failure) if failure else None


def scaler_blocker(scaled: Json) -> str | None:
    """Why KEDA cannot work with the ScaledObject, for example because Redis rejects the password.

    This is a temporary blocker: KEDA also reports it for a moment when it and the service write at the same time, and
    an existing pod does not need KEDA.
    """
    unready = condition(scaled, "Ready", "False")
    return _sentence(unready) if unready else None


def _containers(status: Json) -> list[Json]:
    return as_dicts(status.get("initContainerStatuses")) + as_dicts(status.get("containerStatuses"))


def _waiting(container: Json) -> Json:
    """Why the container waits; empty when it does not."""
    return as_dict(as_dict(container.get("state")).get("waiting"))


def _last_end(container: Json) -> str:
    """How the container last ended: that it crashes does not say why."""
    end = as_dict(as_dict(container.get("lastState")).get("terminated"))
    if not end:
        return ""
    return f" (it ended before: {end.get('reason') or 'Unknown'}, exit code {end.get('exitCode')})"


def _latest(pod: Json) -> datetime | None:
    """When the pod failed, as precisely as its status says."""
    status, metadata = as_dict(pod.get("status")), as_dict(pod.get("metadata"))
    stamps = [each.get("lastTransitionTime") for each in as_dicts(status.get("conditions"))]
    times = map(moment, [*stamps, status.get("startTime"), metadata.get("creationTimestamp")])
    return max(filter(None, times), default=None)


def _sentence(source: Json) -> str:
    reason, message = source.get("reason") or "Unknown", str(source.get("message") or "")
    return f"{reason}: {message[:500]}" if message else str(reason)
