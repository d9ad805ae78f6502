"""Bodies of requests and answers, as the OpenAPI document describes them."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, Self

from pydantic import (
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
)
from pydantic.json_schema import SkipJsonSchema

from service.domain.audit import AuditEntry as Audited
from service.domain.audit import AuditPage as AuditedPage
from service.domain.awake_quota import AwakeLimits
from service.domain.capacity import Capacity, Resource, Unseen
from service.domain.diagnosis.finding import Diagnosis as Diagnosed
from service.domain.diagnosis.finding import Finding as Found
from service.domain.diagnosis.finding import Mended, Outcome, Severity
from service.domain.expiry import ExpiryReason
from service.domain.history import Entry, Kind
from service.domain.limits import RequestedIdleTimes
from service.domain.names import GROUP_PATTERN, SESSION_ID_PATTERN, USER_ID_PATTERN
from service.domain.permissions import CallerRole
from service.domain.phase import Phase
from service.domain.profiles import Profile
from service.domain.progress import Event, Stage
from service.domain.provisioning import Created
from service.domain.queries import Page
from service.domain.record import RecordStatus
from service.domain.release import ReleaseState
from service.domain.rollout import Rollout, RolloutOptions, RolloutState
from service.domain.rollouts import RolloutStatus
from service.domain.session import Session
from service.domain.session_counts import SessionCounts
from service.domain.sleep_cause import SleepReason
from service.domain.workload import Workload

Uuid = Annotated[str, Field(pattern=f"^{SESSION_ID_PATTERN}$", description="Id of the session.", examples=["abc123xy"])]
UserId = Annotated[
    StrictStr,
    Field(
        pattern=f"^{USER_ID_PATTERN}$", min_length=1, max_length=254,
        description="The user's name: 1 to 254 printable ASCII characters without spaces; case is kept.",
        examples=["john@example.com"],
    ),
]  # fmt: skip


ProfileName = Annotated[StrictStr, Field(min_length=1, max_length=63)]
GroupName = Annotated[StrictStr, Field(pattern=f"^{GROUP_PATTERN}$")]


def _whole(value: object) -> object:
    """JSON does not tell 5 from 5.0; everything else stays what it is, and is refused for it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _decimal(value: object) -> object:
    """A number of a query, in digits as JSON has them."""
    return int(value) if isinstance(value, str) and _DIGITS.fullmatch(value) else value


def _flag(value: object) -> object:
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


_DIGITS = re.compile(r"-?(0|[1-9][0-9]{0,17})", re.ASCII)
Whole = Annotated[StrictInt, BeforeValidator(_whole)]
Number = Annotated[StrictFloat, AllowInfNan(False)]
QueryNumber = Annotated[StrictInt, BeforeValidator(_decimal)]
QueryFlag = Annotated[StrictBool, BeforeValidator(_flag)]


class Body(BaseModel):
    """What a caller sends: a member that nobody knows is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(BaseModel):
    """What the service answers. Clients must ignore members that they do not know: more may be added."""

    model_config = ConfigDict(frozen=True)


class IdleTimes(Body):
    """This session's idle times, where they differ from the defaults."""

    cooldown: Annotated[StrictInt, Field(ge=1, le=31_536_000), BeforeValidator(_whole)] | None = Field(
        None, description="Seconds without activity until the pod sleeps."
    )
    lease: Number | None = Field(
        None, gt=0, le=31_536_000, description="Seconds for which one wake or activity keeps the queue non-empty."
    )
    poll: Annotated[StrictInt, Field(ge=1, le=3600), BeforeValidator(_whole)] | None = Field(
        None, description="Seconds between two polls by KEDA."
    )
    background: Number | None = Field(
        None,
        ge=0,
        le=31_536_000,
        description="Seconds after the last activity for which a working program keeps the pod awake; 0: it does not.",
    )

    def requested(self) -> RequestedIdleTimes:
        return RequestedIdleTimes(
            lease=_seconds(self.lease),
            cooldown=_seconds(self.cooldown),
            poll=_seconds(self.poll),
            background=_seconds(self.background),
        )


