"""API paths of the users' namespace, and the selectors that find the objects of sessions in it."""

from collections.abc import Mapping

from service.adapters.kubernetes.api import Collection
from service.adapters.kubernetes.objects import Kind
from service.domain.names import UUID_LABEL

_GROUPS = {Kind.DEPLOYMENT: "/apis/apps/v1", Kind.SCALER: "/apis/keda.sh/v1alpha1"}
_METADATA = (Kind.REVISION, Kind.CLAIM)
"""The service must not read a release's Secret, and need not read a claim."""


def collections(namespace: str) -> Mapping[Kind, Collection]:
    """The objects of each kind that belong to sessions."""
    return {
        kind: Collection(
            f"{_GROUPS.get(kind, '/api/v1')}/namespaces/{namespace}/{kind.value}",
            labels="owner=helm" if kind is Kind.REVISION else UUID_LABEL,
            metadata=kind in _METADATA,
        )
        for kind in Kind
    }
