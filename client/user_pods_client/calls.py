"""One function per operation of the service. Made by `make generated`; a test compares it with the service."""

from typing import Any
from urllib.parse import quote

from user_pods_client.call import Call
from user_pods_client.models import (
    Action,
    Alive,
    AuditPage,
    CreatedSession,
    Diagnosis,
    Fixed,
    HealthReport,
    History,
    IdleTimes,
    Opened,
    Phase,
    ProfileList,
    Revoked,
    SessionList,
    Spared,
    Status,
    Summary,
    Upgrade,
    Upgraded,
    WhoAmI,
)


def create(
    user_id: str, *, idle: IdleTimes | None = None, profile: str | None = None, group: str | None = None
) -> Call[CreatedSession]:
    return Call(
        name="create",
        method="POST",
        path="/session/create",
        answers={201: CreatedSession, 200: CreatedSession},
        body=_body(user_id=user_id, idle=idle, profile=profile, group=group),
    )


def wake(uuid: str) -> Call[Action]:
    return Call(
        name="wake",
        method="POST",
        path=f"/session/{_segment(uuid)}/wake",
        answers={202: Action},
    )


def sleep(uuid: str, *, now: bool = False) -> Call[Action]:
    return Call(
        name="sleep",
        method="POST",
        path=f"/session/{_segment(uuid)}/sleep",
        answers={202: Action},
        query={"now": now},
    )


def activity(uuid: str, source: str) -> Call[Action]:
    return Call(
        name="activity",
        method="POST",
        path=f"/session/{_segment(uuid)}/activity",
        answers={202: Action},
        body=_body(source=source),
    )


def extend(uuid: str, seconds: int) -> Call[Action]:
    return Call(
        name="extend",
        method="POST",
        path=f"/session/{_segment(uuid)}/extend",
        answers={202: Action},
        body=_body(seconds=seconds),
    )


def keep(uuid: str, seconds: int) -> Call[Spared]:
    return Call(
        name="keep",
        method="POST",
        path=f"/session/{_segment(uuid)}/keep",
        answers={202: Spared},
        body=_body(seconds=seconds),
    )


def open_(uuid: str, *, to: str = "/") -> Call[Opened]:
    return Call(
        name="open",
        method="POST",
        path=f"/session/{_segment(uuid)}/open",
        answers={201: Opened},
        query={"to": to},
    )


def revoke(uuid: str) -> Call[Revoked]:
    return Call(
        name="revoke",
        method="POST",
        path=f"/session/{_segment(uuid)}/revoke",
        answers={202: Revoked},
    )


def status(uuid: str) -> Call[Status]:
    return Call(
        name="status",
        method="GET",
        path=f"/session/{_segment(uuid)}/status",
        answers={200: Status},
    )


def events(uuid: str, *, last_event_id: str | None = None) -> Call[str]:
    return Call(
        name="events",
        method="GET",
        path=f"/session/{_segment(uuid)}/events",
        answers={200: str, 204: str},
        sent_headers={"Last-Event-ID": last_event_id},
    )


def history(uuid: str) -> Call[History]:
    return Call(
        name="history",
        method="GET",
        path=f"/session/{_segment(uuid)}/history",
        answers={200: History},
    )


def delete(uuid: str, *, keep_data: bool = True) -> Call[None]:
    return Call(
        name="delete",
        method="DELETE",
        path=f"/session/{_segment(uuid)}",
        answers={204: None},
        query={"keep_data": keep_data},
    )


def list_sessions(
    *,
    cursor: str | None = None,
    limit: int = 50,
    user_id: str | None = None,
    phase: Phase | None = None,
    awake: bool | None = None,
) -> Call[SessionList]:
    return Call(
        name="list_sessions",
        method="GET",
        path="/sessions",
        answers={200: SessionList},
        query={"cursor": cursor, "limit": limit, "user_id": user_id, "phase": phase, "awake": awake},
    )


def summary() -> Call[Summary]:
    return Call(
        name="summary",
        method="GET",
        path="/summary",
        answers={200: Summary},
    )


def profiles() -> Call[ProfileList]:
    return Call(
        name="profiles",
        method="GET",
        path="/profiles",
        answers={200: ProfileList},
    )


def upgrade(uuid: str, *, restart: bool = False) -> Call[Upgraded]:
    return Call(
        name="upgrade",
        method="POST",
        path=f"/session/{_segment(uuid)}/upgrade",
        answers={200: Upgraded},
        query={"restart": restart},
    )


def start_upgrade(
    *, only_asleep: bool = False, max_parallel: int = 2, canary: int = 0, max_failures: int = 2
) -> Call[Upgrade]:
    return Call(
        name="start_upgrade",
        method="POST",
        path="/upgrade",
        answers={202: Upgrade},
        body=_body(only_asleep=only_asleep, max_parallel=max_parallel, canary=canary, max_failures=max_failures),
    )


def show_upgrade() -> Call[Upgrade]:
    return Call(
        name="show_upgrade",
        method="GET",
        path="/upgrade",
        answers={200: Upgrade},
    )


def continue_upgrade() -> Call[Upgrade]:
    return Call(
        name="continue_upgrade",
        method="POST",
        path="/upgrade/continue",
        answers={202: Upgrade},
    )


def stop_upgrade() -> Call[Upgrade]:
    return Call(
        name="stop_upgrade",
        method="POST",
        path="/upgrade/stop",
        answers={202: Upgrade},
    )


def audit(
    *,
    cursor: str | None = None,
    limit: int = 50,
    uuid: str | None = None,
    caller: str | None = None,
    user_id: str | None = None,
) -> Call[AuditPage]:
    return Call(
        name="audit",
        method="GET",
        path="/audit",
        answers={200: AuditPage},
        query={"cursor": cursor, "limit": limit, "uuid": uuid, "caller": caller, "user_id": user_id},
    )


def diagnosis() -> Call[Diagnosis]:
    return Call(
        name="diagnosis",
        method="GET",
        path="/diagnosis",
        answers={200: Diagnosis},
    )


def fix(check: str, subject: str) -> Call[Fixed]:
    return Call(
        name="fix",
        method="POST",
        path="/diagnosis/fix",
        answers={200: Fixed},
        body=_body(check=check, subject=subject),
    )


def whoami() -> Call[WhoAmI]:
    return Call(
        name="whoami",
        method="GET",
        path="/whoami",
        answers={200: WhoAmI},
    )


def health() -> Call[HealthReport]:
    return Call(
        name="health",
        method="GET",
        path="/health",
        answers={200: HealthReport, 503: HealthReport},
    )


def metrics() -> Call[str]:
    return Call(
        name="metrics",
        method="GET",
        path="/metrics",
        answers={200: str},
    )


def livez() -> Call[Alive]:
    return Call(
        name="livez",
        method="GET",
        path="/livez",
        answers={200: Alive},
    )


def readyz() -> Call[Alive]:
    return Call(
        name="readyz",
        method="GET",
        path="/readyz",
        answers={200: Alive},
    )


def _segment(value: str) -> str:
    return quote(value, safe="")


def _body(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