class CreateSession(Body):
    user_id: UserId
    idle: IdleTimes = Field(
        IdleTimes(), description="Used only if this call installs the session; an existing session keeps its times."
    )
    profile: ProfileName | None = Field(
        None,
        description="Name of the profile, as `GET /profiles` lists them. Used only if this call makes the session: an"
        " existing session keeps its profile, which the answer names.",
        examples=["large"],
    )
    group: GroupName | None = Field(
        None,
        description="Group for whose limit on awake sessions (`AWAKE_LIMITS`) it counts. Used only if this call"
        " makes the session. For callers who act for one user, and for keys of a group, it follows from who they are.",
        examples=["students"],
    )


class Activity(Body):
    source: StrictStr = Field(
        pattern=r"^[A-Za-z0-9._-]{1,64}$", description="What the user did, in the caller's words.", examples=["typing"]
    )


class Extension(Body):
    seconds: Whole = Field(
        ge=0, le=31_536_000, description="How long the session stays awake from now; 0 ends an extension."
    )


class Sparing(Body):
    seconds: Whole = Field(
        ge=0,
        le=31_536_000,
        description="How long the session is kept from deletion from now; 0 takes back what earlier calls did.",
    )


class CreatedSession(Answer):
    uuid: Uuid
    user_id: UserId
    status: Literal["created"] = "created"
    profile: str | None = Field(description="The profile that the session has; null if it has none.")
    group: str | None = Field(description="The group that the session counts for; null: none.")
    warning: str | None = Field(
        description="What may be a mistake: other groups have a limit (`AWAKE_LIMITS`), and this one has none."
    )

    @classmethod
    def of(cls, created: Created, user_id: str, warning: str | None = None) -> Self:
        assigned = created.assignment
        return cls(uuid=created.uuid, user_id=user_id, profile=assigned.profile, group=assigned.group, warning=warning)


class ProfileView(Answer):
    name: str = Field(examples=["large"])
    description: str = Field(description="What it is for, in the operator's words.")
    cooldown_limit: float | None = Field(
        description="Longest cooldown in seconds of its sessions; null if there is no limit of its own."
    )
    background_limit: float | None = Field(
        description="The same for the time that a working program keeps the pod awake."
    )


class ProfileList(Answer):
    profiles: list[ProfileView] = Field(description="Those that the caller may choose.")
    default: str | None = Field(description="The profile of sessions whose creator chooses none; null: none.")

    @classmethod
    def of(cls, profiles: Sequence[Profile], default: str | None) -> Self:
        views = [
            ProfileView(
                name=profile.name,
                description=profile.description,
                cooldown_limit=profile.cooldown and profile.cooldown.total_seconds(),
                background_limit=None if profile.background is None else profile.background.total_seconds(),
            )
            for profile in profiles
        ]
        return cls(profiles=views, default=default)


class Action(Answer):
    uuid: Uuid
    action: Literal["wake", "sleep", "activity", "extend"]
    queue_length: int | None = Field(None, ge=0, description="Tokens in the wake queue after a wake.")
    kept_until: datetime | None = Field(None, description="After an extension: until when the pod stays awake.")


class Spared(Answer):
    uuid: Uuid
    action: Literal["keep"]
    spared_until: datetime = Field(description="The session is not deleted before; an earlier call may reach further.")


class Revoked(Answer):
    uuid: Uuid
    action: Literal["revoke"]
    revoked_at: datetime = Field(
        description="Links and sign-ins from before this time, and within its second, are refused."
    )


class SessionRecord(Answer):
    user_id: UserId
    status: RecordStatus = Field(description="State of the record; the pod's life is in `phase`.")


class ReleaseView(Answer):
    name: str
    revision: int = Field(ge=1)
    state: ReleaseState
    chart: str | None = Field(description="Chart and version, for example `user-pod-0.1.0`.")
    made_from: str | None = Field(
        None, description="Names the chart and the chart values that it was made from; null if unknown."
    )


