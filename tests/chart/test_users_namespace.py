"""The users' namespace, as the service's chart makes it: what may run in it, and who reaches whom."""

import ipaddress
import secrets
from dataclasses import replace
from typing import Any

import pytest
import yaml

from devcluster.cluster import Cluster
from devcluster.errors import DevclusterError
from tests.chart.conftest import ADDRESS, Helm
from tests.chart.rendering import SERVICE, of_kind, render

ALL = (
    *("--set", "usersNamespace=users,users.create=true,users.networkPolicies.enabled=true"),
    *("--set", "users.quota.enabled=true,users.limitRange.enabled=true,gateway.domain=pods.example.com"),
)
METADATA = {
    "AWS, Azure, GCP, OpenStack, Oracle": "169.254.169.254",
    "AWS ECS": "169.254.170.2",
    "AWS EKS pod identity": "169.254.170.23",
    "AWS by IPv6": "fd00:ec2::254",
    "AWS EKS pod identity by IPv6": "fd00:ec2::23",
    "GCP by IPv6": "fd20:ce::254",
    "Azure's wire server": "168.63.129.16",
    "Alibaba": "100.100.100.200",
    "Oracle Classic": "192.0.0.192",
    "link-local by IPv6": "fe80::a9fe:a9fe",
    "AWS through NAT64": "64:ff9b::a9fe:a9fe",
    "Azure's wire server through NAT64": "64:ff9b::a83f:8110",
    "Alibaba through NAT64": "64:ff9b::6464:64c8",
}
PRIVATE = ("10.96.0.1", "172.31.255.254", "192.168.0.1", "100.64.0.1", "127.0.0.1", "fd12:3456::1", "64:ff9b::a60:1")
PUBLIC = ("93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::5db8:d822")


def policies(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        item["metadata"]["name"].removeprefix("session-service-"): item["spec"]
        for item in of_kind(objects, "NetworkPolicy")
        if item["metadata"].get("namespace") == "users"
    }


def reached(policy: dict[str, Any], address: str) -> list[list[dict[str, Any]]]:
    """The ports of each egress rule whose address ranges contain the address."""
    target = ipaddress.ip_address(address)
    return [
        rule.get("ports", [])
        for rule in policy.get("egress", [])
        for block in (peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer)
        if target in ipaddress.ip_network(block["cidr"])
        and not any(target in ipaddress.ip_network(each) for each in block.get("except", []))
    ]


def test_without_a_request_nothing_is_made_in_the_users_namespace_but_rights(helm: Helm) -> None:
    objects = render(helm, "--set", "usersNamespace=users")
    made = {item["kind"] for item in objects if item["metadata"].get("namespace") == "users"}
    assert made == {"Role", "RoleBinding"}
    assert not of_kind(objects, "Namespace")


def test_the_namespace_enforces_the_restricted_standard_and_outlives_the_release(helm: Helm) -> None:
    (namespace,) = of_kind(render(helm, *ALL), "Namespace")
    assert namespace["metadata"]["name"] == "users"
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert namespace["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def told(helm: Helm, *more: str) -> dict[str, str]:
    """The setting that says whether there are policies, by the Deployments that have it."""
    containers = {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]["containers"][0]["env"]
        for each in of_kind(render(helm, *more), "Deployment")
    }
    return {
        name: variable["value"]
        for name, env in containers.items()
        for variable in env
        if variable["name"] == "USER_PODS_NAMESPACE_POLICIES"
    }


def test_the_service_is_told_of_the_policies_where_it_looks_for_faults(helm: Helm) -> None:
    assert told(helm, "--set", "usersNamespace=users") == {}
    assert told(helm, *ALL) == {"session-service": "true"}
    assert told(helm, *ALL, "--set", "roles.separate=true") == {"session-service-api": "true"}
    own = ("--set-string", "settings.NAMESPACE_POLICIES=false")
    assert told(helm, *ALL, *own) == {"session-service": "false"}


