"""What the service answers. Made by `make generated`; a test compares it with the service."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from user_pods_client.decoding import Model

CallerRole = Literal["operator", "frontend", "viewer", "user"]
ExpiryReason = Literal["lifetime", "dormancy"]
Kind = Literal["wake", "sleep", "failure", "revocation", "upgrade", "deletion-warning"]
Outcome = Literal["fixed", "gone", "left"]
Phase = Literal["asleep", "waking", "ready", "failed", "deleting", "released"]
RecordStatus = Literal["created", "released", "deleting"]
ReleaseState = Literal[
    "unknown",
    "deployed",
    "uninstalled",
    "superseded",
    "failed",
    "uninstalling",
    "pending-install",
    "pending-upgrade",
    "pending-rollback",
]
Resource = Literal["cpu", "memory", "pods"]
RolloutState = Literal["running", "waiting-for-canary", "stopped", "failed", "done"]
Severity = Literal["ok", "warning", "error"]
SleepReason = Literal["idle", "asked", "operator", "late-zero", "false"]
Stage = Literal[
    "accepted", "unparked", "scaled", "scheduled", "pulled", "started", "ready", "warning", "failed", "asleep"
]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Action(Model):
    uuid: str
    """Id of the session."""
    action: Literal["wake", "sleep", "activity", "extend"]
    queue_length: int | None = None
    """Tokens in the wake queue after a wake."""
    kept_until: datetime | None = None
    """After an extension: until when the pod stays awake."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Alive(Model):
    status: Literal["ok"] = "ok"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AuditEntry(Model):
    """One request that was to change something, or was refused."""

    at: datetime
    caller: str
    """Name of the API key (`api` if it has none), `person`, `visit` (somebody who is signed in to the workspace, at
    the gateway), `program` (`user-pods-keep-awake` in the workspace), or `unknown`: no valid key or token came."""
    role: CallerRole | None
    key: str | None
    """Id of the API key."""
    person: str | None
    """User id of the person who has called."""
    operation: str
    """As in this document, or `other`; of a visit also `restart` and `sign_out`, of a program also
    `end_extension`."""
    uuid: str | None
    """Id of the session, as far as the request names or makes one."""
    user_id: str | None
    """The session's user, where the service knew that without a look-up; also once it is deleted."""
    result: str
    """`done`, or the type of the problem that was answered."""
    status: int
    repeats: int
    """How many equal requests between the entry before and this one were left out. Of equal refusals, failures and
    actions of callers with one user, one a minute is entered, and the last one when that minute is over; but each
    sleep and each wake of a sleeping session, up to five a minute of such a caller. Wakes of awake sessions and
    reports of activity are not entered."""
    request_id: str
    """Id of the request, as in the log."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AuditPage(Model):
    entries: list[AuditEntry]
    """Newest first."""
    cursor: str | None
    """Send it as `cursor` for the next, older page; null on the last."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CreatedSession(Model):
    uuid: str
    """Id of the session."""
    user_id: str
    """The user's name: 1 to 254 printable ASCII characters without spaces; case is kept."""
    status: Literal["created"] = "created"
    profile: str | None
    """The profile that the session has; null if it has none."""
    group: str | None
    """The group that the session counts for; null: none."""
    warning: str | None
    """What may be a mistake: other groups have a limit (`AWAKE_LIMITS`), and this one has none."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Diagnosis(Model):
    at: datetime
    """The service's time."""
    version: str
    """The service's version."""
    workspace_url: str | None
    """URL of a workspace with the id 00000000, to try DNS and certificate with; null without a gateway."""
    findings: list[Finding]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Finding(Model):
    check: str
    """The check that has found it."""
    subject: str
    """Id of a session, name of an object, or a part of the system."""
    severity: Severity
    what: str
    """What is the case."""
    meaning: str
    """What follows from it."""
    next_step: str
    """What to do, for example a command; empty if there is nothing to do."""
    fixable: bool
    """Whether `POST /diagnosis/fix` can mend it."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Fixed(Model):
    check: str
    subject: str
    outcome: Outcome
    """`fixed`, `gone` (nothing is wrong there any more), or `left` (only you can mend it)."""
    detail: str
    """What was done, or the next step."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class GroupSummary(Model):
    group: str
    awake: int
    """Its sessions that have or want a pod."""
    awake_limit: int
    """How many of them may be awake."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class HealthReport(Model):
    status: Literal["healthy", "unhealthy"]
    failing: list[str] = field(default_factory=list)
    """Names of the failing parts."""
    parts: dict[str, str] = field(default_factory=dict)
    """Each part: `ok`, or what is wrong."""
    remarks: dict[str, str] = field(default_factory=dict)
    """What works, but in a degraded way."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class History(Model):
    uuid: str
    """Id of the session."""
    entries: list[HistoryEntry]
    """Newest first."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class HistoryEntry(Model):
    """One wake, sleep, failure, revocation or upgrade; what does not belong to its kind is null."""

    kind: Kind
    at: datetime
    """When it happened; for a wake, when it was accepted; for an upgrade, when it began."""
    by: str | None
    """Who requested the wake, sleep, revocation or upgrade: the name of the API key (`api` if it has none), `person`
    (by a token of the identity provider), `visit` (a browser at the gateway), `queue` (a push by another program) or
    `operator` (a scale by hand). Null if nobody did: the pod was replaced or restored, or nobody used it; and for a
    sleep that an earlier version entered."""
    ready_at: datetime | None
    """For a wake: when its pod became ready; null if it never did. For an upgrade that replaced a pod: when the new
    one became ready."""
    seconds: float | None
    """For a wake: from accepted to ready. For an upgrade: from the new pod's creation to ready. For a sleep: how long
    the session had been awake."""
    cause: SleepReason | None
    """For a sleep: `idle`, `asked` (a call to sleep), `operator`, `late-zero` (KEDA's late 0, undone at once), or
    `false` (the session was in use)."""
    idle_since: datetime | None
    """For a sleep: the last activity before it."""
    interrupted: bool | None
    """For a sleep: whether a program was still working."""
    reason: str | None
    """For a failure: the reason, as Kubernetes reports it."""
    request_id: str | None
    """Id of the request that caused it, as in the log."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class IdleTimes(Model):
    """This session's idle times, where they differ from the defaults."""

    cooldown: int | None = None
    """Seconds without activity until the pod sleeps."""
    lease: float | None = None
    """Seconds for which one wake or activity keeps the queue non-empty."""
    poll: int | None = None
    """Seconds between two polls by KEDA."""
    background: float | None = None
    """Seconds after the last activity for which a working program keeps the pod awake; 0: it does not."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class NodeCapacity(Model):
    """What the nodes that take pods of sessions have, and what the pods of awake sessions request of it.  Of the
    nodes that exist now: what an autoscaler could add is not counted. Other pods on these nodes are not either, so
    `room` is an upper bound."""

    at: datetime
    """When the nodes were read."""
    nodes: int
    """Nodes that take pods of sessions."""
    nodes_left_out: int
    """Nodes that are cordoned or not ready, or whose labels or taints keep such pods away."""
    cpu: float
    """CPUs that these nodes have for pods."""
    cpu_requested: float
    """CPUs that awake sessions request on them."""
    memory_gib: float
    """Memory that these nodes have for pods, in GiB."""
    memory_gib_requested: float
    """Memory that awake sessions request."""
    pods: int
    """Pods that these nodes run at most."""
    pods_requested: int
    """Pods of awake sessions on them."""
    session_cpu: float | None
    """CPUs that most sessions request; null if there is no session."""
    session_memory_gib: float | None
    """Memory that most sessions request, in GiB; null likewise."""
    room: int | None
    """How many more sessions of that size may be awake, at most; null if there is no session."""
    limited_by: Resource | None
    """What runs out first."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Opened(Model):
    uuid: str
    url: str
    """Opens the workspace in a browser, once. Anyone who has it gets in."""
    expires_at: datetime
    """When the URL expires."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ProfileList(Model):
    profiles: list[ProfileView]
    """Those that the caller may choose."""
    default: str | None
    """The profile of sessions whose creator chooses none; null: none."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ProfileView(Model):
    name: str
    description: str
    """What it is for, in the operator's words."""
    cooldown_limit: float | None
    """Longest cooldown in seconds of its sessions; null if there is no limit of its own."""
    background_limit: float | None
    """The same for the time that a working program keeps the pod awake."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ProgressEvent(Model):
    """The data of one server-sent event; its name is the `phase` too."""

    phase: Stage | Phase
    """The stage that the wake has reached, a `warning` from Kubernetes, or, if no wake is known, the session's
    current phase."""
    at: datetime
    seconds: float | None
    """Time since the wake was accepted; null if no wake is known."""
    reason: str | None
    """With `warning` and `failed`: the reason, as Kubernetes reports it."""
    final: bool
    """With `failed`: true if waiting does not help. False while Kubernetes retries; the stream then continues."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ReleaseView(Model):
    name: str
    revision: int
    state: ReleaseState
    chart: str | None
    """Chart and version, for example `user-pod-0.1.0`."""
    made_from: str | None = None
    """Names the chart and the chart values that it was made from; null if unknown."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Revoked(Model):
    uuid: str
    """Id of the session."""
    action: Literal["revoke"]
    revoked_at: datetime
    """Links and sign-ins from before this time, and within its second, are refused."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SessionList(Model):
    sessions: list[Status]
    cursor: str | None
    """Send it as `cursor` for the next page; null on the last."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SessionRecord(Model):
    user_id: str
    """The user's name: 1 to 254 printable ASCII characters without spaces; case is kept."""
    status: RecordStatus
    """State of the record; the pod's life is in `phase`."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Spared(Model):
    uuid: str
    """Id of the session."""
    action: Literal["keep"]
    spared_until: datetime
    """The session is not deleted before; an earlier call may reach further."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Status(Model):
    uuid: str
    """Id of the session."""
    session: SessionRecord
    queue_length: int
    """Wake tokens that have not expired."""
    replicas: int
    """Desired pods: 0 asleep, 1 awake."""
    ready_replicas: int
    """Pods that are ready."""
    phase: Phase
    reason: str | None
    """Why the phase is `failed`, or what delays a wake in progress."""
    final: bool
    """With phase `failed`: true if waiting does not help, false while Kubernetes retries."""
    warning: str | None
    """A problem that needs attention although nothing has failed permanently, mainly what has delayed the pod for
    longer than `SCHEDULE_TIMEOUT`. Otherwise null."""
    release: ReleaseView | None
    """The Helm release; null if it was removed."""
    profile: str | None
    """Name of the session's profile; null if it has none."""
    group: str | None
    """Group whose limit on awake sessions it counts for; null: none."""
    created_at: datetime
    awake_since: datetime | None
    """When the pod of an awake session was created; otherwise null."""
    last_activity: datetime | None
    """The last wake or other activity; null before the first."""
    activity_source: str | None
    """Its source: `wake`, or the source that the caller reported."""
    sleeps_at: datetime | None
    """The earliest time at which the pod sleeps without further activity; it is asleep at most two polls and 2 s
    later. Null while asleep, and while the queue has no expiry."""
    kept_awake_by: str | None
    """`extension`, the source of the last activity, `background` (a program works in the pod), `queue` (tokens pushed
    by another program), or `cooldown`."""
    kept_until: datetime | None
    """End of the extension that keeps the pod awake; null without one."""
    deletes_at: datetime | None
    """When the service deletes the session if nothing changes (`SESSION_LIFETIME`, `SESSION_DORMANCY`); a wake or
    `keep` may move it. Null: never, or nobody can say: while it is awake (unless `SESSION_LIFETIME` is set), broken,
    released or paused."""
    deletes_because: ExpiryReason | None
    """`lifetime`: since its creation; `dormancy`: since it was last awake. Null without `deletes_at`."""
    deletion_warning: bool = False
    """Whether that is so soon that its user is being warned."""
    spared_until: datetime | None = None
    """End of the time for which `keep` keeps it; null without."""
    parked: bool
    """Whether the session is parked, so that KEDA does not poll it."""
    outdated: bool | None
    """Whether the release was made from another chart or other chart values than new ones are; null without one."""
    behind_seconds: float | None
    """Maximum age of the cluster's data in this response while the watch is behind; otherwise null."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Summary(Model):
    """All sessions in numbers, at most a few seconds old."""

    at: datetime
    """When they were counted."""
    sessions: int
    """Sessions. A deleted one of which only files are kept is none."""
    phases: dict[str, int]
    """Sessions in each phase."""
    awake: int
    """Sessions that have or want a pod."""
    awake_limit: int | None
    """How many may be awake in all (`AWAKE_LIMIT`); null: any number."""
    groups: list[GroupSummary]
    """Groups with a limit of their own (`AWAKE_LIMITS`)."""
    woken_last_hour: int
    """Awake sessions whose pod was created within the last hour."""
    wakes_last_hour: int
    """Wakes within the last hour, of sessions that sleep again, too; 10,000 at most."""
    wakes_pending: int
    """Wakes whose pod is not ready."""
    oldest_pending_seconds: float
    """Age of the oldest of these wakes; 0 if there is none."""
    parked: int
    """Sleeping sessions that KEDA does not poll."""
    capacity: NodeCapacity | None
    """Room on the nodes; null unless the service may see nodes (`CLUSTER_FACTS`), and while the API server does not
    answer."""
    users_namespace: str
    """Namespace of the sessions' releases and pods."""
    behind_seconds: float | None
    """Maximum age of the cluster's data in this response while the watch is behind; otherwise null."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Upgrade(Model):
    target: str
    """Names the chart and the chart values from which this service makes releases."""
    counts: UpgradeCounts
    run: UpgradeRun | None
    """Null when there was none, or Redis has lost it."""
    seconds_left: int | None
    """An estimate of the time until those that are asleep are upgraded, by the pace of this upgrade so far. Null
    while it is unknown: when none is under way, ten are not done yet, only canaries go, or nothing is left but those
    that are awake."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class UpgradeCounts(Model):
    """Sessions that have a release and a user."""

    total: int
    upgraded: int
    asleep: int
    """Out of date and asleep, so that an upgrade takes them next."""
    awake: int
    """Out of date and awake: they are upgraded when they sleep."""
    failed: int
    """Whose upgrade has failed."""
    broken: int
    """Whose release has to be repaired first, by a create, or whose profile is not defined any more."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class UpgradeFailure(Model):
    uuid: str
    """Id of the session."""
    reason: str
    """What helm, or the cluster, said."""
    at: datetime


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class UpgradeRun(Model):
    """The last upgrade of all sessions."""

    id: str
    target: str
    """Names the chart and the chart values that releases get."""
    state: RolloutState
    only_asleep: bool
    max_parallel: int
    canary: int
    max_failures: int
    started_by: str
    """Name of the API key, or `person`."""
    started_at: datetime
    ended_at: datetime | None
    canaries: list[str]
    """The sessions that go first."""
    ready_canaries: list[str]
    """Those of them that have become ready since."""
    failures: list[UpgradeFailure]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Upgraded(Model):
    uuid: str
    """Id of the session."""
    action: Literal["upgrade"]
    changed: bool
    """Whether helm had to run."""
    revision: str
    """The revision that the release has now."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class WhoAmI(Model):
    name: str
    """The key's name (`api` if it has none), or the person's user id."""
    role: CallerRole
    """What the caller may do."""
    user_id: str | None
    """The only user whom the caller may act for; null: everybody."""
    key_required: bool | None
    """Whether the service asks for a key or a token. Otherwise everybody on its machine is an operator."""