class Status(Answer):
    uuid: Uuid
    session: SessionRecord
    queue_length: int = Field(ge=0, description="Wake tokens that have not expired.")
    replicas: int = Field(ge=0, description="Desired pods: 0 asleep, 1 awake.")
    ready_replicas: int = Field(ge=0, description="Pods that are ready.")
    phase: Phase
    reason: str | None = Field(description="Why the phase is `failed`, or what delays a wake in progress.")
    final: bool = Field(
        description="With phase `failed`: true if waiting does not help, false while Kubernetes retries."
    )
    warning: str | None = Field(
        description=(
            "A problem that needs attention although nothing has failed permanently, mainly what has delayed"
            " the pod for longer than `SCHEDULE_TIMEOUT`. Otherwise null."
        )
    )
    release: ReleaseView | None = Field(description="The Helm release; null if it was removed.")
    profile: str | None = Field(description="Name of the session's profile; null if it has none.")
    group: str | None = Field(description="Group whose limit on awake sessions it counts for; null: none.")
    created_at: datetime
    awake_since: datetime | None = Field(description="When the pod of an awake session was created; otherwise null.")
    last_activity: datetime | None = Field(description="The last wake or other activity; null before the first.")
    activity_source: str | None = Field(description="Its source: `wake`, or the source that the caller reported.")
    sleeps_at: datetime | None = Field(
        description=(
            "The earliest time at which the pod sleeps without further activity; it is asleep at most two polls and"
            " 2 s later. Null while asleep, and while the queue has no expiry."
        )
    )
    kept_awake_by: str | None = Field(
        description=(
            "`extension`, the source of the last activity, `background` (a program works in the pod), `queue` (tokens"
            " pushed by another program), or `cooldown`."
        )
    )
    kept_until: datetime | None = Field(description="End of the extension that keeps the pod awake; null without one.")
    deletes_at: datetime | None = Field(
        description="When the service deletes the session if nothing changes (`SESSION_LIFETIME`, `SESSION_DORMANCY`);"
        " a wake or `keep` may move it. Null: never, or nobody can say: while it is awake (unless"
        " `SESSION_LIFETIME` is set), broken, released or paused."
    )
    deletes_because: ExpiryReason | None = Field(
        description="`lifetime`: since its creation; `dormancy`: since it was last awake. Null without `deletes_at`."
    )
    deletion_warning: bool = Field(False, description="Whether that is so soon that its user is being warned.")
    spared_until: datetime | None = Field(None, description="End of the time for which `keep` keeps it; null without.")
    parked: bool = Field(description="Whether the session is parked, so that KEDA does not poll it.")
    outdated: bool | None = Field(
        description=(
            "Whether the release was made from another chart or other chart values than new ones are; null without one."
        )
    )
    behind_seconds: float | None = Field(
        description="Maximum age of the cluster's data in this response while the watch is behind; otherwise null."
    )

    @classmethod
    def of(cls, session: Session, behind: timedelta | None, *, outdated: bool) -> Self:
        record, workload = session.record, session.workload
        release, expiry = workload.release, session.expiry
        return cls(
            uuid=record.uuid,
            session=SessionRecord(user_id=session.user_id, status=session.status),
            queue_length=record.queue.tokens,
            replicas=workload.replicas,
            # A terminating pod may still be ready.
            ready_replicas=min(workload.ready, workload.replicas),
            phase=session.phase,
            reason=session.reason,
            final=session.final,
            warning=session.warning,
            release=release
            and ReleaseView(
                name=release.name,
                revision=release.revision,
                state=release.state,
                chart=workload.chart,
                made_from=workload.revision,
            ),
            profile=workload.assignment.profile,
            group=workload.assignment.group,
            created_at=record.created_at,
            awake_since=session.awake_since,
            last_activity=record.last_activity,
            activity_source=record.activity_source,
            sleeps_at=session.sleeps_at,
            kept_awake_by=session.kept_awake_by,
            kept_until=record.kept_until if session.kept_awake_by == "extension" else None,
            deletes_at=expiry.at if expiry else None,
            deletes_because=expiry.reason if expiry else None,
            deletion_warning=session.deletion_warned,
            spared_until=session.spared_until,
            parked=workload.parked,
            outdated=outdated if release is not None else None,
            behind_seconds=None if behind is None else round(behind.total_seconds(), 1),
        )


