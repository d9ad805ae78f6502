"""What operators can add to the service's chart: routes, scaling, monitoring, variables, other networks."""

import json
import re
from typing import Any

import pytest
import yaml

from stack.stack import ROOT
from tests.chart.conftest import Helm
from tests.chart.rendering import SERVICE, of_kind, render

DOMAIN = ("--set", "usersNamespace=users,gateway.domain=pods.example.com")
OIDC = (
    "--set",
    "gateway.oidc.issuer=https://id.example.com,gateway.oidc.clientId=workspaces,gateway.oidc.secret.name=oidc",
)
ROUTES = (
    *("--set", "gateway.ingress.enabled=true,gateway.httpRoute.enabled=true,gateway.certificate.enabled=true"),
    *("--set-json", 'gateway.httpRoute.parentRefs=[{"name":"public","namespace":"ingress"}]'),
    *("--set-json", 'gateway.certificate.issuerRef={"kind":"ClusterIssuer","name":"dns"}'),
)
SEPARATE = ("--set", "roles.separate=true")
EVERYTHING = (*DOMAIN, *OIDC, *SEPARATE, "--set", "metrics.enabled=true,apiKeys.named.name=keys,rbac.clusterFacts=true")


def only(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = of_kind(objects, kind)
    return found


@pytest.mark.parametrize(
    ("arguments", "hosts"),
    [(DOMAIN, ["*.pods.example.com"]), ((*DOMAIN, *OIDC), ["*.pods.example.com", "pods.example.com"])],
)
def test_one_wildcard_route_leads_to_the_gateway_with_one_certificate(
    helm: Helm, arguments: tuple[str, ...], hosts: list[str]
) -> None:
    objects = render(helm, *arguments, *ROUTES)
    ingress, route, certificate = (only(objects, kind)["spec"] for kind in ("Ingress", "HTTPRoute", "Certificate"))
    assert [rule["host"] for rule in ingress["rules"]] == hosts
    assert route["hostnames"] == certificate["dnsNames"] == ingress["tls"][0]["hosts"] == hosts
    assert ingress["tls"][0]["secretName"] == certificate["secretName"]
    ports = {port["name"]: port["port"] for port in only(objects, "Service")["spec"]["ports"]}
    (backend,) = route["rules"][0]["backendRefs"]
    assert (backend["name"], backend["port"]) == ("session-service", ports["gateway"])
    for rule in ingress["rules"]:
        service = rule["http"]["paths"][0]["backend"]["service"]
        assert service == {"name": "session-service", "port": {"name": "gateway"}}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--set", "gateway.ingress.enabled=true"), "gateway.domain"),
        ((*DOMAIN, "--set", "gateway.httpRoute.enabled=true"), "gateway.httpRoute.parentRefs"),
        ((*DOMAIN, "--set", "gateway.certificate.enabled=true"), "gateway.certificate.issuerRef"),
        (("--set", "metrics.serviceMonitor.enabled=true"), "metrics.enabled"),
    ],
)
def test_what_an_option_lacks_is_named(helm: Helm, arguments: tuple[str, ...], told: str) -> None:
    done = helm.try_("template", "session-service", str(SERVICE), *arguments)
    assert done.returncode != 0
    assert told in done.stderr


def test_an_autoscaler_owns_the_replicas_of_what_scales_and_not_the_controller(helm: Helm) -> None:
    objects = render(helm, *DOMAIN, *SEPARATE, "--set", "autoscaling.enabled=true,roles.controller.replicas=1")
    scaled = {item["spec"]["scaleTargetRef"]["name"] for item in of_kind(objects, "HorizontalPodAutoscaler")}
    assert scaled == {"session-service-api", "session-service-gateway"}
    fixed = {item["metadata"]["name"] for item in of_kind(objects, "Deployment") if "replicas" in item["spec"]}
    assert fixed == {"session-service-controller"}
    kept = {item["metadata"]["name"] for item in of_kind(objects, "PodDisruptionBudget")}
    assert kept == scaled


def test_the_pods_of_each_deployment_are_spread_by_themselves(helm: Helm) -> None:
    for deployment in of_kind(render(helm, *DOMAIN, *SEPARATE), "Deployment"):
        spec = deployment["spec"]
        for spread in spec["template"]["spec"]["topologySpreadConstraints"]:
            assert spread["labelSelector"]["matchLabels"] == spec["selector"]["matchLabels"]
            assert spread["whenUnsatisfiable"] == "ScheduleAnyway"


