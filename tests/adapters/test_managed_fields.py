"""What two field managers share."""

from service.adapters.kubernetes.managed_fields import without_agreed
from tests.adapters.samples import Json

IMAGE: Json = {"f:spec": {"f:containers": {'k:{"name":"workspace"}': {".": {}, "f:image": {}}}}}


def by(manager: str, fields: Json, **more: str) -> Json:
    return {"manager": manager, "fieldsV1": fields, **more}


def test_only_what_is_shared_is_taken_and_only_from_those_named() -> None:
    helm = by("helm", IMAGE)
    mixed = {"f:spec": {**IMAGE["f:spec"], "f:hostname": {}}}
    scale = by("kubectl", IMAGE, subresource="scale")
    entries = [helm, by("kubectl", IMAGE), by("mixed", mixed), by("not-named", IMAGE), scale]
    assert without_agreed(entries, "helm", ["kubectl", "mixed", "helm"]) == [
        helm, by("mixed", {"f:spec": {"f:hostname": {}}}), by("not-named", IMAGE), scale,
    ]  # fmt: skip


def test_who_has_taken_a_field_from_helm_keeps_it() -> None:
    entries = [by("helm", {"f:spec": {"f:replicas": {}}}), by("kubectl-set", IMAGE), {"manager": "kubectl-set"}]
    assert without_agreed(entries[:2], "helm", ["kubectl-set"]) == entries[:2]
    assert without_agreed([], "helm", ["kubectl-set"]) == []


def test_who_has_applied_the_charts_manifest_has_set_nothing_of_their_own() -> None:
    """As somebody did to undo a change: helm had lost the field to the change, so it is shared with nobody."""
    manifest = {"f:metadata": {"f:labels": {"f:helm.sh/chart": {}}}, **IMAGE}
    helm = by("helm", {"f:metadata": manifest["f:metadata"]})
    assert without_agreed([helm, by("kubectl", manifest, operation="Apply")], "helm", ["kubectl"]) == [helm]
    edited = [helm, by("kubectl-edit", manifest, operation="Update")]
    assert without_agreed(edited, "helm", ["kubectl-edit"]) == [helm, by("kubectl-edit", IMAGE, operation="Update")]
