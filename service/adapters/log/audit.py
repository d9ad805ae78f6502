"""Writes each audit entry as one log line of the logger `service.audit`. People and users are hashes there, as always
in logs."""

import logging

from service.domain.audit import AuditEntry
from service.domain.names import user_hash

log = logging.getLogger("service.audit")
log.setLevel(logging.INFO)  # whatever LOG_LEVEL says


class LogAudit:
    """See `service.domain.audit.AuditLog`."""

    def note(self, entry: AuditEntry) -> None:
        fields = {
            "caller": entry.caller,
            "role": entry.role,
            "key": entry.key,
            "person": user_hash(entry.person) if entry.person is not None else None,
            "operation": entry.operation,
            "uuid": entry.uuid,
            "user": user_hash(entry.user_id) if entry.user_id is not None else None,
            "result": entry.result,
            "status": entry.status,
            "repeats": entry.repeats or None,
            "request_id": entry.request,  # one that was left out at first is entered outside of its request
        }
        log.info("audit", extra={name: value for name, value in fields.items() if value is not None})
