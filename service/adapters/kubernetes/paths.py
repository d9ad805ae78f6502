"""API paths of the users' namespace, and the selectors that find the objects of sessions in it."""

from service.adapters.kubernetes.objects import Kind
from service.domain.names import UUID_LABEL

_GROUPS = {Kind.DEPLOYMENT: "/apis/apps/v1", Kind.SCALER: "/apis/keda.sh/v1alpha1"}


class Paths:
    """API paths of one namespace."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def of(self, kind: Kind) -> str:
        """The path of the kind's collection."""
        return f"{_GROUPS.get(kind, '/api/v1')}/namespaces/{self._namespace}/{kind.value}"

    @staticmethod
    def selector(kind: Kind) -> str:
        """The label selector for objects that belong to sessions."""
        return "owner=helm" if kind is Kind.REVISION else UUID_LABEL

    @staticmethod
    def metadata(kind: Kind) -> bool:
        """Whether to request metadata only: the service must not read a release's Secret, and need not read a claim."""
        return kind in (Kind.REVISION, Kind.CLAIM)
