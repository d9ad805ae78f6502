"""The service's own chart: what it renders, what it refuses, and that the API server accepts it."""

import json
import secrets
from dataclasses import replace
from typing import Any

import pytest
import yaml

from devcluster.cluster import Cluster
from tests.chart.conftest import Helm
from tests.chart.rendering import SERVICE, of_kind, render


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--set", "usersNamespace=users,keda.namespace=keda"),
        ("--set", "networkPolicy.enabled=true", "--set-json", 'networkPolicy.from=[{"podSelector":{}}]'),
        (
            *("--set", "networkPolicy.enabled=true,metrics.enabled=true"),
            *("--set-json", 'networkPolicy.from=[{"podSelector":{}}]'),
            *("--set-json", 'metrics.from=[{"namespaceSelector":{}}]'),
        ),
        (
            *("--set", "gateway.domain=pods.example.com,networkPolicy.enabled=true"),
            *("--set-json", 'networkPolicy.from=[{"podSelector":{}}]'),
            *("--set-json", 'gateway.from=[{"namespaceSelector":{}}]'),
        ),
        ("--set", "roles.separate=true,gateway.domain=pods.example.com"),
        (
            *("--set", "gateway.domain=pods.example.com,gateway.oidc.issuer=https://id.example.com"),
            *("--set", "gateway.oidc.clientId=workspaces,gateway.oidc.secret.name=oidc"),
        ),
        (
            *("--set", "users.create=true,users.networkPolicies.enabled=true,usersNamespace=users"),
            *("--set", "users.quota.enabled=true,users.limitRange.enabled=true"),
        ),
        (
            *("--set", "gateway.domain=pods.example.com,gateway.ingress.enabled=true,gateway.ingress.tlsSecret=tls"),
            *(
                "--set",
                "autoscaling.enabled=true,metrics.dashboard.enabled=true,service.ipFamilyPolicy=PreferDualStack",
            ),
            *("--set-json", 'extraEnv=[{"name":"A","value":"b"}]', "--set", "podSecurityContext.runAsUser=null"),
        ),
        ("--set-json", 'settings={"COOLDOWN":"300"}', "--set", "replicas=1"),
        ("--set-json", 'userPod.values={"image":{"tag":"7"},"env":[{"name":"A","value":"b: c"}]}'),
    ],
    ids=[
        "defaults",
        "users",
        "network-policy",
        "metrics",
        "gateway",
        "roles",
        "oidc",
        "users-namespace",
        "options",
        "settings",
        "user-pod",
    ],
)
def test_the_real_api_server_accepts_what_is_rendered(live: Helm, cluster: Cluster, arguments: tuple[str, ...]) -> None:
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "users"}})
    text = live("template", "session-service", str(SERVICE), *arguments)
    cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ("replica=2", "replica"),
        ("replicas=0", "replicas"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("usersNamespace=Users", "usersNamespace"),
        ("settings.cooldown=300", "settings"),
        ("service.port=0", "port"),
        ("metrics.port=8080", "port"),
        ("redis.url=redis://x", "url"),
        ("apiKeys.keys=secret", "keys"),
        ("roles.worker.replicas=1", "worker"),
        ("roles.api.replicas=0", "replicas"),
        ("users.podSecurity=strict", "podSecurity"),
        ("users.networkPolicies.denied[0]=metadata", "denied"),
        ("rbac.keep[0]=pods", "keep"),
        ("gateway.from[0]=everybody", "from"),
    ],
)
def test_a_bad_value_is_refused_by_name(helm: Helm, values: str, key: str) -> None:
    done = helm.try_("template", "session-service", str(SERVICE), "--set-string", values)
    assert done.returncode != 0
    assert key in done.stderr


def test_without_the_keda_check_no_right_to_its_lease_is_granted(helm: Helm) -> None:
    names = {item["metadata"]["name"] for item in render(helm, "--set", "keda.namespace=")}
    assert "session-service-keda-lease" not in names
    assert "session-service-keda-lease" in {item["metadata"]["name"] for item in render(helm)}


