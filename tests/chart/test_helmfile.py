"""helmfile.yaml in each of its environments: what it installs, in which order, and with which values."""

import json
import os
import secrets
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from devcluster.cluster import Cluster
from devcluster.toolchain import Tools, search_path
from stack.stack import ROOT
from tests.chart.conftest import ADDRESS, CHART, Helm
from tests.chart.rendering import of_kind
from tests.redis_servers import redis_server

ENVIRONMENTS = ("embedded", "gke", "kind", "production")
CREDENTIALS = CHART.parent / "credentials"
END_SCALING = ROOT / "environments" / "end-scaling.sh"
PASSWORD, KEYS = "p" * 20, "k" * 20


class Helmfile:
    """One environment of helmfile.yaml."""

    def __init__(self, tools: Tools, environment: str) -> None:
        self._tools = tools
        self.environment = environment

    def __call__(self, *arguments: str, **variables: str) -> str:
        words = {"REDIS_PASSWORD": PASSWORD, "USER_PODS_API_KEYS": KEYS} | variables
        env = {"PATH": search_path(self._tools), "HOME": os.environ["HOME"], "HELMFILE_UPGRADE_NOTICE_DISABLED": "1"}
        argv = [str(self._tools.path("helmfile")), "-e", self.environment, "--quiet", *arguments]
        done = subprocess.run(argv, cwd=ROOT, env=env | words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def releases(self) -> dict[str, dict[str, Any]]:
        found = json.loads(self("list", "--output", "json"))
        return {release["name"]: release for release in found if release["enabled"]}

    def render(self, part: str, *arguments: str, **variables: str) -> list[dict[str, Any]]:
        text = self("-l", f"part={part}", *arguments, "template", "--skip-deps", "--skip-needs", **variables)
        return [item for item in yaml.safe_load_all(text) if item]


@pytest.fixture(params=ENVIRONMENTS)
def helmfile(request: pytest.FixtureRequest, tools: Tools) -> Helmfile:
    return Helmfile(tools, request.param)


def test_these_are_the_environments() -> None:
    first = next(yaml.safe_load_all((ROOT / "helmfile.yaml").read_text()))
    assert set(first["environments"]) == set(ENVIRONMENTS)


def test_remote_charts_are_pinned_to_one_version(helmfile: Helmfile) -> None:
    releases = helmfile.releases()
    assert set(releases) == {"credentials", "redis", "keda", "session-service", "keda-credentials"}
    for release in releases.values():
        remote = not release["chart"].startswith("./")
        assert not remote or release["version"].replace(".", "").isdigit(), release


def test_keda_is_the_version_that_the_suite_tests(tools: Tools) -> None:
    pinned = (ROOT / "devcluster" / "tools" / "keda" / "go.mod").read_text()
    assert f"v{Helmfile(tools, 'production').releases()['keda']['version']} " in pinned


def test_releases_are_removed_in_the_opposite_order_and_keda_after_its_objects() -> None:
    _, state = yaml.safe_load_all((ROOT / "helmfile.yaml").read_text())
    needs = {release["name"]: release.get("needs", []) for release in state["releases"]}
    own, keda = "{{ .Values.namespace }}", "{{ .Values.keda.namespace }}"
    assert needs["session-service"] == [f"{own}/redis", f"{keda}/keda"]
    assert needs["redis"] == [f"{own}/credentials"]
    # The service's chart makes the namespace in which these are.
    assert needs["keda-credentials"] == [f"{own}/session-service"]
    (hook,) = next(release["hooks"] for release in state["releases"] if release["name"] == "keda")
    assert (hook["events"], hook["command"]) == (["preuninstall"], "environments/end-scaling.sh")
    assert END_SCALING.stat().st_mode & stat.S_IXUSR


def test_the_services_values_fit_its_chart_and_its_secrets_are_made(helmfile: Helmfile) -> None:
    service = helmfile.render("service")
    (deployment,) = of_kind(service, "Deployment")
    wanted = {
        variable["valueFrom"]["secretKeyRef"]["name"]
        for variable in deployment["spec"]["template"]["spec"]["containers"][0]["env"]
        if "valueFrom" in variable
    }
    made = {item["metadata"]["name"] for item in helmfile.render("credentials")}
    assert wanted | {"redis-password", "redis-config", "redis-probe"} <= made
    (cluster_role,) = of_kind(service, "ClusterRole")
    assert {verb for rule in cluster_role["rules"] for verb in rule["verbs"]} == {"list"}
    (binding,) = of_kind(service, "ClusterRoleBinding")
    assert binding["roleRef"]["name"] == cluster_role["metadata"]["name"]


def test_every_environment_guards_the_users_namespace(helmfile: Helmfile) -> None:
    objects = helmfile.render("service")
    (namespace,) = of_kind(objects, "Namespace")
    assert namespace["metadata"]["name"] == "users"
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {item["kind"] for item in objects} >= {"NetworkPolicy", "ResourceQuota", "LimitRange"}


def test_every_users_release_is_valid_with_the_values_of_the_environment(helmfile: Helmfile, tools: Tools) -> None:
    (config,) = of_kind(helmfile.render("service"), "ConfigMap")
    values = config["data"]["user-pod.yaml"]
    for name in ("helm", "helm3"):
        objects = Helm(tools.path(name)).render("user-ab12cd34", *ADDRESS, "-f", "-", stdin=values)
        (scaler,) = of_kind(objects, "ScaledObject")
        assert scaler["spec"]["triggers"][0]["metadata"]["username"] == "keda"


def test_only_where_browsers_come_by_a_public_name_the_domain_is_left_to_the_operator(helmfile: Helmfile) -> None:
    (deployment,) = of_kind(helmfile.render("service"), "Deployment")
    env = {each["name"]: each.get("value") for each in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    local = helmfile.environment in ("kind", "embedded")
    assert env.get("USER_PODS_GATEWAY_DOMAIN") == ("localhost" if local else None)


def test_redis_can_be_one_that_is_there(tools: Tools) -> None:
    helmfile = Helmfile(tools, "production")
    off = ("--state-values-set", "redis.enabled=false,keda.enabled=false")
    url, word = "rediss://service:secret@redis.example.com:6379/0", "word"
    made = helmfile.render("credentials", *off, REDIS_URL=url, KEDA_REDIS_PASSWORD=word)
    data = {item["metadata"]["name"]: item["stringData"] for item in made}
    assert set(data) == {"session-service-keys", "session-service-redis", "redis-password"}
    assert data["session-service-redis"]["url"] == url
    assert data["redis-password"] == {"password": word}
    listed = json.loads(helmfile(*off, "list", "--output", "json"))
    assert {each["name"] for each in listed if each["enabled"]} == {
        "credentials",
        "session-service",
        "keda-credentials",
    }


def test_the_embedded_redis_takes_the_values_of_the_remote_chart(tools: Tools) -> None:
    objects = Helmfile(tools, "embedded").render("redis")
    (config,) = of_kind(objects, "ConfigMap")
    assert "notify-keyspace-events El" in config["data"]["redis.conf"]
    (redis_,) = of_kind(objects, "StatefulSet")
    (container,) = redis_["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "user-pods/redis:dev"
    assert container["envFrom"] == [{"secretRef": {"name": "redis-probe"}}]
    volumes = redis_["spec"]["template"]["spec"]["volumes"]
    assert {"name": "users", "secret": {"secretName": "redis-config"}} in volumes


def test_only_repositories_of_installed_charts_are_asked(helmfile: Helmfile) -> None:
    *_, state = yaml.safe_load_all(helmfile("build"))
    names = {each["name"] for each in state.get("repositories") or []}
    assert names == (set() if helmfile.environment == "embedded" else {"kedacore", "groundhog2k"})


def test_it_can_be_installed_upgraded_and_removed_again(tools: Tools, cluster: Cluster) -> None:
    """On simulated nodes, where pods are ready without their images. What the API server checks is real."""
    tag = secrets.token_hex(3)
    own, users, keda = (f"{name}-{tag}" for name in ("own", "users", "keda"))
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": keda}})
    off = "keda.enabled=false,userPod.persistence.enabled=false"  # the cluster runs KEDA, which others use
    values = f"namespace={own},usersNamespace={users},keda.namespace={keda},{off}"
    helmfile = Helmfile(tools, "embedded")
    known = {"KUBECONFIG": str(cluster.kubeconfig)}

    def installed() -> dict[str, str]:
        found = [
            json.loads(Helm(tools.path("helm"), cluster.kubeconfig, each)("list", "-o", "json"))
            for each in (own, users)
        ]
        return {release["name"]: release["status"] for releases in found for release in releases}

    everything = dict.fromkeys(("credentials", "redis", "session-service", "keda-credentials"), "deployed")
    for _ in ("install", "upgrade"):
        helmfile("--state-values-set", values, "sync", **known)
        assert installed() == everything
    # A user, whose pod fits into the quota and the standard, and whose ScaledObject has KEDA's finalizer.
    (config,) = of_kind(helmfile.render("service", "--state-values-set", values), "ConfigMap")
    user = Helm(tools.path("helm"), cluster.kubeconfig, users)
    arguments = (
        "user-ab12cd34",
        str(CHART),
        "--set-string",
        f"redis.address=127.0.0.1:{cluster.redis_port}",
        "-f",
        "-",
    )
    user("install", *arguments, stdin=config["data"]["user-pod.yaml"])
    cluster.kubectl("-n", users, "rollout", "status", "deployment/user-ab12cd34", "--timeout=60s")
    env = {"PATH": search_path(tools), "HOME": os.environ["HOME"], **known}
    done = subprocess.run([str(END_SCALING), users], env=env, capture_output=True, text=True, check=False)
    assert f"{users} " not in done.stderr  # others on this cluster may still use KEDA
    assert cluster.kubectl("-n", users, "get", "scaledobjects", "-o", "name") == ""
    helmfile("--state-values-set", values, "destroy", **known)
    assert installed() == {"user-ab12cd34": "deployed"}
    cluster.kubectl("delete", "namespace", own, users, keda, "--timeout=90s")


# --- Redis' users ---

KEDAS_SCRIPT = """
local kind = redis.call('type', KEYS[1]).ok
if kind == 'list' then return redis.call('llen', KEYS[1]) end
return 0
"""
"""As KEDA's scaler counts a queue."""


def test_nobody_but_redis_administrator_is_all_powerful(tools: Tools, tmp_path: Path) -> None:
    helmfile = Helmfile(tools, "production")
    made = {item["metadata"]["name"]: item["stringData"] for item in helmfile.render("credentials")}
    config = tmp_path / "redis.conf"
    config.write_text(made["redis-config"]["users.conf"])
    with redis_server(str(config)) as server:
        port = server.port
        service = redis.Redis.from_url(
            made["session-service-redis"]["url"].replace("redis.user-pods.svc:6379", f"localhost:{port}")
        )
        keda = redis.Redis(port=port, username="keda", password=made["redis-password"]["password"])
        tester = redis.Redis(port=port, username="tester", password=made["redis-password"]["tester"])
        administrator = redis.Redis(port=port, password=PASSWORD)
        service.rpush("queue:ab12cd34", "x")
        tester.eval("return redis.call('RPUSH', KEYS[1], 'x')", 1, "queue:ab12cd34")
        assert keda.eval(KEDAS_SCRIPT, 1, "queue:ab12cd34") == 2
        refused = [
            (keda, ("rpush", "queue:ab12cd34", "x")),
            (keda, ("del", "queue:ab12cd34")),
            (keda, ("eval", "return redis.call('rpush', KEYS[1], 'x')", 1, "queue:ab12cd34")),
            (keda, ("hgetall", "session:ab12cd34")),
            (keda, ("config", "get", "*")),
            (tester, ("hgetall", "session:ab12cd34")),
            (tester, ("del", "queue:ab12cd34")),
            (service, ("config", "set", "dir", "/")),
            (service, ("flushall",)),
            (service, ("acl", "list")),
            (service, ("get", "somebody-elses")),
            (redis.Redis(port=port), ("ping",)),
        ]
        for client, command in refused:
            with pytest.raises((redis.exceptions.ResponseError, redis.exceptions.AuthenticationError)):
                client.execute_command(*command)  # type: ignore[no-untyped-call]
        assert administrator.acl_whoami() == "default"
        for client in (service, keda, tester, administrator):
            client.close()


def test_no_password_gives_away_another(tools: Tools) -> None:
    made = {
        item["metadata"]["name"]: item["stringData"] for item in Helmfile(tools, "production").render("credentials")
    }
    words = {*made["redis-password"].values(), made["session-service-redis"]["url"].split(":")[2].split("@")[0]}
    assert len(words) == 3
    assert all(PASSWORD not in word for word in words)


@pytest.mark.parametrize(
    "values",
    [
        "redisPassword=short,apiKeys=kkkkkkkkkkkkkkkkkkkk",
        "redisPassword=pppppppppppppppppppp",
        "apiKeys=kkkkkkkkkkkkkkkkkkkk",
        "redisPassword=pppppppppppppppppppp,redisUrl=redis://x,apiKeys=kkkkkkkkkkkkkkkkkkkk",
    ],
    ids=["short password", "no keys", "no redis", "two of them"],
)
def test_credentials_that_cannot_work_are_refused(helm: Helm, values: str) -> None:
    assert helm.try_("template", "credentials", str(CREDENTIALS), "--set", values).returncode != 0


# --- the end of KEDA ---


def end_scaling(folder: Path, left: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run the hook with a kubectl that notes its calls, and for which `left` is what others have."""
    fake, calls = folder / "kubectl", folder / "calls"
    fake.write_text(f'#!/bin/sh\necho "$*" >> {calls}\ncase "$1" in get) printf "%s" "{left}";; esac\n')
    fake.chmod(0o755)
    argv = [str(END_SCALING), "users"]
    env = {"PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    return done, calls.read_text().splitlines()


def test_before_keda_goes_its_objects_go_and_are_waited_for(tmp_path: Path) -> None:
    done, calls = end_scaling(tmp_path, "")
    assert done.returncode == 0
    assert calls[0].startswith("-n users delete scaledobjects.keda.sh --all --wait")


def test_keda_stays_while_others_use_it(tmp_path: Path) -> None:
    done, _ = end_scaling(tmp_path, "others scaledobject/theirs")
    assert done.returncode != 0
    assert "others scaledobject/theirs" in done.stderr
    assert "keda.enabled: false" in done.stderr