class ProgressEvent(Answer):
    """The data of one server-sent event; its name is the `phase` too."""

    phase: Stage | Phase = Field(
        description=(
            "The stage that the wake has reached, a `warning` from Kubernetes, or, if no wake is known, the"
            " session's current phase."
        )
    )
    at: datetime
    seconds: float | None = Field(description="Time since the wake was accepted; null if no wake is known.")
    reason: str | None = Field(description="With `warning` and `failed`: the reason, as Kubernetes reports it.")
    final: bool = Field(
        description=(
            "With `failed`: true if waiting does not help. False while Kubernetes retries; the stream then continues."
        )
    )

    @classmethod
    def of(cls, event: Event) -> Self:
        seconds = event.after.total_seconds()
        return cls(phase=event.stage, at=event.at, seconds=seconds, reason=event.reason, final=event.final)


class HistoryEntry(Answer):
    """One wake, sleep, failure, revocation or upgrade; what does not belong to its kind is null."""

    kind: Kind
    at: datetime = Field(
        description="When it happened; for a wake, when it was accepted; for an upgrade, when it began."
    )
    by: str | None = Field(
        description=(
            "Who requested the wake, sleep, revocation or upgrade: the name of the API key (`api` if it has none),"
            " `person` (by a token of the identity provider), `visit` (a browser at the gateway), `queue` (a push by"
            " another program) or `operator` (a scale by hand). Null if nobody did: the pod was replaced or restored,"
            " or nobody used it; and for a sleep that an earlier version entered."
        )
    )
    ready_at: datetime | None = Field(
        description=(
            "For a wake: when its pod became ready; null if it never did. For an upgrade that replaced a pod: when the"
            " new one became ready."
        )
    )
    seconds: float | None = Field(
        description=(
            "For a wake: from accepted to ready. For an upgrade: from the new pod's creation to ready. For a sleep: how"
            " long the session had been awake."
        )
    )
    cause: SleepReason | None = Field(
        description=(
            "For a sleep: `idle`, `asked` (a call to sleep), `operator`, `late-zero` (KEDA's late 0, undone"
            " at once), or `false` (the session was in use)."
        )
    )
    idle_since: datetime | None = Field(description="For a sleep: the last activity before it.")
    interrupted: bool | None = Field(description="For a sleep: whether a program was still working.")
    reason: str | None = Field(description="For a failure: the reason, as Kubernetes reports it.")
    request_id: str | None = Field(description="Id of the request that caused it, as in the log.")

    @classmethod
    def of(cls, entry: Entry) -> Self:
        return cls(
            kind=entry.kind,
            at=entry.at,
            by=entry.by,
            ready_at=entry.ready_at,
            seconds=entry.seconds if entry.seconds is None else round(entry.seconds, 3),
            cause=entry.why,
            idle_since=entry.idle_since,
            interrupted=entry.interrupted if entry.why is not None else None,
            reason=entry.reason,
            request_id=entry.request,
        )


class History(Answer):
    uuid: Uuid
    entries: list[HistoryEntry] = Field(description="Newest first.")

    @classmethod
    def of(cls, uuid: str, entries: Sequence[Entry]) -> Self:
        return cls(uuid=uuid, entries=[HistoryEntry.of(entry) for entry in entries])


class SessionList(Answer):
    sessions: list[Status]
    cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last.")

    @classmethod
    def of(cls, page: Page, behind: timedelta | None, is_outdated: Callable[[Workload], bool]) -> Self:
        sessions = [Status.of(each, behind, outdated=is_outdated(each.workload)) for each in page.sessions]
        return cls(sessions=sessions, cursor=page.cursor)


class ListQuery(Body):
    """A query has no null, so its schema has none: a parameter is left out instead."""

    cursor: Uuid | SkipJsonSchema[None] = Field(None, description="The `cursor` of the previous page.")
    limit: QueryNumber = Field(50, ge=1, le=500, description="Maximum number of sessions per page.", examples=[50])
    user_id: UserId | SkipJsonSchema[None] = None
    phase: Phase | SkipJsonSchema[None] = Field(None, description="Only sessions in this phase.", examples=["ready"])
    awake: QueryFlag | SkipJsonSchema[None] = Field(
        None, description="With `true`, only sessions that have or want a pod. Sleepers then cost nothing.",
        examples=[True],
    )  # fmt: skip


