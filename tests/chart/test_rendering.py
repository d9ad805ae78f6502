"""What the chart renders, with both helms: every ci file, ids that look like numbers, refused values, documentation."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.cluster import Cluster
from stack import workspace
from tests.chart.conftest import ADDRESS, CHART, Helm
from tests.conftest import free_port
from tests.devcluster.test_node import busybox

FILES = sorted((CHART / "ci").glob("*-values.yaml"))
RELEASE = "user-ab12cd34"


def kinds(objects: list[dict[str, Any]]) -> set[str]:
    return {item["kind"] for item in objects}


def one(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = [item for item in objects if item["kind"] == kind]
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.removesuffix("-values.yaml"))
def test_every_ci_file_satisfies_the_real_schemas(live: Helm, cluster: Cluster, file: Path) -> None:
    """The API server itself judges, strictly, with KEDA's schemas: nothing is stored."""
    done = live.try_("template", RELEASE, str(CHART), "--values", str(file))
    assert done.returncode == 0, done.stderr
    argv = ["-n", live.namespace, "apply", "--dry-run=server", "--validate=strict", "-f", "-"]
    cluster.kubectl(*argv, stdin=done.stdout)


def test_an_images_tag_that_looks_like_a_number_is_text(helm: Helm) -> None:
    """The images' tags are digits of a hash: one in seventy looks like a float."""
    values = workspace.text({"image": {"repository": "localhost/user-pods/tiny", "tag": "99506e83"}})
    deployment = one(helm.render(RELEASE, *ADDRESS, "-f", "-", stdin=values), "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "localhost/user-pods/tiny:99506e83"


def test_a_profile_is_a_label_of_what_stays_and_never_restarts_a_pod(helm: Helm) -> None:
    plain, large = (helm.render(RELEASE, *ADDRESS, "--set-string", f"profile={name}") for name in ("", "large"))
    for kind in ("Deployment", "PersistentVolumeClaim"):
        assert one(large, kind)["metadata"]["labels"].pop("user-pods/profile") == "large"
    assert plain == large


@pytest.mark.parametrize(
    ("file", "more"),
    [
        ("nothing-kept", set()),
        ("default", {"NetworkPolicy", "PersistentVolumeClaim"}),
        ("password", {"NetworkPolicy", "PersistentVolumeClaim", "TriggerAuthentication"}),
        ("volume", {"NetworkPolicy", "PersistentVolumeClaim"}),
        ("existing-claim", {"NetworkPolicy"}),
        ("network-policy", {"NetworkPolicy", "PersistentVolumeClaim"}),
        ("ingress", {"Ingress", "PersistentVolumeClaim"}),
        ("outside", {"Ingress", "NetworkPolicy"}),
        ("service-account", {"NetworkPolicy", "PersistentVolumeClaim", "ServiceAccount"}),
    ],
)
def test_each_feature_adds_its_object_and_no_other(helm: Helm, file: str, more: set[str]) -> None:
    objects = helm.render(RELEASE, "--values", str(CHART / "ci" / f"{file}-values.yaml"))
    assert kinds(objects) == {"Deployment", "Service", "ScaledObject", "Pod"} | more
    objects.remove(one(objects, "Pod"))
    assert {item["metadata"]["name"] for item in objects} == {RELEASE, f"{RELEASE}-scaler"}
    assert {item["metadata"]["labels"]["uuid"] for item in objects} == {"ab12cd34"}


def test_helm_lint_passes_with_one_warning_about_its_release_name(helm: Helm) -> None:
    done = helm.try_("lint", str(CHART), *ADDRESS)
    assert done.returncode == 0, done.stdout
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "name the release user-<uuid>" in done.stderr


def test_without_autoscaling_there_are_no_keda_objects_and_no_helm_test(helm: Helm) -> None:
    found = kinds(helm.render(RELEASE, "--set", "autoscaling.enabled=false"))
    assert found == {"Deployment", "Service", "NetworkPolicy", "PersistentVolumeClaim"}


def test_replicas_and_the_pause_are_never_rendered(helm: Helm) -> None:
    for file in FILES:
        text = json.dumps(helm.render(RELEASE, "--values", str(file)))
        assert '"replicas"' not in text
        assert 'keda.sh/paused":' not in text


@pytest.mark.parametrize("uuid", ["ab12cd34", "12345678", "00000000", "1e234567", "0x123456", "truefals", "null0000"])
@pytest.mark.parametrize("given", [False, True])
def test_an_id_that_looks_like_a_number_survives(helm: Helm, uuid: str, given: bool) -> None:
    objects = helm.render(f"user-{uuid}", *ADDRESS, *(["--set-string", f"uuid={uuid}"] if given else []))
    deployment, scaler = one(objects, "Deployment"), one(objects, "ScaledObject")
    assert deployment["spec"]["template"]["metadata"]["labels"]["uuid"] == uuid
    assert deployment["spec"]["selector"]["matchLabels"]["app.kubernetes.io/instance"] == f"user-{uuid}"
    assert scaler["spec"]["triggers"][0]["metadata"]["listName"] == f"queue:{uuid}"
    assert scaler["spec"]["scaleTargetRef"]["name"] == f"user-{uuid}"


@pytest.mark.parametrize(
    ("release", "uuid", "words"),
    [
        ("user-ab12cd34", "12345678", "belongs to a release user-12345678"),
        ("ab12cd34", "", "belongs to a release user-ab12cd34"),
        ("my-app", "", "name the release user-<uuid>"),
        ("user-ab12cd3", "", "8 characters"),
        ("user-ab12cd345", "", "8 characters"),
        ("user-ab-2cd34", "", "8 characters"),
    ],
)
def test_a_name_or_id_that_does_not_fit_is_refused(helm: Helm, release: str, uuid: str, words: str) -> None:
    done = helm.try_("template", release, str(CHART), *ADDRESS, "--set-string", f"uuid={uuid}")
    assert done.returncode != 0
    assert words in done.stderr


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"replicas": 1}, "replicas"),
        ({"image": {"name": "x"}}, "image"),
        ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
        ({"image": {"digest": "sha256:123"}}, "digest"),
        ({"uuid": 12345678}, "uuid"),
        ({"uuid": "ABCDEFGH"}, "uuid"),
        ({"user": {"id": "a b"}}, "id"),
        ({"port": 0}, "port"),
        ({"port": 70000}, "port"),
        ({"port": "http"}, "port"),
        ({"autoscaling": {"pollingInterval": 0}}, "pollingInterval"),
        ({"autoscaling": {"cooldownPeriod": -1}}, "cooldownPeriod"),
        ({"autoscaling": {"maxReplicaCount": 5}}, "maxReplicaCount"),
        ({"redis": {"address": "redis"}}, "address"),
        ({"redis": {"address": "redis://redis:6379"}}, "address"),
        ({"redis": {"address": "fd00::6:6379"}}, "address"),
        ({"redis": {"sentinel": {"addresses": ["sentinel"]}}}, "addresses"),
        ({"redis": {"sentinel": {"password": "secret"}}}, "password"),
        ({"redis": {"password": "secret"}}, "password"),
        ({"redis": {"database": "0"}}, "database"),
        ({"tests": {"image": "no image"}}, "image"),
        ({"tests": {"timeout": 0}}, "timeout"),
        ({"tests": {"redis": {"password": "secret"}}}, "password"),
        ({"persistence": {"size": "big"}}, "size"),
        ({"persistence": {"accessModes": ["Sometimes"]}}, "accessModes"),
        ({"homePath": "home"}, "homePath"),
        ({"networkPolicy": {"deniedCIDRs": ["everything"]}}, "deniedCIDRs"),
        ({"networkPolicy": {"outside": ["everything"]}}, "outside"),
        ({"codeServer": {"auth": "nobody"}}, "auth"),
        ({"terminationGracePeriodSeconds": -1}, "terminationGracePeriodSeconds"),
        ({"imagePullSecrets": ["registry"]}, "imagePullSecrets"),
        ({"nodeSelector": {"pool": 1}}, "nodeSelector"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else None,
)
def test_a_bad_value_is_refused_by_name(helm: Helm, values: dict[str, Any], key: str) -> None:
    base: dict[str, Any] = {"redis": {"address": "redis.example:6379"}}
    merged = {**base, **values}
    done = helm.try_("template", RELEASE, str(CHART), "--values", "-", stdin=yaml.safe_dump(merged))
    assert done.returncode != 0
    assert key in done.stderr
    assert "schema" in done.stderr


