"""Who has set a Deployment's wanted replicas, as the API server's managed fields tell it."""

from datetime import timedelta
from typing import Any

import pytest

from service.adapters.kubernetes.objects import Kind, Objects, parse
from service.domain.names import FIELD_MANAGER, SessionId
from service.domain.workload import ScaledBy

UUID = SessionId("abc123xy")
Json = dict[str, Any]
REPLICAS: Json = {"f:spec": {"f:replicas": {}}}


def managed(manager: str, fields: Any, at: str = "2026-01-01T00:00:00Z", **more: str) -> Json:
    return {"manager": manager, "operation": "Update", "time": at, "fieldsV1": fields, **more}


def by(*fields: Json, keda: str = "keda") -> ScaledBy | None:
    metadata = {"name": f"user-{UUID}", "labels": {"uuid": UUID}, "creationTimestamp": None}
    objects = Objects()
    deployment: Json = {"metadata": {**metadata, "managedFields": list(fields)}, "spec": {"replicas": 0}}
    scaler: Json = {
        "metadata": {
            **metadata,
            "name": f"user-{UUID}-scaler",
            "managedFields": [
                managed("helm", {"f:spec": {}}),
                managed(keda, {"f:status": {".": {}, "f:lastActiveTime": {}}}, subresource="status"),
            ],
        },
        "spec": {},
    }
    for kind, item in ((Kind.DEPLOYMENT, deployment), (Kind.SCALER, scaler)):
        objects.put(kind, item["metadata"]["name"], parse(kind, item))
    return objects.workload(UUID, namespace="users", schedule_timeout=timedelta(minutes=2)).scaled_by


@pytest.mark.parametrize(
    ("manager", "expected"),
    [
        (FIELD_MANAGER, ScaledBy.SERVICE),
        ("keda", ScaledBy.KEDA),
        ("keda-operator", ScaledBy.KEDA),
        ("kubectl", ScaledBy.OTHER),
        ("kubectl-edit", ScaledBy.OTHER),
        ("Mozilla", ScaledBy.OTHER),
    ],
)
def test_the_manager_of_the_replicas_has_scaled(manager: str, expected: ScaledBy) -> None:
    others = managed("kube-controller-manager", {"f:status": {"f:replicas": {}}}, subresource="status")
    assert by(managed("helm", {"f:spec": {"f:template": {}}}), managed(manager, REPLICAS), others) is expected


def test_keda_is_recognised_by_what_it_writes_not_by_its_name() -> None:
    assert by(managed("autoscaler", REPLICAS), keda="autoscaler") is ScaledBy.KEDA


def test_of_several_managers_of_a_field_the_last_one_counts() -> None:
    earlier, later = "2026-01-01T00:00:00Z", "2026-01-01T00:05:00Z"
    fields = [managed("kubectl", REPLICAS, later), managed(FIELD_MANAGER, REPLICAS, earlier)]
    assert by(*fields) is by(*reversed(fields)) is ScaledBy.OTHER


@pytest.mark.parametrize("fields", [None, {}, {"f:spec": None}, {"f:spec": []}, {"f:spec": {"f:template": {}}}])
def test_without_managed_fields_nobody_is_named(fields: Any) -> None:
    assert by(managed("kubectl", fields)) is None
    assert by() is None


def test_an_entry_of_the_scale_subresource_counts_although_it_has_no_time() -> None:
    scaled = managed("kubectl", REPLICAS, subresource="scale")
    del scaled["time"]
    assert by(managed("helm", {"f:spec": {"f:template": {}}}), scaled) is ScaledBy.OTHER