class GroupSummary(Answer):
    group: str = Field(examples=["students"])
    awake: int = Field(ge=0, description="Its sessions that have or want a pod.")
    awake_limit: int = Field(description="How many of them may be awake.")


class NodeCapacity(Answer):
    """What the nodes that take pods of sessions have, and what the pods of awake sessions request of it.

    Of the nodes that exist now: what an autoscaler could add is not counted. Other pods on these nodes are not either,
    so `room` is an upper bound.
    """

    at: datetime = Field(description="When the nodes were read.")
    nodes: int = Field(ge=0, description="Nodes that take pods of sessions.")
    nodes_left_out: int = Field(
        ge=0, description="Nodes that are cordoned or not ready, or whose labels or taints keep such pods away."
    )
    cpu: float = Field(ge=0, description="CPUs that these nodes have for pods.", examples=[48])
    cpu_requested: float = Field(ge=0, description="CPUs that awake sessions request on them.", examples=[12.5])
    memory_gib: float = Field(ge=0, description="Memory that these nodes have for pods, in GiB.", examples=[180.4])
    memory_gib_requested: float = Field(ge=0, description="Memory that awake sessions request.", examples=[25])
    pods: int = Field(ge=0, description="Pods that these nodes run at most.", examples=[330])
    pods_requested: int = Field(ge=0, description="Pods of awake sessions on them.", examples=[25])
    session_cpu: float | None = Field(description="CPUs that most sessions request; null if there is no session.")
    session_memory_gib: float | None = Field(description="Memory that most sessions request, in GiB; null likewise.")
    room: int | None = Field(
        description="How many more sessions of that size may be awake, at most; null if there is no session."
    )
    limited_by: Resource | None = Field(description="What runs out first.")

    @classmethod
    def of(cls, found: Capacity) -> Self:
        size = found.size
        return cls(
            at=found.at,
            nodes=found.nodes,
            nodes_left_out=found.left_out,
            cpu=round(found.allocatable.cpu, 3),
            cpu_requested=round(found.requested.cpu, 3),
            memory_gib=round(found.allocatable.memory, 3),
            memory_gib_requested=round(found.requested.memory, 3),
            pods=found.allocatable.pods,
            pods_requested=found.requested.pods,
            session_cpu=None if size is None else round(size.cpu, 3),
            session_memory_gib=None if size is None else round(size.memory, 3),
            room=found.room,
            limited_by=found.limited_by,
        )


class Summary(Answer):
    """All sessions in numbers, at most a few seconds old."""

    at: datetime = Field(description="When they were counted.")
    sessions: int = Field(ge=0, description="Sessions. A deleted one of which only files are kept is none.")
    phases: dict[Phase, int] = Field(description="Sessions in each phase.")
    awake: int = Field(ge=0, description="Sessions that have or want a pod.")
    awake_limit: int | None = Field(description="How many may be awake in all (`AWAKE_LIMIT`); null: any number.")
    groups: list[GroupSummary] = Field(description="Groups with a limit of their own (`AWAKE_LIMITS`).")
    woken_last_hour: int = Field(ge=0, description="Awake sessions whose pod was created within the last hour.")
    wakes_last_hour: int = Field(
        ge=0, description="Wakes within the last hour, of sessions that sleep again, too; 10,000 at most."
    )
    wakes_pending: int = Field(ge=0, description="Wakes whose pod is not ready.")
    oldest_pending_seconds: float = Field(ge=0, description="Age of the oldest of these wakes; 0 if there is none.")
    parked: int = Field(ge=0, description="Sleeping sessions that KEDA does not poll.")
    capacity: NodeCapacity | None = Field(
        description="Room on the nodes; null unless the service may see nodes (`CLUSTER_FACTS`), and while the API"
        " server does not answer."
    )
    users_namespace: str = Field(description="Namespace of the sessions' releases and pods.")
    behind_seconds: float | None = Field(
        description="Maximum age of the cluster's data in this response while the watch is behind; otherwise null."
    )

    @classmethod
    def of(
        cls,
        counts: SessionCounts,
        *,
        wakes: int,
        limits: AwakeLimits,
        capacity: Capacity | Unseen,
        namespace: str,
        behind: timedelta | None,
    ) -> Self:
        return cls(
            at=counts.at,
            sessions=counts.phases.total(),
            phases={phase: counts.phases[phase] for phase in Phase},
            awake=counts.awake,
            awake_limit=limits.total,
            groups=[
                GroupSummary(group=group, awake=counts.awake_groups[group], awake_limit=limit)
                for group, limit in limits.groups.items()
            ],
            woken_last_hour=counts.woken,
            wakes_last_hour=wakes,
            wakes_pending=counts.waking,
            oldest_pending_seconds=round(max(0.0, counts.oldest_waking.total_seconds()), 1),
            parked=counts.parked,
            capacity=NodeCapacity.of(capacity) if isinstance(capacity, Capacity) else None,
            users_namespace=namespace,
            behind_seconds=None if behind is None else round(behind.total_seconds(), 1),
        )


