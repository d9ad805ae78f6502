"""Enters the deletions of expired sessions in audit and metrics."""

from service.domain.audit import DONE, Audit
from service.domain.expiry import ExpiryReason
from service.domain.metrics import ServiceMetrics
from service.domain.permissions import SERVICE, Caller, CallerRole
from service.domain.record import Record

_SERVICE = Caller(name=SERVICE, role=CallerRole.OPERATOR)


class ExpiryNotes:
    """Told by whoever finishes such a deletion: after a crash, that may be anybody who deletes or creates."""

    def __init__(self, audit: Audit, metrics: ServiceMetrics) -> None:
        self._audit = audit
        self._metrics = metrics

    def deleted(self, record: Record, reason: ExpiryReason) -> None:
        """The record has just been deleted."""
        self._metrics.expired(reason)
        self._audit.note(
            _SERVICE,
            f"delete:{reason}",
            uuid=record.uuid,
            user_id=record.user_id,
            result=DONE,
            status=204,
            changes=True,
        )
