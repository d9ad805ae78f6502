"""Where the objects of the users' namespace are in the API, and how those of sessions are told from others."""

from service.adapters.kubernetes.objects import Kind
from service.domain.names import UUID_LABEL

_GROUPS = {Kind.DEPLOYMENT: "/apis/apps/v1", Kind.SCALER: "/apis/keda.sh/v1alpha1"}


class Paths:
    """Paths below one namespace."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def of(self, kind: Kind) -> str:
        """Path of the kind's collection."""
        return f"{_GROUPS.get(kind, '/api/v1')}/namespaces/{self._namespace}/{kind.value}"

    @staticmethod
    def selector(kind: Kind) -> str:
        """Label selector of what belongs to sessions."""
        return "owner=helm" if kind is Kind.REVISION else UUID_LABEL

    @staticmethod
    def metadata(kind: Kind) -> bool:
        """Whether only the metadata is looked at: a release's Secret must not even be read, a claim need not be."""
        return kind in (Kind.REVISION, Kind.CLAIM)