class OpenQuery(Body):
    to: str = Field(
        "/", pattern=r"^/([!-.0-\[\]-~][!-\[\]-~]*)?$", max_length=2000, examples=["/?folder=/home/coder"],
        description="Path and query in the workspace to which the browser goes.",
    )  # fmt: skip


class Opened(Answer):
    uuid: str
    url: str = Field(description="Opens the workspace in a browser, once. Anyone who has it gets in.")
    expires_at: datetime = Field(description="When the URL expires.")


class AuditEntry(Answer):
    """One request that was to change something, or was refused."""

    at: datetime
    caller: str = Field(
        description=(
            "Name of the API key (`api` if it has none), `person`, `visit` (somebody who is signed in to the workspace,"
            " at the gateway), `program` (`user-pods-keep-awake` in the workspace), or `unknown`: no valid key or token"
            " came."
        ),
        examples=["shop"],
    )
    role: CallerRole | None
    key: str | None = Field(description="Id of the API key.")
    person: str | None = Field(description="User id of the person who has called.")
    operation: str = Field(
        description=(
            "As in this document, or `other`; of a visit also `restart` and `sign_out`, of a program also"
            " `end_extension`."
        ),
        examples=["delete"],
    )
    uuid: Uuid | None = Field(description="Id of the session, as far as the request names or makes one.")
    user_id: str | None = Field(
        description="The session's user, where the service knew that without a look-up; also once it is deleted.",
        examples=["john@example.com"],
    )
    result: str = Field(description="`done`, or the type of the problem that was answered.", examples=["done"])
    status: int
    repeats: int = Field(
        ge=0,
        description=(
            "How many equal requests between the entry before and this one were left out. Of equal refusals, failures"
            " and actions of callers with one user, one a minute is entered, and the last one when that minute is over;"
            " but each sleep and each wake of a sleeping session, up to five a minute of such a caller. Wakes of awake"
            " sessions and reports of activity are not entered."
        ),
    )
    request_id: str = Field(description="Id of the request, as in the log.")

    @classmethod
    def of(cls, entry: Audited) -> Self:
        return cls(
            at=entry.at,
            caller=entry.caller,
            role=CallerRole(entry.role) if entry.role else None,
            key=entry.key,
            person=entry.person,
            operation=entry.operation,
            uuid=entry.uuid,
            user_id=entry.user_id,
            result=entry.result,
            status=entry.status,
            repeats=entry.repeats,
            request_id=entry.request,
        )


class AuditPage(Answer):
    entries: list[AuditEntry] = Field(description="Newest first.")
    cursor: str | None = Field(description="Send it as `cursor` for the next, older page; null on the last.")

    @classmethod
    def of(cls, page: AuditedPage) -> Self:
        return cls(entries=[AuditEntry.of(entry) for entry in page.entries], cursor=page.cursor)