def test_a_missing_address_is_reported_with_what_to_do(helm: Helm) -> None:
    done = helm.try_("template", RELEASE, str(CHART))
    assert "--set-string redis.address=" in done.stderr


def leaves(values: dict[str, Any], schema: dict[str, Any], path: str = "") -> list[str]:
    """Keys of the values that the schema does not name, where it is closed."""
    missing = []
    for key, value in values.items():
        part = schema.get("properties", {}).get(key)
        if part is None:
            missing.append(f"{path}{key}")
        elif isinstance(value, dict) and part.get("additionalProperties") is False:
            missing += leaves(value, part, f"{path}{key}.")
    return missing


@pytest.mark.parametrize("chart", ["user-pod", "session-service"])
def test_values_schema_and_documentation_agree(chart: str) -> None:
    folder = CHART.parent / chart
    values = yaml.safe_load((folder / "values.yaml").read_text())
    schema = json.loads((folder / "values.schema.json").read_text())
    assert leaves(values, schema) == []
    assert set(schema["properties"]) - {"global"} == set(values)
    readme = (folder / "README.md").read_text()
    assert [key for key in values if f"| {key}" not in readme] == []


def test_the_all_file_sets_every_value_to_something_else() -> None:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    every = yaml.safe_load((CHART / "ci" / "all-values.yaml").read_text())
    assert set(every) == set(defaults)
    assert [key for key in defaults if defaults[key] == every[key]] == []