def test_changed_values_for_user_pods_restart_the_service(helm: Helm) -> None:
    def checksum(*arguments: str) -> str:
        (deployment,) = [item for item in render(helm, *arguments) if item["kind"] == "Deployment"]
        return str(deployment["spec"]["template"]["metadata"]["annotations"]["checksum/values"])

    profile = "userPod.profiles.large.values.port=3000"
    assert len({checksum(), checksum("--set", "userPod.values.port=3000"), checksum("--set", profile)}) == 3


def test_profiles_are_a_file_of_every_role_with_the_gateway_as_a_strict_policys_peer(helm: Helm) -> None:
    given = {"small": {}, "strict": {"roles": ["operator"], "values": {"networkPolicy": {"enabled": True}}}}
    objects = render(helm, *ROLES, "--set-json", f"userPod.profiles={json.dumps(given)}")
    (config,) = [item for item in objects if item["kind"] == "ConfigMap" and "profiles.yaml" in item["data"]]
    profiles = yaml.safe_load(config["data"]["profiles.yaml"])
    (peer,) = profiles["strict"]["values"]["networkPolicy"].pop("from")
    assert peer["podSelector"]["matchLabels"]["user-pods/gateway"] == "true"
    assert profiles == given
    for each in deployments(objects).values():
        assert environment(each)["USER_PODS_PROFILES"] == "/etc/user-pods/profiles.yaml"
    named = helm.try_("template", "session-service", str(SERVICE), "--set", "userPod.profiles.Large.values.port=3000")
    assert named.returncode != 0


def test_keys_with_names_are_a_file_of_the_api_alone(helm: Helm) -> None:
    named = ("--set", "apiKeys.named.name=keys,apiKeys.named.key=lines,apiKeys.secret.name=")
    found = deployments(render(helm, *ROLES, *named))
    assert {name for name, each in found.items() if "api-keys" in yaml.safe_dump(each)} == {"session-service-api"}
    pod = found["session-service-api"]["template"]["spec"]
    assert environment(found["session-service-api"])["USER_PODS_API_KEYS_FILE"] == "/etc/user-pods-keys/lines"
    assert "USER_PODS_API_KEYS" not in environment(found["session-service-api"])
    (volume,) = [each for each in pod["volumes"] if each["name"] == "api-keys"]
    assert volume["secret"] == {"secretName": "keys", "items": [{"key": "lines", "path": "lines"}]}
    (mount,) = [each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "api-keys"]
    assert mount == {"name": "api-keys", "mountPath": "/etc/user-pods-keys", "readOnly": True}


def test_a_service_without_any_keys_is_refused(helm: Helm) -> None:
    done = helm.try_("template", "session-service", str(SERVICE), "--set", "apiKeys.secret.name=")
    assert done.returncode != 0
    assert "nobody else may call the API" in done.stderr


def test_people_may_call_with_tokens_of_the_gateways_provider_and_no_key(helm: Helm) -> None:
    people = ("--set", "apiKeys.secret.name=,settings.API_OIDC_AUDIENCE=user-pods")
    provider = ("--set", "gateway.domain=pods.example.com,gateway.oidc.issuer=https://id.example.com")
    found = deployments(render(helm, *ROLES, *people, *provider, "--set", "gateway.oidc.clientId=workspaces"))
    issuers = {name: environment(each).get("USER_PODS_API_OIDC_ISSUER") for name, each in found.items()}
    assert issuers == {
        "session-service-api": "https://id.example.com",
        "session-service-controller": None,
        "session-service-gateway": None,
    }
    other = ("--set", "settings.API_OIDC_ISSUER=https://other.example.com")
    api = deployments(render(helm, *ROLES, *people, *provider, *other))["session-service-api"]
    assert environment(api)["USER_PODS_API_OIDC_ISSUER"] == "https://other.example.com"