class AuditQuery(Body):
    cursor: Annotated[str, Field(max_length=40)] | SkipJsonSchema[None] = Field(
        None, description="The `cursor` of the previous page.", examples=["1772443800000-0"]
    )
    limit: QueryNumber = Field(50, ge=1, le=500, description="Maximum number of entries per page.", examples=[50])
    uuid: Uuid | SkipJsonSchema[None] = Field(None, description="Only requests about this session.")
    caller: Annotated[str, Field(max_length=254)] | SkipJsonSchema[None] = Field(
        None, description="Only requests of this caller: a key's name, or a person's user id.", examples=["shop"]
    )
    user_id: UserId | SkipJsonSchema[None] = Field(
        None, description="Only requests about sessions of this user, deleted ones included."
    )


class Finding(Answer):
    check: str = Field(description="The check that has found it.", examples=["installation"])
    subject: str = Field(description="Id of a session, name of an object, or a part of the system.")
    severity: Severity
    what: str = Field(description="What is the case.")
    meaning: str = Field(description="What follows from it.")
    next_step: str = Field(description="What to do, for example a command; empty if there is nothing to do.")
    fixable: bool = Field(description="Whether `POST /diagnosis/fix` can mend it.")

    @classmethod
    def of(cls, found: Found) -> Self:
        return cls(
            check=found.check,
            subject=found.subject,
            severity=found.severity,
            what=found.what,
            meaning=found.meaning,
            next_step=found.next_step,
            fixable=found.fixable,
        )


class Diagnosis(Answer):
    at: datetime = Field(description="The service's time.")
    version: str = Field(description="The service's version.")
    workspace_url: str | None = Field(
        description="URL of a workspace with the id 00000000, to try DNS and certificate with; null without a gateway."
    )
    findings: list[Finding]

    @classmethod
    def of(cls, found: Diagnosed, *, version: str, workspace_url: str | None) -> Self:
        findings = [Finding.of(each) for each in found.findings]
        return cls(at=datetime.now(UTC), version=version, workspace_url=workspace_url, findings=findings)


class Fix(Body):
    check: Annotated[StrictStr, Field(max_length=40)] = Field(
        description="The finding's check.", examples=["installation"]
    )
    subject: Annotated[StrictStr, Field(max_length=300)] = Field(
        description="The finding's subject.", examples=["abc123xy"]
    )


class Fixed(Answer):
    check: str
    subject: str
    outcome: Outcome = Field(
        description="`fixed`, `gone` (nothing is wrong there any more), or `left` (only you can mend it)."
    )
    detail: str = Field(description="What was done, or the next step.")

    @classmethod
    def of(cls, fix: Fix, mended: Mended) -> Self:
        return cls(check=fix.check, subject=fix.subject, outcome=mended.outcome, detail=mended.detail)


class WhoAmI(Answer):
    name: str = Field(description="The key's name (`api` if it has none), or the person's user id.", examples=["shop"])
    role: CallerRole = Field(description="What the caller may do.")
    user_id: UserId | None = Field(description="The only user whom the caller may act for; null: everybody.")
    key_required: bool | None = Field(
        description="Whether the service asks for a key or a token. Otherwise everybody on its machine is an operator."
    )


class UpgradeQuery(Body):
    restart: QueryFlag = Field(
        False, description="Upgrade an awake session, too: its pod is replaced if the upgrade changes it.",
        examples=[True],
    )  # fmt: skip


class Upgraded(Answer):
    uuid: Uuid
    action: Literal["upgrade"]
    changed: bool = Field(description="Whether helm had to run.")
    revision: str = Field(description="The revision that the release has now.", examples=["4f0c2a9b81d3"])


class UpgradeAll(Body):
    only_asleep: StrictBool = Field(False, description="End without the sessions that are awake.")
    max_parallel: Whole = Field(2, ge=1, le=64, description="Number of helm processes at the same time.")
    canary: Whole = Field(
        0, ge=0, le=1000,
        description="Number of sessions that go first. The rest follows when their pods have become ready, or by"
        " `POST /upgrade/continue`.",
    )  # fmt: skip
    max_failures: Whole = Field(2, ge=1, le=1000, description="The upgrade stops at the failure of this number.")

    def options(self) -> RolloutOptions:
        return RolloutOptions(**self.model_dump())