def test_a_user_namespace_is_the_clusters_decision_unless_it_is_chosen(helm: Helm) -> None:
    def pod(*arguments: str) -> dict[str, Any]:
        deployment = one(helm.render(RELEASE, *ADDRESS, *arguments), "Deployment")
        return dict(deployment["spec"]["template"]["spec"])

    assert "hostUsers" not in pod()
    assert pod("--set", "hostUsers=false")["hostUsers"] is False
    assert pod("--set", "hostUsers=true")["hostUsers"] is True


def test_behind_sentinels_keda_asks_them_for_the_primary(helm: Helm) -> None:
    objects = helm.render(RELEASE, "--values", str(CHART / "ci" / "sentinel-values.yaml"))
    (trigger,) = one(objects, "ScaledObject")["spec"]["triggers"]
    assert trigger["type"] == "redis-sentinel"
    assert trigger["metadata"] == {
        "addresses": "sentinel-0.example:26379,[fd00::6]:26379",
        "sentinelMaster": "mymaster",
        "sentinelUsername": "watcher",
        "databaseIndex": "0",
        "listName": f"queue:{RELEASE.removeprefix('user-')}",
        "listLength": "1",
    }
    assert trigger["authenticationRef"] == {"name": RELEASE}
    assert one(objects, "TriggerAuthentication")["spec"]["secretTargetRef"] == [
        {"parameter": "password", "name": "redis-password", "key": "password"},
        {"parameter": "sentinelPassword", "name": "sentinel-password", "key": "password"},
    ]
    assert not [each for each in objects if each["kind"] == "Pod"]  # `helm test` asks no Sentinel


def test_sentinels_without_a_master_name_are_refused(helm: Helm) -> None:
    done = helm.try_("template", RELEASE, str(CHART), "--set", "redis.sentinel.addresses={sentinel:26379}")
    assert done.returncode != 0
    assert "redis.sentinel.master" in done.stderr


def test_an_ipv6_address_of_redis_reaches_keda(helm: Helm) -> None:
    objects = helm.render(RELEASE, "--set-string", "redis.address=[fd00::6]:6379")
    assert one(objects, "ScaledObject")["spec"]["triggers"][0]["metadata"]["address"] == "[fd00::6]:6379"


def test_the_password_never_enters_the_users_pod(helm: Helm) -> None:
    objects = helm.render(RELEASE, "--values", str(CHART / "ci" / "password-values.yaml"))
    assert "redis-password" not in json.dumps(one(objects, "Deployment"))
    assert "passwordFromEnv" not in json.dumps(objects)