def test_secrets_are_only_referenced(helm: Helm) -> None:
    (deployment,) = [item for item in render(helm) if item["kind"] == "Deployment"]
    env = {v["name"]: v for v in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    for name in ("USER_PODS_REDIS_URL", "USER_PODS_API_KEYS"):
        assert "secretKeyRef" in env[name]["valueFrom"]
    # The only one that the chart makes is empty: the service fills it with the keys of cookies.
    (own,) = [item for item in render(helm) if item["kind"] == "Secret"]
    assert not {"data", "stringData"} & set(own)


def test_metrics_have_a_port_without_a_key_only_when_enabled(helm: Helm) -> None:
    (plain,) = [item for item in render(helm) if item["kind"] == "Deployment"]
    assert "METRICS" not in yaml.safe_dump(plain)
    peers = ("--set-json", 'metrics.from=[{"podSelector":{}}]', "--set-json", 'networkPolicy.from=[{"podSelector":{}}]')
    objects = {item["kind"]: item for item in render(helm, *METRICS, *peers)}
    template = objects["Deployment"]["spec"]["template"]
    (container,) = template["spec"]["containers"]
    assert {"name": "USER_PODS_METRICS_PORT", "value": "9090"} in container["env"]
    assert template["metadata"]["annotations"]["prometheus.io/port"] == "9090"
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {"http": 8080, "metrics": 9090}
    assert [rule["ports"] for rule in objects["NetworkPolicy"]["spec"]["ingress"]] == [
        [{"port": "http"}],
        [{"port": "metrics"}],
    ]


def test_a_port_without_peers_admits_nobody(helm: Helm) -> None:
    """A rule without peers would admit everybody."""
    (policy,) = of_kind(render(helm, *METRICS), "NetworkPolicy")
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    assert "ingress" not in policy["spec"]
    domain = ("--set", "gateway.domain=pods.example.com,usersNamespace=users")
    (policy,) = of_kind(render(helm, *METRICS, *domain), "NetworkPolicy")
    (workspaces,) = policy["spec"]["ingress"]
    assert workspaces["from"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "users"}


def test_workspaces_learn_the_gateways_address_and_may_reach_it(helm: Helm) -> None:
    own = replace(helm, namespace="own")
    domain = ("--set", "gateway.domain=pods.example.com,usersNamespace=users")
    objects = render(own, *domain, "--set", "networkPolicy.enabled=true", "--set-json", "networkPolicy.from=[]")
    (deployment,) = (item for item in objects if item["kind"] == "Deployment")
    env = {each["name"]: each.get("value") for each in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["USER_PODS_GATEWAY_INTERNAL_URL"] == "http://session-service.own.svc:8081"
    (policy,) = (item for item in objects if item["kind"] == "NetworkPolicy")
    users = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "users"}},
        "podSelector": {"matchExpressions": [{"key": "uuid", "operator": "Exists"}]},
    }
    assert {"from": [users], "ports": [{"port": "gateway"}]} in policy["spec"]["ingress"]
    chosen = render(own, *domain, "--set-json", 'settings={"GATEWAY_INTERNAL_URL":"http://gw:1"}')
    names = [e for e in yaml.safe_dump_all(chosen).splitlines() if "GATEWAY_INTERNAL_URL" in e]
    assert len(names) == 1


METRICS = ("--set", "metrics.enabled=true,networkPolicy.enabled=true")


def test_with_a_gateway_the_service_may_access_exactly_one_secret(helm: Helm) -> None:
    for off in ("false", "off", "0"):
        bare = render(helm, "--set-string", f"settings.DASHBOARD={off}")
        assert "signing-keys" not in yaml.safe_dump_all(bare)
    dashboard = yaml.safe_dump_all(render(helm))
    assert "USER_PODS_GATEWAY_KEYS_SECRET" in dashboard, "the dashboard seals cookies, too"
    assert "USER_PODS_GATEWAY_DOMAIN" not in dashboard
    own = replace(helm, namespace="own")
    objects = render(own, "--set", "gateway.domain=pods.example.com,usersNamespace=users")
    keys = {item["kind"]: item for item in objects if item["metadata"]["name"] == "session-service-signing-keys"}
    # Whatever it rendered here, an upgrade would write over the service's own.
    assert not {"data", "stringData"} & set(keys["Secret"])
    assert keys["Role"]["rules"] == [
        {
            "apiGroups": [""],
            "resources": ["secrets"],
            "resourceNames": ["session-service-signing-keys"],
            "verbs": ["get", "patch"],
        }
    ]
    assert keys["Role"]["metadata"]["namespace"] == "own"
    assert keys["RoleBinding"]["subjects"][0]["namespace"] == "own"
    (deployment,) = [item for item in objects if item["kind"] == "Deployment"]
    env = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "USER_PODS_GATEWAY_KEYS_SECRET", "value": "session-service-signing-keys"} in env
    assert {"name": "USER_PODS_GATEWAY_KEYS_NAMESPACE", "value": "own"} in env