class UpgradeCounts(Answer):
    """Sessions that have a release and a user."""

    total: int
    upgraded: int
    asleep: int = Field(description="Out of date and asleep, so that an upgrade takes them next.")
    awake: int = Field(description="Out of date and awake: they are upgraded when they sleep.")
    failed: int = Field(description="Whose upgrade has failed.")
    broken: int = Field(
        description="Whose release has to be repaired first, by a create, or whose profile is not defined any more."
    )


class UpgradeFailure(Answer):
    uuid: Uuid
    reason: str = Field(description="What helm, or the cluster, said.")
    at: datetime


class UpgradeRun(Answer):
    """The last upgrade of all sessions."""

    id: str
    target: str = Field(
        description="Names the chart and the chart values that releases get.", examples=["4f0c2a9b81d3"]
    )
    state: RolloutState
    only_asleep: bool
    max_parallel: int
    canary: int
    max_failures: int
    started_by: str = Field(description="Name of the API key, or `person`.")
    started_at: datetime
    ended_at: datetime | None
    canaries: list[Uuid] = Field(description="The sessions that go first.")
    ready_canaries: list[Uuid] = Field(description="Those of them that have become ready since.")
    failures: list[UpgradeFailure]

    @classmethod
    def of(cls, rollout: Rollout) -> Self:
        options = rollout.options
        return cls(
            id=rollout.id,
            target=rollout.target,
            state=rollout.state,
            only_asleep=options.only_asleep,
            max_parallel=options.max_parallel,
            canary=options.canary,
            max_failures=options.max_failures,
            started_by=rollout.started_by,
            started_at=rollout.started_at,
            ended_at=rollout.ended_at,
            canaries=list(rollout.canaries),
            ready_canaries=list(rollout.ready_canaries),
            failures=[UpgradeFailure(uuid=each.uuid, reason=each.reason, at=each.at) for each in rollout.failures],
        )


class Upgrade(Answer):
    target: str = Field(
        description="Names the chart and the chart values from which this service makes releases.",
        examples=["4f0c2a9b81d3"],
    )
    counts: UpgradeCounts
    run: UpgradeRun | None = Field(description="Null when there was none, or Redis has lost it.")
    seconds_left: int | None = Field(
        description="An estimate of the time until those that are asleep are upgraded, by the pace of this upgrade so"
        " far. Null while it is unknown: when none is under way, ten are not done yet, only canaries go, or nothing is"
        " left but those that are awake."
    )

    @classmethod
    def of(cls, status: RolloutStatus) -> Self:
        counts = status.counts
        return cls(
            target=status.target,
            counts=UpgradeCounts(
                total=counts.total,
                upgraded=counts.upgraded,
                asleep=counts.asleep,
                awake=counts.awake,
                failed=counts.failed,
                broken=counts.broken,
            ),
            run=status.rollout and UpgradeRun.of(status.rollout),
            seconds_left=None if status.time_left is None else round(status.time_left.total_seconds()),
        )


class DeleteQuery(Body):
    keep_data: QueryFlag = Field(True, description="Keep the volume for the user's next session.", examples=[False])


class SleepQuery(Body):
    now: QueryFlag = Field(False, description="Do not wait for pages to save.", examples=[True])


class HealthReport(Answer):
    status: Literal["healthy", "unhealthy"]
    failing: list[str] = Field(default=[], description="Names of the failing parts.")
    parts: dict[str, str] = Field(default={}, description="Each part: `ok`, or what is wrong.")
    remarks: dict[str, str] = Field(default={}, description="What works, but in a degraded way.")


def _seconds(number: float | None) -> timedelta | None:
    return None if number is None else timedelta(seconds=number)


class Alive(Answer):
    status: Literal["ok"] = "ok"


class ProblemError(BaseModel):
    pointer: str = Field(description="JSON pointer into the body, or the parameter's name.")
    detail: str


class Problem(BaseModel):
    """An RFC 9457 problem document."""

    type: str = Field(description="A page about this kind of problem.", examples=["/problems/session-not-found"])
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    instance: str = Field(description="Identifies this occurrence in the log.", examples=["urn:request:4f0c…"])
    part: str | None = Field(None, description="For 503: the part that fails.")
    errors: list[ProblemError] | None = Field(None, description="For 422: each invalid member or parameter.")