def test_the_pods_pass_the_restricted_standard(cluster: Cluster) -> None:
    helm = Helm(cluster.tools.path("helm"), cluster.kubeconfig, "restricted")
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "restricted", "labels": labels}}
    cluster.apply(namespace)
    objects = helm.render(RELEASE, *ADDRESS)
    template = one(objects, "Deployment")["spec"]["template"]
    template["metadata"]["name"] = "probe"
    for pod in ({"apiVersion": "v1", "kind": "Pod", **template}, one(objects, "Pod")):
        cluster.kubectl("-n", "restricted", "apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(pod))


def test_the_pod_gets_no_token_and_no_service_variables_and_is_recreated_on_updates(helm: Helm) -> None:
    spec = one(helm.render(RELEASE, *ADDRESS), "Deployment")["spec"]
    pod = spec["template"]["spec"]
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert spec["strategy"] == {"type": "Recreate"}
    assert set(pod["containers"][0]["resources"]["limits"]) == {"cpu", "memory", "ephemeral-storage"}


def matches(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


def test_the_helm_test_pod_is_not_mistaken_for_a_workspace(helm: Helm) -> None:
    """The service knows a user's pods by their label, and what happens to them by their names."""
    objects = helm.render(RELEASE, *ADDRESS)
    pod = one(objects, "Pod")["metadata"]
    assert pod["annotations"]["helm.sh/hook"] == "test"
    assert "uuid" not in pod["labels"]
    assert not pod["name"].startswith(RELEASE)
    assert not matches(one(objects, "Service")["spec"]["selector"], pod["labels"])
    assert not matches(one(objects, "Deployment")["spec"]["selector"]["matchLabels"], pod["labels"])


@pytest.mark.parametrize("file", ["network-policy", "network-policy-default"])
def test_the_helm_test_pod_passes_the_network_policy(helm: Helm, file: str) -> None:
    objects = helm.render(RELEASE, "--values", str(CHART / "ci" / f"{file}-values.yaml"))
    rules = one(objects, "NetworkPolicy")["spec"]["ingress"]
    peers = [peer["podSelector"]["matchLabels"] for rule in rules for peer in rule["from"] if "podSelector" in peer]
    assert [matches(peer, one(objects, "Pod")["metadata"]["labels"]) for peer in peers].count(True) == 1
    assert all(rule["ports"] == [{"port": "http"}] for rule in rules)


GATEWAY_URL = "http://user-pods.service.svc:8081"


def test_the_container_learns_where_the_gateway_is_and_may_reach_it(helm: Helm) -> None:
    file = CHART / "ci" / "network-policy-values.yaml"
    without = helm.render(RELEASE, "--values", str(file))
    objects = helm.render(RELEASE, "--values", str(file), "--set-string", f"gateway.url={GATEWAY_URL}")
    (container,) = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    given = {each["name"]: each["value"] for each in container["env"]}
    assert given == {"USER_PODS_GATEWAY_URL": GATEWAY_URL, "USER_PODS_UUID": RELEASE.removeprefix("user-")}
    more = [
        rule
        for rule in one(objects, "NetworkPolicy")["spec"]["egress"]
        if rule not in one(without, "NetworkPolicy")["spec"]["egress"]
    ]
    peer = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"user-pods/gateway": "true"}}}
    assert more == [{"to": [peer], "ports": [{"port": "gateway"}]}]
    assert "env" not in one(without, "Deployment")["spec"]["template"]["spec"]["containers"][0]


def variables(objects: list[dict[str, Any]]) -> dict[str, Any]:
    (container,) = one(objects, "Pod")["spec"]["containers"]
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def test_helm_test_pushes_as_kedas_redis_user_by_default(helm: Helm) -> None:
    given = variables(helm.render(RELEASE, "--values", str(CHART / "ci" / "password-values.yaml")))
    assert (given["REDIS"], given["REDIS_DATABASE"], given["REDIS_USERNAME"]) == ("redis.example:6379", "3", "keda")
    assert given["REDISCLI_AUTH"] == {"secretKeyRef": {"name": "redis-password", "key": "secret"}}
    given = variables(helm.render(RELEASE, "--values", str(CHART / "ci" / "all-values.yaml")))
    assert (given["REDIS"], given["REDIS_USERNAME"]) == ("redis.other:6380", "tester")
    assert given["REDISCLI_AUTH"] == {"secretKeyRef": {"name": "other", "key": "word"}}
    assert (given["REDIS_TLS"], given["REDIS_INSECURE"]) == ("yes", "")