def test_an_upgrade_does_not_change_the_signing_keys(live: Helm, cluster: Cluster) -> None:
    """Neither helm version removes a field that it never rendered."""
    namespace = f"keys-{secrets.token_hex(4)}"
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    own = replace(live, namespace=namespace)
    arguments = ("signed", str(SERVICE), "--set", "gateway.domain=pods.test,keda.namespace=")
    own("install", *arguments)
    kubectl = cluster.kubectl
    patch = '{"data":{"1-00000000":"aGVsbG8="}}'
    kubectl("-n", namespace, "patch", "secret", "signed-signing-keys", "--type=merge", "--patch", patch)
    own("upgrade", *arguments, "--set", "replicas=1")
    kept = kubectl("-n", namespace, "get", "secret", "signed-signing-keys", "-o", "jsonpath={.data}")
    assert "00000000" in kept
    own("rollback", "signed", "1")
    assert kubectl("-n", namespace, "get", "secret", "signed-signing-keys", "-o", "jsonpath={.data}") == kept
    own("uninstall", "signed")


@pytest.mark.parametrize(
    ("values", "seconds", "drain"),
    [
        ((), 2 + 8 + 75 + 10, "8"),
        (("--set", "termination.preStop=0,termination.drain=30"), 30 + 75 + 10, "30"),
        (("--set-string", "settings.SHUTDOWN_TIMEOUT=30.5", "--set-string", "settings.DRAIN_SECONDS=0"), 43, "0"),
        (("--set", "terminationGracePeriodSeconds=20"), 20, "8"),
    ],
)
def test_the_grace_period_covers_every_phase_of_a_shutdown(
    helm: Helm, values: tuple[str, ...], seconds: int, drain: str
) -> None:
    deployment = next(item for item in render(helm, *values) if item["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert pod["terminationGracePeriodSeconds"] == seconds
    environment = {item["name"]: item.get("value") for item in container["env"]}
    assert len(environment) == len(container["env"]), "a name that is there twice is refused by server-side apply"
    assert environment["USER_PODS_DRAIN_SECONDS"] == drain
    assert ("lifecycle" in container) == ("termination.preStop=0,termination.drain=30" not in values)


ROLES = ("--set", "roles.separate=true,gateway.domain=pods.example.com")


def deployments(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {item["metadata"]["name"]: item["spec"] for item in objects if item["kind"] == "Deployment"}


def environment(deployment: dict[str, Any]) -> dict[str, Any]:
    (container,) = deployment["template"]["spec"]["containers"]
    return {item["name"]: item.get("value") for item in container["env"]}


def test_there_is_one_deployment_unless_roles_are_separate(helm: Helm) -> None:
    (name,) = found = deployments(render(helm))
    assert name == "session-service"
    assert "USER_PODS_ROLE" not in environment(found[name])


def test_each_separate_role_is_a_deployment_with_only_what_it_needs(helm: Helm) -> None:
    found = deployments(render(helm, *ROLES, "--set", "roles.gateway.replicas=5"))
    assert {name: environment(each)["USER_PODS_ROLE"] for name, each in found.items()} == {
        "session-service-api": "api",
        "session-service-controller": "controller",
        "session-service-gateway": "gateway",
    }
    assert found["session-service-gateway"]["replicas"] == 5
    keys = {name for name, each in found.items() if "USER_PODS_API_KEYS" in environment(each)}
    assert keys == {"session-service-api"}
    reaches_pods = {
        name for name, each in found.items() if "user-pods/gateway" in each["template"]["metadata"]["labels"]
    }
    assert reaches_pods == {"session-service-gateway"}


@pytest.mark.parametrize("value", ["true", "false"])
def test_the_companion_can_be_switched_off(helm: Helm, value: str) -> None:
    found = deployments(render(helm, *ROLES, "--set", f"gateway.companion={value}"))
    (container,) = found["session-service-gateway"]["template"]["spec"]["containers"]
    assert {"name": "USER_PODS_GATEWAY_COMPANION", "value": value} in container["env"]


def test_without_a_domain_no_gateway_is_deployed(helm: Helm) -> None:
    found = deployments(render(helm, "--set", "roles.separate=true"))
    assert set(found) == {"session-service-api", "session-service-controller"}


def test_no_deployment_selects_the_pods_of_another_role(helm: Helm) -> None:
    found = deployments(render(helm, *ROLES))
    for name, each in found.items():
        selector = each["selector"]["matchLabels"].items()
        matching = {
            other for other, spec in found.items() if selector <= spec["template"]["metadata"]["labels"].items()
        }
        assert matching == {name}


def test_each_port_of_the_service_leads_to_the_role_that_serves_it(helm: Helm) -> None:
    objects = render(helm, *ROLES)
    (service,) = [item["spec"] for item in objects if item["kind"] == "Service"]
    serving: dict[str, set[str]] = {port["targetPort"]: set() for port in service["ports"]}
    for name, each in deployments(objects).items():
        template = each["template"]
        assert service["selector"].items() <= template["metadata"]["labels"].items()
        for port in template["spec"]["containers"][0]["ports"]:
            if port["name"] in serving:
                serving[port["name"]].add(name)
    assert serving == {"http": {"session-service-api"}, "gateway": {"session-service-gateway"}}


def test_each_role_is_probed_at_a_port_that_it_has(helm: Helm) -> None:
    for each in (*deployments(render(helm)).values(), *deployments(render(helm, *ROLES)).values()):
        (container,) = each["template"]["spec"]["containers"]
        ports = {port["name"] for port in container["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["httpGet"]["port"] in ports


def test_each_role_keeps_one_replica_while_nodes_are_drained(helm: Helm) -> None:
    objects = render(helm, *ROLES, "--set", "roles.controller.replicas=1")
    budgets = {item["metadata"]["name"] for item in objects if item["kind"] == "PodDisruptionBudget"}
    assert budgets == {"session-service-api", "session-service-gateway"}


@pytest.mark.parametrize("separate", [False, True])
def test_only_the_gateway_knows_the_identity_providers_secret(helm: Helm, separate: bool) -> None:
    objects = render(
        helm,
        *("--set", f"roles.separate={str(separate).lower()},gateway.domain=pods.example.com"),
        *("--set", "gateway.oidc.issuer=https://id.example.com,gateway.oidc.clientId=workspaces"),
        *("--set", "gateway.oidc.secret.name=oidc"),
    )
    found = {
        item["metadata"]["name"].removeprefix("session-service").removeprefix("-"): {
            each["name"]: each for each in item["spec"]["template"]["spec"]["containers"][0]["env"]
        }
        for item in objects
        if item["kind"] == "Deployment"
    }
    assert [name for name, env in found.items() if "USER_PODS_OIDC_ISSUER" in env] == (
        ["gateway"] if separate else [""]
    )
    env = found["gateway" if separate else ""]
    assert env["USER_PODS_OIDC_CLIENT_ID"]["value"] == "workspaces"
    secret = env["USER_PODS_OIDC_CLIENT_SECRET"]["valueFrom"]["secretKeyRef"]
    assert secret == {"name": "oidc", "key": "client-secret"}


def test_the_api_signs_people_in_to_the_dashboard_where_it_knows_its_own_address(helm: Helm) -> None:
    objects = render(
        helm,
        *("--set", "roles.separate=true,gateway.domain=pods.example.com"),
        *("--set", "gateway.oidc.issuer=https://id.example.com,gateway.oidc.clientId=workspaces"),
        *("--set", "settings.DASHBOARD_URL=https://sessions.example.com"),
    )
    knowing = [
        item["metadata"]["name"]
        for item in objects
        if item["kind"] == "Deployment" and "USER_PODS_OIDC_CLIENT_ID" in yaml.safe_dump(item)
    ]
    assert knowing == ["session-service-api", "session-service-gateway"]