@pytest.mark.parametrize("value", ["users.create=true", "users.networkPolicies.enabled=true"])
def test_the_services_own_namespace_is_not_taken_for_the_users(helm: Helm, value: str) -> None:
    done = helm.try_("template", "session-service", str(SERVICE), "--set", value)
    assert done.returncode != 0
    assert "set usersNamespace" in done.stderr


def test_everything_is_denied_to_every_pod_before_anything_is_allowed(helm: Helm) -> None:
    denied = policies(render(helm, *ALL))["default-deny"]
    assert denied == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_only_the_gateway_of_this_release_and_helm_test_reach_a_workspace(helm: Helm) -> None:
    objects = render(replace(helm, namespace="own"), *ALL, "--set", "roles.separate=true")
    (rule,) = policies(objects)["workspaces"]["ingress"]
    gateway, test = rule["from"]
    assert gateway["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "own"}}
    wanted = gateway["podSelector"]["matchLabels"].items()
    admitted = {
        item["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]
        for item in of_kind(objects, "Deployment")
        if wanted <= item["spec"]["template"]["metadata"]["labels"].items()
    }
    assert admitted == {"gateway"}
    (pod,) = [item for item in _users_release(helm) if item["kind"] == "Pod"]
    assert test["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert rule["ports"] == [{"port": "http"}]


def test_the_policies_select_the_pods_of_the_users_chart(helm: Helm) -> None:
    (deployment,) = [item for item in _users_release(helm) if item["kind"] == "Deployment"]
    template = deployment["spec"]["template"]
    selector = policies(render(helm, *ALL))["workspaces"]["podSelector"]
    assert selector == {"matchExpressions": [{"key": "uuid", "operator": "Exists"}]}
    assert "uuid" in template["metadata"]["labels"]
    assert "http" in {port["name"] for port in template["spec"]["containers"][0]["ports"]}


def _users_release(helm: Helm) -> list[dict[str, Any]]:
    return helm.render("user-ab12cd34", *ADDRESS)


def test_workspaces_reach_no_metadata_service_and_no_private_network(helm: Helm) -> None:
    found = policies(render(helm, *ALL))
    assert set(found) == {"default-deny", "dns", "workspaces", "tests"}
    for address in (*METADATA.values(), *PRIVATE):
        for name in ("default-deny", "dns", "workspaces"):
            assert reached(found[name], address) == [], address


def test_workspaces_reach_the_internet_unless_it_is_switched_off(helm: Helm) -> None:
    found = policies(render(helm, *ALL))["workspaces"]
    without = policies(render(helm, *ALL, "--set", "users.networkPolicies.internet=false"))["workspaces"]
    for address in PUBLIC:
        assert reached(found, address) == [[]]
        assert reached(without, address) == []


def test_names_are_asked_of_a_cache_on_the_node_at_the_port_of_dns_only(helm: Helm) -> None:
    dns = policies(render(helm, *ALL))["dns"]
    for address in ("169.254.20.10", "169.254.25.10"):
        assert reached(dns, address) == [[{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]]


def test_names_are_asked_of_the_dns_of_kubernetes_and_openshift(helm: Helm) -> None:
    dns = policies(render(helm, *ALL))["dns"]
    assert dns["podSelector"] == {}
    pods = {
        peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]: {
            port["port"] for port in rule["ports"]
        }
        for rule in dns["egress"]
        for peer in rule["to"]
        if "podSelector" in peer
    }
    assert pods == {"kube-system": {53}, "openshift-dns": {53, 5353}}


def test_workspaces_may_use_keep_awake_at_the_gateway_which_lets_them_in(helm: Helm) -> None:
    objects = render(replace(helm, namespace="own"), *ALL, "--set", "networkPolicy.enabled=true")
    peer = policies(objects)["workspaces"]["egress"][0]
    assert peer["ports"] == [{"port": "gateway"}]
    (own,) = [
        item["spec"] for item in of_kind(objects, "NetworkPolicy") if item["metadata"]["name"] == "session-service"
    ]
    (rule,) = own["ingress"]
    assert rule["ports"] == [{"port": "gateway"}]
    assert rule["from"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "users"}


def users_values(helm: Helm, *arguments: str) -> dict[str, Any]:
    (config,) = of_kind(render(replace(helm, namespace="own"), *arguments), "ConfigMap")
    values: dict[str, Any] = yaml.safe_load(config["data"]["user-pod.yaml"])
    return values


def test_releases_get_no_policy_of_their_own_beside_those_of_the_namespace(helm: Helm) -> None:
    values = users_values(helm, *ALL)
    objects = helm.render("user-ab12cd34", *ADDRESS, "-f", "-", stdin=yaml.safe_dump(values))
    assert not of_kind(objects, "NetworkPolicy")
    assert of_kind(helm.render("user-ab12cd34", *ADDRESS), "NetworkPolicy")
    chosen = users_values(helm, *ALL, "--set", "userPod.values.networkPolicy.isolateUsers=true")
    assert chosen["networkPolicy"]["isolateUsers"] is True


def test_a_strict_policy_of_releases_admits_the_gateway_of_another_namespace(helm: Helm) -> None:
    values = users_values(helm, "--set", "usersNamespace=users,userPod.values.networkPolicy.enabled=true")
    (peer,) = values["networkPolicy"]["from"]
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "own"}
    assert peer["podSelector"]["matchLabels"]["user-pods/gateway"] == "true"
    chosen = users_values(
        helm,
        *("--set", "userPod.values.networkPolicy.enabled=true"),
        *("--set-json", 'userPod.values.networkPolicy.from=[{"podSelector":{}}]'),
    )
    assert chosen["networkPolicy"]["from"] == [{"podSelector": {}}]


def test_values_for_users_are_untouched_where_the_chart_has_nothing_to_add(helm: Helm) -> None:
    assert users_values(helm) == {"redis": {"passwordSecret": {"name": "redis-password"}}}


def test_a_stolen_token_starts_no_pod_with_a_host_path_but_a_workspace_starts(live: Helm, cluster: Cluster) -> None:
    """The API server itself refuses: what it would do is asked of it by a dry run, whoever asks."""
    users = f"users-{secrets.token_hex(4)}"
    own = replace(live, namespace=f"own-{secrets.token_hex(4)}")
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": own.namespace}})
    own("install", "guarded", str(SERVICE), *ALL, "--set", f"usersNamespace={users},keda.namespace=")
    bad = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "bad"},
        "spec": {
            "containers": [{"name": "bad", "image": "bad"}],
            "volumes": [{"name": "host", "hostPath": {"path": "/"}}],
        },
    }
    dry_run = ("-n", users, "create", "--dry-run=server", "-f", "-")
    with pytest.raises(DevclusterError, match="violates PodSecurity"):
        cluster.kubectl(*dry_run, stdin=yaml.safe_dump(bad))
    (deployment,) = [item for item in own.render("user-ab12cd34", *ADDRESS) if item["kind"] == "Deployment"]
    template = deployment["spec"]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": "good"},
        "spec": template["spec"],
    }
    cluster.kubectl(*dry_run, stdin=yaml.safe_dump(pod))
    outside = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "out"},
        "spec": {"type": "NodePort", "ports": [{"port": 80}]},
    }
    with pytest.raises(DevclusterError, match="exceeded quota"):
        cluster.kubectl(*dry_run, stdin=yaml.safe_dump(outside))
    own("uninstall", "guarded")
    assert cluster.kubectl("get", "namespace", users, "-o", "name").strip() == f"namespace/{users}"


def test_the_strict_policy_of_one_release_reaches_no_metadata_service_either(helm: Helm) -> None:
    (policy,) = of_kind(helm.render("user-ab12cd34", *ADDRESS, "--set", "networkPolicy.enabled=true"), "NetworkPolicy")
    for address in METADATA.values():
        assert reached(policy["spec"], address) == [], address
    assert reached(policy["spec"], PUBLIC[0]) == [[]]
