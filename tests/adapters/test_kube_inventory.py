"""The facts that the diagnosis reads from Kubernetes' objects."""

from datetime import UTC, datetime
from typing import Any

import pytest

from service.adapters.kubernetes.inventory import facts
from service.adapters.kubernetes.objects import Kind
from tests.adapters import samples
from tests.adapters.samples import UUID, Json

NOW = "2026-01-02T00:00:00Z"
HELM = {
    "manager": "helm",
    "fieldsV1": {"f:metadata": {"f:labels": {"f:helm.sh/chart": {}}}, "f:spec": {"f:template": {}}},
}
RESTARTED: Json = {"f:metadata": {"f:annotations": {".": {}, "f:kubectl.kubernetes.io/restartedAt": {}}}}
IMAGE: Json = {"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"workspace"}': {"f:image": {}}}}}}}


def managed(*entries: Json) -> Json:
    return samples.deployment(managedFields=[*entries])


def by(manager: str, fields: Any, **more: Any) -> Json:
    return {"manager": manager, "fieldsV1": fields, "time": NOW, **more}


def test_a_change_by_hand_is_an_edit_and_names_what_was_changed() -> None:
    (edit,) = facts(Kind.DEPLOYMENT, managed(HELM, by("kubectl-edit", IMAGE))).edits
    assert (edit.manager, edit.fields) == ("kubectl-edit", ('spec.template.spec.containers[name="workspace"].image',))
    assert edit.at == datetime(2026, 1, 2, tzinfo=UTC)
    scaler = samples.scaler(managedFields=[HELM, by("kubectl-patch", {"f:spec": {"f:cooldownPeriod": {}}})])
    assert facts(Kind.SCALER, scaler).edits[0].fields == ("spec.cooldownPeriod",)


@pytest.mark.parametrize(
    "entry",
    [
        by("user-pods", IMAGE),
        by("OpenAPI-Generator", IMAGE),
        by("keda-operator", IMAGE),
        by("kube-controller-manager", IMAGE),
        by("kubectl", {"f:spec": {"f:replicas": {}}}),
        by("kubectl", {"f:spec": {"f:template": {}}}, subresource="scale"),
        by("kubectl-annotate", {"f:metadata": {"f:annotations": {"f:x": {}}}}),
        by("kubectl-rollout", {"f:spec": {"f:template": RESTARTED}}),
        by("kubectl-rollout", "x"),
        {"fieldsV1": None},
    ],
)
def test_what_belongs_to_the_work_is_no_edit(entry: Json) -> None:
    assert facts(Kind.DEPLOYMENT, managed(HELM, entry)).edits == ()


def test_a_tool_that_applies_the_chart_edits_nothing_and_neither_does_who_makes_an_object_without_one() -> None:
    argo = {**HELM, "manager": "argocd-controller"}
    assert facts(Kind.DEPLOYMENT, managed(argo)).edits == ()
    assert facts(Kind.DEPLOYMENT, managed(by("kubectl-create", IMAGE))).edits == ()


def test_deletions_claims_revisions_and_keda_s_verdict() -> None:
    stuck = samples.deployment(deletionTimestamp=NOW, finalizers=["x/y", 7])
    found = facts(Kind.DEPLOYMENT, stuck)
    assert (found.label, found.uuid) == (f"deployment/user-{UUID}", UUID)
    assert (found.deleting_since, found.finalizers) == (datetime(2026, 1, 2, tzinfo=UTC), ("x/y",))

    claim = {**samples.claim(), "status": {"phase": "Pending"}, "spec": {"storageClassName": "fast"}}
    assert (facts(Kind.CLAIM, claim).unbound, facts(Kind.CLAIM, claim).storage_class) == (True, "fast")
    assert facts(Kind.CLAIM, {**claim, "spec": None}).storage_class is None
    assert not facts(Kind.CLAIM, {**claim, "status": {"phase": "Bound"}}).unbound

    revision = facts(Kind.REVISION, samples.revision(number=3))
    assert (revision.uuid, revision.revision, revision.state) == (UUID, 3, "deployed")

    unready = {"conditions": [{"type": "Ready", "status": "False", "reason": "Failed", "message": "NOAUTH"}]}
    assert facts(Kind.SCALER, {**samples.scaler(), "status": unready}).not_ready == "NOAUTH"
    assert facts(Kind.SCALER, samples.scaler()).not_ready is None


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize(
    "item",
    [{}, {"metadata": None}, {"metadata": {"managedFields": [7], "finalizers": "x", "labels": []}, "status": "x"}],
)
def test_malformed_objects_have_few_facts_and_stop_nothing(kind: Kind, item: Json) -> None:
    assert facts(kind, item).uuid is None
