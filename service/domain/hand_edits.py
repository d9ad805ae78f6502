"""What somebody has changed by hand in the objects of a release, and how to undo it."""

from service.domain.names import SessionId, release_name

HELM = "helm"
"""Helm's field manager. Fields that it shares with nobody are those that an upgrade may change."""


def undo_command(namespace: str, uuid: SessionId) -> str:
    """Gives every field of the chart its value back.

    In helm's name: another manager would own the fields beside helm from then on, and every upgrade would conflict.
    """
    return (
        f"helm -n {namespace} get manifest {release_name(uuid)} | kubectl -n {namespace} apply --server-side"
        f" --force-conflicts --field-manager={HELM} -f -"
    )
