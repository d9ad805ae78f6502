"""What the service's Roles grant: nothing cluster-wide unless asked, and to each role only what it does."""

from dataclasses import replace

import pytest

from tests.chart.conftest import Helm
from tests.chart.rendering import Right, of_kind, render, rights

BASE = ("--set", "usersNamespace=users,gateway.domain=pods.example.com")
SEPARATE = (*BASE, "--set", "roles.separate=true")
FACTS = ("--set", "rbac.clusterFacts=true")


def granted(helm: Helm, *arguments: str) -> dict[str, set[Right]]:
    return rights(render(replace(helm, namespace="own"), *arguments))


@pytest.mark.parametrize("arguments", [BASE, SEPARATE])
def test_no_right_is_cluster_wide_or_unlimited_or_reaches_into_a_pod(helm: Helm, arguments: tuple[str, ...]) -> None:
    objects = render(replace(helm, namespace="own"), *arguments)
    assert not {"ClusterRole", "ClusterRoleBinding"} & {item["kind"] for item in objects}
    for held in rights(objects).values():
        assert {namespace for namespace, *_ in held} == {"users", "keda", "own"} & {namespace for namespace, *_ in held}
        for _, group, resource, verb, _ in held:
            assert "*" not in (group, resource, verb)
            assert verb not in ("impersonate", "bind", "escalate", "deletecollection")
            assert not resource.startswith(("pods/", "serviceaccounts", "roles", "rolebindings"))
        assert {right for right in held if right[2] == "pods" and right[3] not in ("list", "watch")} == set()


def test_cluster_facts_are_a_few_lists_for_the_api_alone(helm: Helm) -> None:
    without, apart = granted(helm, *SEPARATE), granted(helm, *SEPARATE, *FACTS)
    more = {name: held - without[name] for name, held in apart.items()}
    assert more == {
        "session-service-api": {
            ("", "", "nodes", "list", ""),
            ("", "storage.k8s.io", "storageclasses", "list", ""),
            ("keda", "apps", "deployments", "get", "keda-operator"),
            ("users", "autoscaling", "horizontalpodautoscalers", "list", ""),
        },
        "session-service-controller": set(),
        "session-service-gateway": set(),
    }
    assert granted(helm, *BASE, *FACTS)["session-service"] == set.union(*apart.values())
    assert "keda" not in {
        right[0] for right in granted(helm, *BASE, *FACTS, "--set", "keda.namespace=")["session-service"]
    }


def test_only_who_has_the_right_to_cluster_facts_asks_for_them(helm: Helm) -> None:
    def asking(*arguments: str) -> set[str]:
        return {
            item["metadata"]["name"]
            for item in of_kind(render(helm, *arguments), "Deployment")
            for variable in item["spec"]["template"]["spec"]["containers"][0]["env"]
            if variable["name"] == "USER_PODS_CLUSTER_FACTS" and variable["value"] == "true"
        }

    assert asking(*SEPARATE) == asking(*BASE) == set()
    assert asking(*SEPARATE, *FACTS) == {"session-service-api"}
    assert asking(*BASE, *FACTS) == {"session-service"}


def test_two_releases_of_the_same_name_have_cluster_roles_of_their_own(helm: Helm) -> None:
    def names(namespace: str) -> set[str]:
        objects = render(replace(helm, namespace=namespace), *BASE, *FACTS)
        return {item["metadata"]["name"] for item in objects if item["kind"].startswith("ClusterRole")}

    assert len(names("one")) == len(names("two")) == 1
    assert names("one") != names("two")


def test_in_its_own_namespace_the_service_reads_one_secret_only(helm: Helm) -> None:
    held = granted(helm, *BASE)["session-service"]
    name = "session-service-signing-keys"
    assert {right for right in held if right[0] == "own"} == {
        ("own", "", "secrets", "get", name),
        ("own", "", "secrets", "patch", name),
    }


def test_separate_roles_share_no_account_and_have_together_the_rights_of_one_process(helm: Helm) -> None:
    apart = granted(helm, *SEPARATE)
    assert set(apart) == {"session-service-api", "session-service-controller", "session-service-gateway"}
    assert set.union(*apart.values()) == granted(helm, *BASE)["session-service"]
    used = {
        item["metadata"]["name"]: item["spec"]["template"]["spec"]["serviceAccountName"]
        for item in of_kind(render(replace(helm, namespace="own"), *SEPARATE), "Deployment")
    }
    assert used == {name: name for name in apart}


OIDC = ("--set", "gateway.oidc.issuer=https://id.example.com,gateway.oidc.clientId=workspaces")


def test_a_gateway_that_creates_the_sessions_of_those_who_sign_in_may_run_helm(helm: Helm) -> None:
    apart = granted(helm, *SEPARATE, *OIDC)
    creating = {name for name, held in apart.items() if ("users", "", "services", "create", "") in held}
    assert creating == {"session-service-api", "session-service-controller", "session-service-gateway"}


@pytest.mark.parametrize("arguments", [(), (*OIDC, "--set-string", "settings.OIDC_CREATE=False")])
def test_any_other_gateway_makes_and_removes_nothing(helm: Helm, arguments: tuple[str, ...]) -> None:
    held = granted(helm, *SEPARATE, *arguments)["session-service-gateway"]
    writing = {right for right in held if right[3] not in ("get", "list", "watch")}
    assert writing == {
        ("users", "apps", "deployments/scale", "patch", ""),
        ("own", "", "secrets", "patch", "session-service-signing-keys"),
    }


def test_only_the_controller_takes_part_in_the_election_and_it_sees_no_signing_key(helm: Helm) -> None:
    apart = granted(helm, *SEPARATE)
    voting = {
        name
        for name, held in apart.items()
        for right in held
        if right[:3] == ("users", "coordination.k8s.io", "leases")
    }
    assert voting == {"session-service-controller"}
    assert not {right for right in apart["session-service-controller"] if right[0] == "own"}


@pytest.mark.parametrize(
    ("value", "kind"), [("ingress.enabled", "ingresses"), ("serviceAccount.create", "serviceaccounts")]
)
def test_rights_to_kinds_that_releases_do_not_have_are_not_granted(helm: Helm, value: str, kind: str) -> None:
    def verbs(*arguments: str) -> set[str]:
        return {right[3] for right in granted(helm, *BASE, *arguments)["session-service"] if right[2] == kind}

    assert verbs() == set()
    assert verbs("--set", f"userPod.values.{value}=true") == {"get", "create", "patch", "delete"}
    assert verbs("--set", f"userPod.profiles.large.values.{value}=true") == {"get", "create", "patch", "delete"}
    # Releases that still have one can be removed after the value has been switched off.
    assert verbs("--set", f"rbac.keep={{{kind}}}") == {"get", "create", "patch", "delete"}
