"""Parse records and queue states from Redis, where anybody may have written anything."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from service.adapters.redis import unreadable_keys
from service.domain.expiry import ExpiryReason, ExpiryWarning
from service.domain.names import SessionId, is_user_id
from service.domain.queue_state import QueueState
from service.domain.record import Record, RecordStatus, SleepRequest

_LONGEST = timedelta(days=36_500)
"""A longer expiry is shortened to this, so that adding it to a date does not overflow."""
_EPOCH = datetime.fromtimestamp(0, UTC)


class _Malformed(ValueError):
    """The message completes a sentence that begins with the record's key."""


def record(uuid: SessionId, fields: Mapping[str, str], type_: str, queue: QueueState) -> Record:
    """Parse a record. `type_` is the type of its key when that is not a hash.

    An unreadable record has a `read_error`, counts as created unless it says otherwise, and keeps its data.
    """
    problem = f"is a {type_}, not a hash"
    if not type_:
        try:
            return _read(uuid, fields, queue)
        except _Malformed as malformed:
            problem = str(malformed)
    user_id, deleting = fields.get("user_id", ""), fields.get("status") == RecordStatus.DELETING
    return Record(
        uuid,
        user_id if is_user_id(user_id) else "",
        # A delete that has begun must finish, whatever else is wrong.
        RecordStatus.DELETING if deleting else RecordStatus.CREATED,
        created_at=_EPOCH,
        keep_data=fields.get("keep_data") != "0",
        expired=_expired(fields),
        queue=queue,
        read_error=unreadable_keys.record_error(uuid, problem),
    )


def _read(uuid: SessionId, fields: Mapping[str, str], queue: QueueState) -> Record:
    return Record(
        uuid,
        _user_id(fields),
        _status(fields),
        created_at=_moment(fields, "created_at") or _EPOCH,
        written_at=_moment(fields, "written_at"),
        last_activity=_moment(fields, "last_activity"),
        activity_source=_text(fields, "activity_source"),
        last_output=_moment(fields, "last_output"),
        kept_until=_moment(fields, "kept_until"),
        sleep_request=_sleep_request(fields),
        sleep_due=_moment(fields, "sleep_due_at"),
        renewed_until=_moment(fields, "renewed_until"),
        spared_until=_moment(fields, "spared_until"),
        deletion_warning=_warning(fields.get("deletion_warning", "")),
        released_at=_moment(fields, "released_at"),
        keep_data=_flag(fields, "keep_data"),
        deleting_since=_moment(fields, "deleting_since"),
        expired=_expired(fields),
        queue=queue,
    )


def _user_id(fields: Mapping[str, str]) -> str:
    user_id = fields.get("user_id", "")
    if not is_user_id(user_id):
        raise _Malformed("has no usable user_id" if user_id else "has no user_id")
    return user_id


def _status(fields: Mapping[str, str]) -> RecordStatus:
    try:
        return RecordStatus(fields.get("status", ""))
    except ValueError:
        raise _Malformed("has no known status") from None


def _moment(fields: Mapping[str, str], name: str) -> datetime | None:
    try:
        return moment(fields.get(name))
    except ValueError:
        raise _Malformed(f"has a {name} that is not a time") from None


def _text(fields: Mapping[str, str], name: str) -> str | None:
    text = fields.get(name)
    if text is not None and not text.isprintable():
        raise _Malformed(f"has a {name} that is not text")
    return text


def _flag(fields: Mapping[str, str], name: str) -> bool:
    text = fields.get(name, "1")
    if text not in ("0", "1"):
        raise _Malformed(f"has a {name} that is neither 0 nor 1")
    return text == "1"


def _expired(fields: Mapping[str, str]) -> ExpiryReason | None:
    """What cannot be read delays no delete."""
    return {reason.value: reason for reason in ExpiryReason}.get(fields.get("expired", ""))


def _sleep_request(fields: Mapping[str, str]) -> SleepRequest | None:
    at = _moment(fields, "sleep_asked_at")
    return SleepRequest(at, _text(fields, "sleep_asked_in"), _text(fields, "sleep_asked_by") or None) if at else None


def warning_text(warning: ExpiryWarning) -> str:
    return f"{warning.at.timestamp():.6f} {warning.due.timestamp():.6f} {warning.reason}"


def _warning(text: str) -> ExpiryWarning | None:
    """A warning that cannot be read was not given: its user is warned again, and nothing is deleted before."""
    try:
        at, due, reason = text.split(" ")
        since, until = moment(at), moment(due)
        return ExpiryWarning(at=since, due=until, reason=ExpiryReason(reason)) if since and until else None
    except ValueError:
        return None


def moment(text: str | float | None) -> datetime | None:
    """The time from seconds since 1970; None for None or "". Raises ValueError when it is not a time."""
    if text is None or text == "":
        return None
    seconds = float(text)
    if not math.isfinite(seconds):
        raise ValueError("not a time")
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError) as error:
        raise ValueError("not a time") from error


def queue(uuid: SessionId, length: int, left: int, since: str | float | None, type_: str) -> QueueState:
    """Parse a queue state.

    From the queue's length, its milliseconds to live (-1 without an expiry), the pending wake's score, and the type of
    the queue's key when that is not a list.
    """
    if type_:
        return QueueState(read_error=unreadable_keys.queue_error(uuid, type_))
    until = datetime.now(UTC) + min(timedelta(milliseconds=left), _LONGEST) if length and left >= 0 else None
    try:
        return QueueState(length, until, moment(since))
    except ValueError:
        return QueueState(length, until, read_error=unreadable_keys.pending_error(uuid))