@pytest.mark.parametrize(
    ("lease", "milliseconds", "heartbeat"), [("15", "15000", "5"), ("4", "4000", "1"), ("0.3", "300", "1")]
)
def test_helm_test_renews_its_lease_in_time(helm: Helm, lease: str, milliseconds: str, heartbeat: str) -> None:
    given = variables(helm.render("user-1e234567", *ADDRESS, "--set-json", f"autoscaling.lease={lease}"))
    assert (given["LEASE"], given["BEAT"]) == (milliseconds, heartbeat)
    assert (given["UUID"], given["QUEUE"], given["WORKSPACE"]) == ("1e234567", "queue:1e234567", "user-1e234567")


def test_a_kept_volume_has_helms_keep_policy(helm: Helm) -> None:
    claim = one(helm.render(RELEASE, "--values", str(CHART / "ci" / "volume-values.yaml")), "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert claim["metadata"]["annotations"]["user-pods/user-id"] == "john@example.com"
    file = CHART / "ci" / "volume-not-kept-values.yaml"
    other = one(helm.render(RELEASE, "--values", str(file)), "PersistentVolumeClaim")
    assert "annotations" not in other["metadata"]


def test_a_release_contains_only_the_files_that_it_is_rendered_from(live: Helm) -> None:
    """Each user's release keeps the chart in every revision."""
    out = live("install", RELEASE, str(CHART), *ADDRESS, "--dry-run=client", "--output", "json")
    assert [file["name"] for file in json.loads(out)["chart"]["files"]] == ["files/wake-and-ask.sh"]


def test_notes_name_this_release(live: Helm, uuid: str) -> None:
    out = live("install", f"user-{uuid}", str(CHART), *ADDRESS, "--dry-run=client")
    assert f"queue:{uuid}" in out
    assert f"kubectl -n charts get pods -l uuid={uuid}" in out
    assert f"helm uninstall user-{uuid} -n charts" in out
    assert f"helm test user-{uuid} -n charts --logs" in out


def container(helm: Helm, values: dict[str, Any]) -> dict[str, Any]:
    merged = {"redis": {"address": "redis.example:6379"}, **values}
    objects = helm.render(RELEASE, "--values", "-", stdin=yaml.safe_dump(merged))
    (found,) = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


PASSWORD = {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "editor", "key": "password"}}}
OPEN = ["--auth", "none"]


@pytest.mark.parametrize(
    ("values", "args"),
    [
        ({}, OPEN),
        ({"image": {"repository": "mirror.example/hub/codercom/code-server"}}, OPEN),
        ({"codeServer": {"auth": "password"}}, None),
        ({"env": [PASSWORD]}, None),
        ({"env": [{"name": "HASHED_PASSWORD", "value": "x"}]}, None),
        ({"env": [{"name": "GREETING", "value": "PASSWORD"}]}, OPEN),
        ({"env": [PASSWORD], "codeServer": {"auth": "none"}}, OPEN),
        ({"ingress": {"enabled": True}}, None),
        ({"ingress": {"enabled": True}, "codeServer": {"auth": "none"}}, OPEN),
        ({"args": ["--app-name", "mine"]}, ["--app-name", "mine"]),
        ({"command": ["/bin/server"]}, None),
        ({"image": {"repository": "registry.example/team/workspace"}}, None),
        ({"image": {"repository": "docker.io/linuxserver/code-server"}}, None),
        ({"image": {"repository": "docker.io/notcodercom/code-server"}}, None),
    ],
    ids=json.dumps,
)
def test_the_default_image_asks_for_a_password_only_where_the_chart_exposes_it_or_somebody_set_one(
    helm: Helm, values: dict[str, Any], args: list[str] | None
) -> None:
    assert container(helm, values).get("args") == args


def test_by_default_a_pod_admits_every_pod_but_those_of_other_users(helm: Helm) -> None:
    objects = helm.render(RELEASE, *ADDRESS)
    spec = one(objects, "NetworkPolicy")["spec"]
    labels = one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert matches(spec["podSelector"]["matchLabels"], labels)
    assert spec["policyTypes"] == ["Ingress"], "what the pod itself may reach is not restricted"
    (rule,) = spec["ingress"]
    others, itself = rule["from"]
    assert others == {
        "namespaceSelector": {},
        "podSelector": {"matchExpressions": [{"key": "uuid", "operator": "DoesNotExist"}]},
    }
    assert "uuid" in labels, "another user's pod, which has the same label, is not among them"
    assert "uuid" not in one(objects, "Pod")["metadata"]["labels"], "the pod of `helm test` is"
    assert matches(itself["podSelector"]["matchLabels"], labels)