def test_the_service_monitor_selects_one_service_with_every_pod_behind_it(helm: Helm) -> None:
    on = (
        "--set",
        "metrics.enabled=true,metrics.serviceMonitor.enabled=true,metrics.serviceMonitor.labels.release=prom",
    )
    objects = render(helm, *EVERYTHING, *on)
    monitor = only(objects, "ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prom"
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    (service,) = [item for item in of_kind(objects, "Service") if wanted <= item["metadata"]["labels"].items()]
    assert [port["name"] for port in service["spec"]["ports"]] == [monitor["spec"]["endpoints"][0]["port"]]
    for deployment in of_kind(objects, "Deployment"):
        template = deployment["spec"]["template"]
        assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
        ports = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
        assert ports["metrics"] == service["spec"]["ports"][0]["port"]


def test_rules_and_dashboard_are_those_of_the_documentation(helm: Helm) -> None:
    objects = render(helm, "--set", "metrics.prometheusRule.enabled=true,metrics.dashboard.enabled=true")
    documented = ROOT / "docs" / "monitoring"
    rules = only(objects, "PrometheusRule")["spec"]
    assert rules == yaml.safe_load((documented / "alerts.yaml").read_text())
    (dashboard,) = [item for item in of_kind(objects, "ConfigMap") if "user-pods.json" in item["data"]]
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(dashboard["data"]["user-pods.json"]) == json.loads((documented / "dashboard.json").read_text())


def pod(objects: list[dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = of_kind(objects, "Deployment")[0]["spec"]["template"]["spec"]
    return spec


def test_variables_volumes_and_mounts_can_be_added(helm: Helm) -> None:
    added = (
        *("--set-json", 'extraEnv=[{"name":"SSL_CERT_FILE","value":"/ca/ca.crt"}]'),
        *("--set-json", 'extraVolumes=[{"name":"ca","secret":{"secretName":"ca"}}]'),
        *("--set-json", 'extraVolumeMounts=[{"name":"ca","mountPath":"/ca","readOnly":true}]'),
        *("--set", "podAnnotations.a=b,podLabels.team=x,priorityClassName=high"),
    )
    objects = render(helm, *DOMAIN, *added)
    spec = pod(objects)
    (container,) = spec["containers"]
    assert {"name": "SSL_CERT_FILE", "value": "/ca/ca.crt"} in container["env"]
    assert {volume["name"] for volume in spec["volumes"]} == {"values", "tmp", "ca"}
    assert {mount["mountPath"] for mount in container["volumeMounts"]} >= {"/etc/user-pods", "/ca"}
    metadata = only(objects, "Deployment")["spec"]["template"]["metadata"]
    assert (metadata["annotations"]["a"], metadata["labels"]["team"], spec["priorityClassName"]) == ("b", "x", "high")


def own_variables(helm: Helm) -> set[str]:
    audience = "API_OIDC_AUDIENCE"  # with this setting the chart sets another one
    more = ("--set", f"settings.{audience}=user-pods,users.networkPolicies.enabled=true")
    objects = render(helm, *EVERYTHING, *more)
    return {
        variable["name"]
        for deployment in of_kind(objects, "Deployment")
        for variable in deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    } - {f"USER_PODS_{audience}"}


def test_the_schema_refuses_exactly_the_variables_that_the_chart_sets(helm: Helm) -> None:
    schema = json.loads((SERVICE / "values.schema.json").read_text())["properties"]
    own = own_variables(helm)
    assert set(schema["extraEnv"]["items"]["properties"]["name"]["not"]["enum"]) == own
    chosen = {
        "API_OIDC_ISSUER",
        "DRAIN_SECONDS",
        "SHUTDOWN_TIMEOUT",
        "GATEWAY_INTERNAL_URL",
        "NAMESPACE_POLICIES",
    }  # the chart's value yields to these
    settings = {name.removeprefix("USER_PODS_") for name in own if name.startswith("USER_PODS_")} - chosen
    (refused,) = [names for names, allowed in schema["settings"]["patternProperties"].items() if allowed is False]
    assert set(refused.strip("^()$").split("|")) == settings


def test_the_schema_refuses_exactly_the_volumes_that_the_chart_makes(helm: Helm) -> None:
    schema = json.loads((SERVICE / "values.schema.json").read_text())["properties"]
    pods = [item["spec"]["template"]["spec"] for item in of_kind(render(helm, *EVERYTHING), "Deployment")]
    names = {volume["name"] for pod in pods for volume in pod["volumes"]}
    assert set(schema["extraVolumes"]["items"]["properties"]["name"]["not"]["enum"]) == names
    paths = {mount["mountPath"] for pod in pods for mount in pod["containers"][0]["volumeMounts"]}
    refused = schema["extraVolumeMounts"]["items"]["properties"]["mountPath"]["not"]["pattern"]
    assert all(re.search(refused, path) for path in paths)


@pytest.mark.parametrize(
    "values",
    [
        'extraEnv=[{"name":"USER_PODS_REDIS_URL","value":"redis://evil"}]',
        'settings={"NAMESPACE":"kube-system"}',
        'extraVolumes=[{"name":"tmp","emptyDir":{}}]',
        'extraVolumeMounts=[{"name":"ca","mountPath":"/tmp"}]',
        'extraVolumeMounts=[{"name":"ca","mountPath":"/etc/user-pods/"}]',
        'podLabels={"user-pods/gateway":"true"}',
        'podAnnotations={"checksum/values":"x"}',
        'podAnnotations={"prometheus.io/port":"1"}',
        'users={"labels":{"pod-security.kubernetes.io/enforce":"privileged"}}',
        'users={"labels":{"app.kubernetes.io/managed-by":"me"}}',
        'metrics={"serviceMonitor":{"labels":{"app.kubernetes.io/name":"x"}}}',
        'metrics={"prometheusRule":{"labels":{"helm.sh/chart":"x"}}}',
        'metrics={"dashboard":{"labels":{"app.kubernetes.io/instance":"x"}}}',
        'gateway={"port":8080}',
        'gateway={"certificate":{"issuerRef":{"nmae":"letsencrypt"}}}',
        'podLabels={"app.kubernetes.io/name":"other"}',
        'topologySpreadConstraints=[{"maxSkew":1}]',
        'service={"ipFamilies":["IPv5"]}',
        'host="example.com"',
    ],
)
def test_a_name_of_the_charts_own_and_what_cannot_be_are_refused(helm: Helm, values: str) -> None:
    done = helm.try_("template", "session-service", str(SERVICE), "--set-json", values)
    assert done.returncode != 0
    assert values.partition("=")[0] in done.stderr


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ("gateway.port=8081,service.port=8081", "gateway.port"),
        ("gateway.port=9090,metrics.enabled=true", "metrics.port"),
        ("redis.urlSecret.name=session-service-signing-keys", "redis.urlSecret.name"),
        ("apiKeys.secret.name=session-service-signing-keys", "apiKeys.secret.name"),
        ("apiKeys.named.name=session-service-signing-keys", "apiKeys.named.name"),
        ("gateway.oidc.secret.name=session-service-signing-keys", "gateway.oidc.secret.name"),
        ("gateway.ingress.tlsSecret=session-service-signing-keys", "gateway.ingress.tlsSecret"),
        ("gateway.certificate.secretName=session-service-signing-keys", "gateway.certificate.secretName"),
    ],
)
def test_ports_and_secrets_that_collide_are_refused(helm: Helm, values: str, told: str) -> None:
    done = helm.try_("template", "session-service", str(SERVICE), *DOMAIN, "--set", values)
    assert done.returncode != 0
    assert f"{told}: " in done.stderr


def test_labels_and_annotations_of_ones_own_are_kept_beside_the_charts(helm: Helm) -> None:
    text = helm(
        "template", "session-service", str(SERVICE), *DOMAIN,
        "--set", "users.create=true,users.labels.team=x,metrics.enabled=true,metrics.serviceMonitor.enabled=true",
        "--set", "users.labels.pod-security\\.kubernetes\\.io/enforce-version=v1.37,podAnnotations.a=b",
    )  # fmt: skip
    objects = [item for item in yaml.load_all(text, NoDuplicates) if item]
    (namespace,) = of_kind(objects, "Namespace")
    labels = namespace["metadata"]["labels"]
    assert (labels["team"], labels["pod-security.kubernetes.io/enforce-version"]) == ("x", "v1.37")


class NoDuplicates(yaml.SafeLoader):
    """YAML that says a key twice is wrong, though most readers take the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [self.construct_object(key) for key, _ in node.value]
        assert len(names) == len(set(names)), names
        return super().construct_mapping(node, deep)


def test_a_setting_is_not_given_twice(helm: Helm) -> None:
    twice = ("--set-json", 'settings={"LOG_LEVEL":"debug"}', "--set-json", 'extraEnv=[{"name":"USER_PODS_LOG_LEVEL"}]')
    done = helm.try_("template", "session-service", str(SERVICE), *twice)
    assert done.returncode != 0
    assert "USER_PODS_LOG_LEVEL is in settings, too" in done.stderr


def test_a_dual_stack_service_listens_on_both(helm: Helm) -> None:
    dual = (
        "--set",
        "service.ipFamilyPolicy=RequireDualStack,host=",
        "--set-json",
        'service.ipFamilies=["IPv6","IPv4"]',
    )
    objects = render(helm, *DOMAIN, *dual)
    service = only(objects, "Service")["spec"]
    assert (service["ipFamilyPolicy"], service["ipFamilies"]) == ("RequireDualStack", ["IPv6", "IPv4"])
    assert {"name": "USER_PODS_HOST", "value": ""} in pod(objects)["containers"][0]["env"]


def test_openshift_can_assign_the_user(helm: Helm) -> None:
    spec = pod(render(helm, *DOMAIN, "--set", "podSecurityContext.runAsUser=null,podSecurityContext.runAsGroup=null"))
    assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert pod(render(helm))["securityContext"]["runAsUser"] == 10001
