"""Why a pod does not get ready, in the words of Kubernetes and KEDA; None when nothing speaks against it yet."""

from datetime import datetime
from typing import Any

_HOPELESS = frozenset(
    {
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImageInspectError",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    }
)
"""Reasons for waiting that do not pass by waiting alone."""

Json = dict[str, Any]


def pod_trouble(pod: Json) -> str | None:
    """The first container that cannot start."""
    status: Json = pod.get("status") or {}
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _HOPELESS:
            return _sentence(waiting)
    return None


def pod_hindrance(pod: Json) -> tuple[str, datetime | None] | None:
    """Why no node takes the pod, and since when: somebody may leave, or a node be added."""
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            since = condition.get("lastTransitionTime")
            return _sentence(condition), datetime.fromisoformat(since) if since else None
    return None


def deployment_trouble(status: Json) -> str | None:
    """Pods that cannot even be created, for instance for lack of quota."""
    for condition in status.get("conditions") or []:
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return _sentence(condition)
    return None


def scaler_hindrance(scaled: Json) -> str | None:
    """KEDA cannot work with the ScaledObject, for instance since Redis refuses the password.

    It says so for a moment too, when it and the service write at the same time; and a pod that is there needs no KEDA.
    """
    for condition in (scaled.get("status") or {}).get("conditions") or []:
        if condition["type"] == "Ready" and condition["status"] == "False":
            return _sentence(condition)
    return None


def _sentence(source: Json) -> str:
    reason, message = source.get("reason") or "Unknown", source.get("message") or ""
    return f"{reason}: {message[:500]}" if message else str(reason)
