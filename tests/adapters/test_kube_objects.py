"""Which objects make up a session, what each of them means, and how invalid ones are handled."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.adapters.kubernetes.objects import Deployment, Kind, Objects, PodPart, own_address, parse, session_id_of
from service.adapters.kubernetes.pod_addresses import PodAddresses
from service.domain.idle_times import IdleTimes
from service.domain.lifecycle import Step, steps
from service.domain.names import SessionId
from service.domain.phase import Phase
from service.domain.placement import ANYWHERE, Placement, Requirement, Toleration
from service.domain.queue_state import QueueState
from service.domain.record import Record, RecordStatus
from service.domain.session import Session
from service.domain.workload import Requests, Workload
from tests.adapters import samples
from tests.adapters.samples import HASH, UUID, Json

SCHEDULE_TIMEOUT = timedelta(minutes=2)


def together(**objects: list[Json] | Json) -> Workload:
    """The workload of a complete session in which these objects replace the usual ones."""
    found: dict[Kind, Any] = {
        Kind.DEPLOYMENT: samples.deployment(),
        Kind.SCALER: samples.scaler(),
        Kind.CLAIM: samples.claim(),
        Kind.REVISION: samples.revision(),
        Kind.POD: [],
    }
    found |= {Kind[kind.upper()]: items for kind, items in objects.items()}
    parts = Objects()
    for kind, items in found.items():
        for item in items if isinstance(items, list) else [items]:
            if session_id_of(kind, item) == UUID:
                parts.put(kind, item["metadata"]["name"], parse(kind, item))
    return parts.workload(UUID, namespace="users", schedule_timeout=SCHEDULE_TIMEOUT)


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="seconds").replace("+00:00", "Z")


# --- whose it is ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "make", "own", "others"),
    [
        (
            Kind.DEPLOYMENT,
            samples.deployment,
            "user-abc123xy",
            ["user-abc123xy-debug", "user-abc123xyz", "a-user-abc123xy"],
        ),
        (Kind.SCALER, samples.scaler, "user-abc123xy-scaler", ["user-abc123xy", "user-abc123xy-scaler-2"]),
        (Kind.CLAIM, samples.claim, "user-abc123xy", ["user-abc123xy-copy", "user-abc123xy-scaler"]),
        (
            Kind.REVISION,
            samples.revision,
            "sh.helm.release.v1.user-abc123xy.v12",
            ["sh.helm.release.v1.user-abc123xy-debug.v1", "sh.helm.release.v1.user-abc123xy.vx",
             "sh.helm.release.v1.user-abc123xy.v1.bak", "sh.helm.release.v1.user-abc123xy", "user-abc123xy"],
        ),
    ],
)  # fmt: skip
def test_an_object_whose_name_only_starts_like_a_sessions_is_ignored(
    kind: Kind, make: Callable[[str], Json], own: str, others: list[str]
) -> None:
    assert session_id_of(kind, make(own)) == UUID
    assert [session_id_of(kind, make(name)) for name in others] == [None] * len(others)


@pytest.mark.parametrize("owner", [None, f"user-abc123xy-debug-{HASH}", "user-abc123xy", "user-abc123xy-0000000"])
def test_a_pod_that_the_sessions_deployment_did_not_create_is_ignored(owner: str | None) -> None:
    assert session_id_of(Kind.POD, samples.pod()) == UUID
    assert session_id_of(Kind.POD, samples.pod(owner=owner)) is None


def test_a_copy_of_the_deployment_neither_replaces_nor_removes_it() -> None:
    copy = samples.deployment("user-abc123xy-debug", replicas=0)
    assert together(deployment=[samples.deployment(replicas=1), copy]).replicas == 1


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize(
    "item", [{}, {"metadata": None}, {"metadata": {"name": None, "labels": None}}, {"metadata": []}]
)
def test_an_item_that_is_not_an_object_is_ignored(kind: Kind, item: Json) -> None:
    assert session_id_of(kind, item) is None


# --- odd objects ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("replicas", [None, "1", -1, 1.5, True, [], {}])
def test_a_deployment_whose_replicas_are_not_a_number_is_a_read_error_of_its_session(replicas: Any) -> None:
    workload = together(deployment=samples.deployment(replicas=replicas))
    assert workload.phase(is_wanted=False) is Phase.FAILED
    assert workload.final
    assert "spec.replicas" in (workload.read_error or "")
    assert workload.broken_reason is None, "it is there, so nobody needs to make it again"


def test_the_last_valid_state_of_an_object_is_kept_while_it_is_invalid() -> None:
    parts = Objects()
    for item in (samples.deployment(replicas=1), samples.deployment(replicas=None)):
        assert parts.put(Kind.DEPLOYMENT, "user-abc123xy", parse(Kind.DEPLOYMENT, item))
    workload = parts.workload(UUID, namespace="users", schedule_timeout=SCHEDULE_TIMEOUT)
    assert (workload.replicas, workload.read_error is not None) == (1, True)
    assert workload.sign_ins_unknown, "the last version that could be read may lack a revocation"
    assert parts.put(Kind.DEPLOYMENT, "user-abc123xy", parse(Kind.DEPLOYMENT, samples.deployment(replicas=1)))
    assert parts.workload(UUID, namespace="users", schedule_timeout=SCHEDULE_TIMEOUT).read_error is None
    parts.put(Kind.DEPLOYMENT, "user-abc123xy", parse(Kind.DEPLOYMENT, samples.deployment(replicas=None)))
    parts.put(Kind.DEPLOYMENT, "user-abc123xy", None)
    assert not parts


@pytest.mark.parametrize("value", ["", "yesterday", "1772443800", "2026-13-01T00:00:00Z"])
def test_a_revocation_at_no_time_is_reported_by_its_session_and_lets_nobody_in(value: str) -> None:
    deployment = {
        "metadata": {"name": f"user-{UUID}", "labels": {"uuid": UUID}, "annotations": {"user-pods/revoked-at": value}},
        "spec": {"replicas": 1},
    }
    workload = together(deployment=deployment)
    assert "user-pods/revoked-at" in (workload.read_error or "")
    assert "kubectl annotate --overwrite" in (workload.read_error or "")
    assert workload.replicas == 0
    assert workload.earliest_sign_in > 2**40


@pytest.mark.parametrize("cooldown", [-1, "soon", 10**30, float("nan"), True, {}, []])
def test_a_scaler_with_invalid_times_uses_the_defaults_and_reports_it(cooldown: Any) -> None:
    odd = samples.scaler(annotations={"user-pods/lease": "nan"})
    odd["spec"] |= {"cooldownPeriod": cooldown, "pollingInterval": 0}
    workload = together(scaler=odd)
    assert workload.idle_times == IdleTimes(cooldown=timedelta(seconds=300), poll=timedelta(seconds=30))
    for name in ("user-pods/lease", "cooldownPeriod", "pollingInterval"):
        assert name in (workload.warning or "")
    assert workload.phase(is_wanted=False) is not Phase.FAILED


def test_missing_times_are_not_reported_as_invalid() -> None:
    bare = samples.scaler()
    bare["spec"] = {}
    assert together(scaler=bare).warning is None


@pytest.mark.parametrize("odd", [None, [], "x", 1, {"a": None}, [None], [{}], [{"type": None}]])
@pytest.mark.parametrize(
    ("kind", "path"),
    [
        *((Kind.POD, path) for path in (
            "spec", "spec.containers", "status", "status.conditions", "status.containerStatuses", "status.podIP",
            "metadata.creationTimestamp", "metadata.annotations", "status.phase",
        )),
        *((Kind.DEPLOYMENT, path) for path in (
            "status", "status.conditions", "metadata.annotations", "metadata.managedFields",
        )),
        *((Kind.SCALER, path) for path in (
            "spec", "status", "status.lastActiveTime", "status.conditions", "metadata.annotations",
        )),
        (Kind.CLAIM, "metadata.annotations"),
        (Kind.REVISION, "metadata.creationTimestamp"),
    ],
)  # fmt: skip
def test_an_invalid_field_does_not_affect_other_sessions(kind: Kind, path: str, odd: Any) -> None:
    make = {Kind.POD: samples.pod, Kind.DEPLOYMENT: samples.deployment, Kind.SCALER: samples.scaler,
            Kind.CLAIM: samples.claim, Kind.REVISION: samples.revision}[kind]  # fmt: skip
    item = make()
    *parents, last = path.split(".")
    inner = item
    for name in parents:
        inner = inner.setdefault(name, {})
    inner[last] = odd
    workload = together(**{kind.name.lower(): item})
    assert workload.read_error is None
    assert workload.phase(is_wanted=False) in (Phase.WAKING, Phase.READY, Phase.ASLEEP)


def test_a_pod_without_an_identity_is_reported_and_its_session_continues() -> None:
    nameless = samples.pod()
    del nameless["metadata"]["uid"]
    workload = together(pod=nameless)
    assert (workload.pod, workload.read_error, workload.final) == (None, None, False)
    assert "metadata.uid is missing" in (workload.failure or "")


@pytest.mark.parametrize("stamp", ["yesterday", "0000-00-00T00:00:00Z", "9999-12-31T23:59:59-23:59", "", "2026"])
def test_an_invalid_time_is_unknown(stamp: str) -> None:
    late = samples.scaler()
    late["status"]["lastActiveTime"] = stamp
    assert together(scaler=late).last_active is None


PAUSED, PAUSED_REPLICAS, MARK = "autoscaling.keda.sh/paused", "autoscaling.keda.sh/paused-replicas", "user-pods/parked"
OURS, FORMER, KUBECTL = "user-pods", "OpenAPI-Generator", "kubectl-annotate"


def annotated(notes: dict[str, str], writers: dict[str, str] | None = None) -> Json:
    """A ScaledObject with annotations; `writers`: the field managers that have set them."""
    by_manager: dict[str, Json] = {}
    for name, manager in (writers or {}).items():
        by_manager.setdefault(manager, {})[f"f:{name}"] = {}
    managed = [
        {"manager": manager, "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:metadata": {"f:annotations": fields}}}
        for manager, fields in by_manager.items()
    ]
    return samples.scaler(annotations=notes, managedFields=managed)


PARK = {PAUSED: "true", MARK: "true"}


@pytest.mark.parametrize(
    ("scaler", "parked", "removed"),
    [
        pytest.param(annotated({}), False, "", id="neither"),
        pytest.param(annotated(PARK, {PAUSED: OURS, MARK: OURS}), True, "", id="a park"),
        pytest.param(annotated(PARK), True, "", id="a park, and the API server names no managers"),
        pytest.param(annotated(PARK, {PAUSED: "velero", MARK: "velero"}), True, "", id="a park out of a backup"),
        pytest.param(annotated({PAUSED: "true"}, {PAUSED: FORMER}), True, "", id="a park of a former version"),
        pytest.param(annotated({PAUSED: "true"}, {PAUSED: KUBECTL}), False, f"{PAUSED}-", id="an operator"),
        pytest.param(annotated({PAUSED: "true"}), False, f"{PAUSED}-", id="somebody unknown"),
        pytest.param(annotated(PARK, {PAUSED: OURS, MARK: "velero"}), True, "", id="a park beside a restored mark"),
        pytest.param(annotated({PAUSED: "true"}, {PAUSED: OURS}), True, "", id="a park without a mark"),
        pytest.param(
            annotated(PARK, {PAUSED: KUBECTL, MARK: OURS}), False, f"{PAUSED}-", id="an operator, beside an old mark"
        ),
        pytest.param(annotated({PAUSED: "1"}, {PAUSED: KUBECTL}), False, f"{PAUSED}-", id="1"),
        pytest.param(annotated({PAUSED: "yes"}, {PAUSED: KUBECTL}), False, f"{PAUSED}-", id="no truth value"),
        pytest.param(annotated({PAUSED: "false"}, {PAUSED: KUBECTL}), False, "", id="false"),
        pytest.param(annotated({**PARK, PAUSED: "False"}, {MARK: OURS}), False, "", id="a park made false"),
        pytest.param(annotated({MARK: "true"}, {MARK: OURS}), False, "", id="a mark alone"),
        pytest.param(annotated({PAUSED_REPLICAS: "0"}), False, f"{PAUSED_REPLICAS}-", id="a number"),
        pytest.param(
            annotated({**PARK, PAUSED_REPLICAS: "0"}, {PAUSED: OURS, MARK: OURS}), True, f"{PAUSED_REPLICAS}-",
            id="a number beside a park",
        ),
        pytest.param(
            annotated({PAUSED: "true", PAUSED_REPLICAS: "0"}, {PAUSED: KUBECTL}), False,
            f"{PAUSED}- {PAUSED_REPLICAS}-", id="both",
        ),
    ],
)  # fmt: skip
def test_an_operators_pause_is_distinguished_from_a_park(scaler: Json, parked: bool, removed: str) -> None:
    workload = together(scaler=scaler, deployment=samples.deployment(replicas=0))
    assert workload.parked is parked
    assert workload.polled is not (parked or bool(removed))
    if removed:
        assert f"`kubectl -n users annotate scaledobject user-{UUID}-scaler {removed}`" in (workload.paused or "")
    else:
        assert workload.paused is None


@pytest.mark.parametrize("notes", [{PAUSED: "true"}, {PAUSED_REPLICAS: "0"}])
def test_a_pause_of_an_operator_is_shown_and_left_alone_until_it_is_removed(notes: dict[str, str]) -> None:
    held = samples.scaler(annotations=notes)
    workload = together(scaler=held, deployment=samples.deployment(replicas=0))
    now = datetime.now(UTC)
    woken = QueueState(1, now, pending_since=now)
    assert not steps(workload, woken, now=now, parking=True)
    session = Session(Record(UUID, "ann", RecordStatus.CREATED, now, queue=woken), workload)
    assert (session.phase, session.reason, session.warning) == (Phase.WAKING, workload.paused, workload.paused)
    free = together(deployment=samples.deployment(replicas=0))
    assert free.paused is None
    # The wake was held meanwhile, also when its lease has run out.
    assert Step.SCALE_UP in steps(free, QueueState(0, None, pending_since=now), now=now, parking=True)


# --- a pod that does not get ready ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reason",
    ["ErrImagePull", "ImagePullBackOff", "CrashLoopBackOff", "CreateContainerError", "CreateContainerConfigError",
     "RunContainerError"],
)  # fmt: skip
def test_what_kubernetes_retries_is_reported_early_and_is_not_final(reason: str) -> None:
    workload = together(pod=samples.pod(**samples.waiting(reason, "registry answers 503")))
    assert workload.phase(is_wanted=True) is Phase.FAILED
    assert (workload.failure, workload.final) == (f"{reason}: registry answers 503", False)


@pytest.mark.parametrize("reason", ["InvalidImageName", "ErrImageNeverPull"])
def test_what_no_retry_can_fix_is_final(reason: str) -> None:
    workload = together(pod=samples.pod(**samples.waiting(reason)))
    assert (workload.failure, workload.final) == (reason, True)


def test_a_crash_loop_reports_how_the_program_exited() -> None:
    end = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    workload = together(pod=samples.pod(**samples.waiting("CrashLoopBackOff", lastState=end)))
    assert "OOMKilled, exit code 137" in (workload.failure or "")


@pytest.mark.parametrize("reason", ["Evicted", "OutOfcpu", "OutOfmemory", "NodeAffinity", "UnexpectedAdmissionError"])
def test_an_evicted_pod_is_a_final_failure_unless_it_is_replaced(reason: str) -> None:
    status = {"phase": "Failed", "reason": reason, "message": "the node says no"}
    lasting = together(pod=samples.pod(**status, startTime=ago(10)))
    assert (lasting.failure, lasting.final) == (f"{reason}: the node says no", True)
    just_now = together(pod=samples.pod(**status, startTime=ago(0)))
    assert (just_now.failure is not None, just_now.final) == (True, False), "its ReplicaSet makes another one"


def test_the_replacement_of_an_evicted_pod_counts() -> None:
    evicted = samples.pod("a", phase="Failed", reason="Evicted", startTime=ago(60))
    evicted["metadata"]["creationTimestamp"] = "2026-01-01T00:00:09Z"
    other = samples.pod("b", phase="Running")
    other["metadata"]["uid"] = "pod-2"
    workload = together(pod=[evicted, other])
    assert workload.pod is not None
    assert (workload.pod.uid, workload.failure) == ("pod-2", None)


def test_a_pod_that_failed_in_an_earlier_life_does_not_count() -> None:
    """A ReplicaSet that is scaled to 0 leaves failed pods where they are."""
    old = samples.pod(phase="Failed", reason="Evicted", startTime=ago(3600))
    old["metadata"]["creationTimestamp"] = ago(7200)
    scaled = {"manager": "user-pods", "time": ago(1), "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    workload = together(pod=old, deployment=samples.deployment(managedFields=[scaled]))
    assert (workload.pod, workload.failure) == (None, None)
    assert workload.phase(is_wanted=True) is Phase.WAKING


def test_an_unschedulable_pod_stays_waking_and_is_reported_after_a_while() -> None:
    early = together(pod=samples.pod(**samples.unscheduled(ago(10))))
    assert early.phase(is_wanted=True) is Phase.WAKING
    assert (early.blocker, early.warning) == ("Unschedulable: 0/3 nodes are available", None)
    late = together(pod=samples.pod(**samples.unscheduled(ago(3600))))
    assert late.phase(is_wanted=True) is Phase.WAKING
    assert (late.blocker, late.failure) == (early.blocker, None)
    assert "more than 120 s: Unschedulable: 0/3 nodes are available" in (late.warning or "")


def test_a_pod_without_a_volume_is_reported_with_what_to_check() -> None:
    message = "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims."
    workload = together(pod=samples.pod(**samples.unscheduled(ago(10), message)))
    assert workload.blocker is not None
    assert workload.blocker.startswith(f"Unschedulable: {message}")
    assert "does the cluster have a default StorageClass" in workload.blocker
    other = together(pod=samples.pod(**samples.unscheduled(ago(10), "0/3 nodes are available: 3 Insufficient cpu.")))
    assert "StorageClass" not in (other.blocker or "")


def test_a_pod_that_its_node_is_slow_to_prepare_is_reported_after_a_while_and_not_before() -> None:
    def creating(since: str) -> Workload:
        bound = {"type": "PodScheduled", "status": "True", "lastTransitionTime": since}
        return together(pod=samples.pod(conditions=[bound], **samples.waiting("ContainerCreating")))

    assert (creating(ago(10)).blocker, creating(ago(10)).warning) == (None, None)
    assert "ContainerCreating" in (creating(ago(600)).warning or "")
    assert creating(ago(600)).phase(is_wanted=True) is Phase.WAKING


def test_a_pod_has_an_address_of_its_own_unless_it_shares_its_nodes_or_has_failed() -> None:
    item = samples.pod(podIP="10.0.0.1")
    pod = parse(Kind.POD, item)
    assert isinstance(pod, PodPart)
    assert own_address(pod) == "10.0.0.1"
    assert own_address(replace(pod, host_network=True)) is None
    assert own_address(replace(pod, failed=True)) is None
    shared = parse(Kind.POD, {**item, "spec": {**item["spec"], "hostNetwork": True}})
    assert own_address(shared) is None


def test_an_address_of_two_sessions_pods_is_nobodys() -> None:
    known, (one, two) = PodAddresses(), map(SessionId, ("aaaaaaaa", "bbbbbbbb"))
    known.put("a-1", one, "10.0.0.1")
    known.put("a-2", one, "10.0.0.1")
    assert known.session("10.0.0.1") == one
    known.put("b-1", two, "10.0.0.1")
    assert known.session("10.0.0.1") is None
    known.put("a-1", one, None)
    known.put("a-2", one, "10.0.0.2")
    assert (known.session("10.0.0.1"), known.session("10.0.0.2")) == (two, one)
    known.put("b-1", two, None)
    assert known.session("10.0.0.1") is None


@pytest.mark.parametrize(
    ("containers", "expected"),
    [
        ([{"resources": {"requests": {"cpu": "100m", "memory": "256Mi"}}}], Requests(cpu=0.1, memory=0.25)),
        ([{"resources": {"requests": {"cpu": "1"}}}, {"resources": {"requests": {"memory": "1G"}}}, {}],
         Requests(cpu=1, memory=1e9 / 2**30)),
        ([{"resources": {"requests": {"cpu": 2, "memory": 2**31}}}], Requests(cpu=2, memory=2)),
        ([], Requests(cpu=0, memory=0)),
        ("x", Requests(cpu=0, memory=0)),
        ([{"resources": {"requests": {"cpu": "lots"}}}], None),
        ([{"resources": {"requests": {"memory": "NaN"}}}], None),
        ([{"resources": {"requests": {"memory": "-1Gi"}}}], None),
        ([{"resources": {"requests": {"cpu": {"a": 1}}}}], None),
        ([{"resources": {"requests": {"cpu": "9" * 400}}}], None),
    ],
)  # fmt: skip
def test_what_a_pod_requests_is_the_sum_of_its_containers(containers: Any, expected: Requests | None) -> None:
    item = samples.deployment()
    item["spec"]["template"] = {"spec": {"containers": containers}}
    part = parse(Kind.DEPLOYMENT, item)
    assert isinstance(part, Deployment)
    assert part.requests == expected


def test_a_pod_has_the_requests_that_it_got_and_a_sleeper_those_of_its_deployment() -> None:
    sizes = ({"cpu": "1"}, {"cpu": "2"})
    deployment, pod = samples.deployment(), samples.pod()
    deployment["spec"]["template"] = {"spec": {"containers": [{"resources": {"requests": sizes[0]}}]}}
    pod["spec"]["containers"] = [{"resources": {"requests": sizes[1]}}]
    assert together(deployment=deployment).requests == Requests(cpu=1, memory=0)
    found = together(deployment=deployment, pod=pod)
    assert found.requests == Requests(cpu=2, memory=0)
    assert found.pod is not None
    assert found.pod.node == "n"


def placed(**pod: Any) -> Placement:
    item = samples.deployment()
    item["spec"]["template"] = {"spec": pod}
    part = parse(Kind.DEPLOYMENT, item)
    assert isinstance(part, Deployment)
    return part.placement


def test_where_a_pod_may_run_is_read_from_selector_affinity_and_tolerations() -> None:
    assert placed() == ANYWHERE
    wanted: Json = {"key": "zone", "operator": "NotIn", "values": ["x", 7]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [wanted]}, {}]}
    found = placed(
        nodeSelector={"pool": "users"},
        affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}},
        tolerations=[
            {"key": "users", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "a", "value": "b"},
            {"operator": "Exists"},
        ],
    )
    assert found == Placement(
        tolerations=(Toleration("users", None, "NoSchedule"), Toleration("a", "b", ""), Toleration("", None, "")),
        terms=((Requirement("pool", "In", ("users",)), Requirement("zone", "NotIn", ("x",))),),
    )
    # The same object for all sessions with it.
    assert placed(nodeSelector={"a": "b"}) is placed(nodeSelector={"a": "b"})
    none: Json = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{}]}}}
    assert not placed(affinity=none).accepts({"any": "label"}, [])


@pytest.mark.parametrize("junk", [None, 7, "x", [7], {"nodeAffinity": [], "a": 7}])
def test_a_malformed_placement_means_anywhere(junk: Any) -> None:
    found = placed(nodeSelector=junk if not isinstance(junk, dict) else {"a": 7}, affinity=junk, tolerations=junk)
    assert found.accepts({}, [])