def test_an_ingress_is_not_cut_off_by_a_policy_that_cannot_know_its_controllers_addresses(helm: Helm) -> None:
    assert "NetworkPolicy" not in kinds(helm.render(RELEASE, *ADDRESS, "--set", "ingress.enabled=true"))
    objects = helm.render(RELEASE, "--values", str(CHART / "ci" / "outside-values.yaml"))
    (rule,) = one(objects, "NetworkPolicy")["spec"]["ingress"]
    assert rule["from"][2:] == [{"ipBlock": {"cidr": "192.168.7.0/24"}}, {"ipBlock": {"cidr": "fd00:7::/64"}}]


async def test_the_startup_probe_waits_for_the_port_and_for_no_other(helm: Helm) -> None:
    port = free_port()
    command = container(helm, {"port": port})["startupProbe"]["exec"]["command"]
    for shell in (["/bin/sh"], [str(busybox()), "sh"]):
        waiting = await asyncio.create_subprocess_exec(*shell, *command[1:])
        other = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(waiting.wait(), 0.5)
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", port)
        assert await asyncio.wait_for(waiting.wait(), 5) == 0
        for each in (server, other):
            each.close()
            await each.wait_closed()


@pytest.mark.timeout(60)
async def test_the_startup_probe_gives_up_before_kubelet_ends_it_and_says_why(helm: Helm) -> None:
    port = free_port()
    probe = container(helm, {"port": port})["startupProbe"]
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", *probe["exec"]["command"][1:], stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), probe["timeoutSeconds"])
    assert (process.returncode, out.decode().strip()) == (1, f"nothing listens on port {port} yet")


@pytest.mark.parametrize(
    ("given", "failures"),
    [({}, 24), ({"failureThreshold": 300}, 60), ({"failureThreshold": 1}, 1), ({"periodSeconds": 5}, 120)],
)
def test_the_startup_probes_patience_is_what_the_values_say(helm: Helm, given: dict[str, Any], failures: int) -> None:
    probe = container(helm, {"probes": {"startup": given}})["startupProbe"]
    assert (probe["failureThreshold"], probe["timeoutSeconds"]) == (failures, 15)
    assert probe["periodSeconds"] == given.get("periodSeconds", 1)


def test_a_startup_probe_of_ones_own_stays_as_it_is(helm: Helm) -> None:
    given = {"httpGet": {"path": "/healthz", "port": "http"}, "failureThreshold": 40}
    assert container(helm, {"probes": {"startup": given}})["startupProbe"] == {**given, "periodSeconds": 1}
    assert "startupProbe" not in container(helm, {"probes": {"startup": None}})


NOTES = [
    (
        {},
        ["asks for no password", "Pods of other users cannot reach it", "`kubectl get storageclass` must mark one"],
        [],
    ),
    (
        {"ingress": {"enabled": True}},
        ["asks for a password", "code-server/config.yaml", "WARNING: pods of other users"],
        ["no password"],
    ),
    ({"ingress": {"enabled": True}, "codeServer": {"auth": "none"}}, ["WARNING: `ingress.enabled` exposes"], []),
    ({"persistence": {"enabled": False}}, ["lost whenever the pod ends"], ["storageclass"]),
    ({"persistence": {"existingClaim": "mine"}}, ["in the claim mine"], ["storageclass"]),
    ({"persistence": {"storageClassName": "fast"}}, [], ["storageclass"]),
    ({"image": {"repository": "registry.example/mine"}}, [], ["password"]),
]


@pytest.mark.parametrize(("values", "said", "unsaid"), NOTES, ids=json.dumps)
def test_notes_say_who_gets_in_and_what_is_kept(
    live: Helm, values: dict[str, Any], said: list[str], unsaid: list[str]
) -> None:
    merged = {"redis": {"address": "redis.example:6379", "passwordSecret": {"name": "redis"}}, **values}
    done = live.try_("install", RELEASE, str(CHART), "--dry-run=client", "--values", "-", stdin=yaml.safe_dump(merged))
    notes = done.stdout.partition("NOTES:")[2]
    assert notes, done.stderr
    assert [text for text in said if text not in notes] == []
    assert [text for text in unsaid if text in notes.replace("REDISCLI_AUTH holds Redis' password", "")] == []
