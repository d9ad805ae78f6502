"""Kubernetes' objects of one session as the API server gives them, for tests that change one thing in them."""

from typing import Any

from service.domain.names import SessionId

Json = dict[str, Any]

UUID = SessionId("abc123xy")
HASH = "5d4f8c7b9"
CREATED = "2026-01-01T00:00:00Z"


def metadata(name: str, uuid: str = UUID, **more: Any) -> Json:
    labels = {"uuid": uuid, **more.pop("labels", {})}
    return {"name": name, "labels": labels, "resourceVersion": "5", "creationTimestamp": CREATED, **more}


def deployment(name: str = "", uuid: str = UUID, *, replicas: Any = 1, **more: Any) -> Json:
    return {
        "metadata": metadata(name or f"user-{uuid}", uuid, annotations={"user-pods/user-id": "ann"}, **more),
        "spec": {"replicas": replicas},
        "status": {},
    }


def scaler(name: str = "", uuid: str = UUID, **more: Any) -> Json:
    spec = {"cooldownPeriod": 120, "pollingInterval": 5}
    return {"metadata": metadata(name or f"user-{uuid}-scaler", uuid, **more), "spec": spec, "status": {}}


def claim(name: str = "", uuid: str = UUID) -> Json:
    return {"metadata": metadata(name or f"user-{uuid}", uuid, annotations={"user-pods/user-id": "ann"})}


def revision(name: str = "", uuid: str = UUID, *, number: int = 1) -> Json:
    labels = {"owner": "helm", "name": f"user-{uuid}", "version": str(number), "status": "deployed"}
    name = name or f"sh.helm.release.v1.user-{uuid}.v{number}"
    return {"metadata": {"name": name, "labels": labels, "resourceVersion": "5", "creationTimestamp": CREATED}}


def pod(name: str = "", uuid: str = UUID, *, owner: str | None = "", **status: Any) -> Json:
    """`owner` is the ReplicaSet, None for a bare pod."""
    replica_set = f"user-{uuid}-{HASH}" if owner == "" else owner
    owners = [{"kind": "ReplicaSet", "name": replica_set, "controller": True}] if replica_set else []
    return {
        "metadata": metadata(
            name or f"user-{uuid}-{HASH}-x2x4z", uuid, uid="pod-1", ownerReferences=owners,
            labels={"pod-template-hash": HASH},
        ),
        "spec": {"nodeName": "n", "containers": [{"name": "workspace", "ports": [{"containerPort": 8080}]}]},
        "status": status,
    }  # fmt: skip


def waiting(reason: str, message: str = "", **more: Any) -> Json:
    """Status of a pod whose container waits."""
    return {
        "containerStatuses": [
            {"name": "workspace", "state": {"waiting": {"reason": reason, "message": message}}, **more}
        ]
    }


def unscheduled(since: str, message: str = "0/3 nodes are available") -> Json:
    """Status of a pod that no node takes."""
    condition = {
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
        "lastTransitionTime": since,
    }  # fmt: skip
    return {"phase": "Pending", "conditions": [condition]}
