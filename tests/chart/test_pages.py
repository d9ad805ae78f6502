"""The pages that lead from an empty cluster to a VS Code: their values fit the charts, and what they name exists."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.toolchain import Tools
from service.settings import Settings
from stack.stack import ROOT
from tests.chart.conftest import ADDRESS, Helm
from tests.chart.rendering import of_kind
from tests.chart.test_helmfile import ENVIRONMENTS, Helmfile

PAGES = ROOT / "docs" / "how-to"
VALUES = {"kind": ("kind", "my.yaml"), "k3s": ("kind", "k3s.yaml"), "gke": ("gke", "my-gke.yaml")}
"""Page -> environment, and the file whose content the page shows."""
MANAGED = {"REDIS_URL": "redis://:word@10.0.0.3:6379/0", "KEDA_REDIS_PASSWORD": "word"}


def blocks(page: Path, language: str) -> list[str]:
    """The blocks of code of a page, without the indentation of lists."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


@pytest.fixture(params=sorted(VALUES))
def documented(request: pytest.FixtureRequest, tools: Tools, tmp_path: Path) -> tuple[Helmfile, tuple[str, ...]]:
    """The environment of a page with the values that it shows."""
    environment, name = VALUES[request.param]
    (text,) = [block for block in blocks(PAGES / f"{request.param}.md", "yaml") if block.startswith(f"# {name}\n")]
    (tmp_path / name).write_text(text)
    return Helmfile(tools, environment), ("--state-values-file", str(tmp_path / name))


def test_the_values_of_a_page_fit_the_services_chart_and_its_settings(
    documented: tuple[Helmfile, tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    helmfile, values = documented
    (deployment,) = of_kind(helmfile.render("service", *values, **MANAGED), "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    for variable in container["env"]:
        monkeypatch.setenv(variable["name"], variable.get("value", "redis://redis.example:6379/0"))
    monkeypatch.delenv("USER_PODS_CHART_VALUES")  # a file of the pod
    assert Settings().gateway_domain in ("localhost", "workspaces.example.com")
    secrets = {item["metadata"]["name"] for item in helmfile.render("credentials", *values, **MANAGED)}
    assert {"session-service-redis", "session-service-keys", "redis-password"} <= secrets


def test_the_values_of_a_page_fit_every_users_release(documented: tuple[Helmfile, tuple[str, ...]], helm: Helm) -> None:
    helmfile, values = documented
    (config,) = of_kind(helmfile.render("service", *values, **MANAGED), "ConfigMap")
    objects = helm.render("user-ab12cd34", *ADDRESS, "-f", "-", stdin=config["data"]["user-pod.yaml"])
    assert of_kind(objects, "ScaledObject")


def test_on_gke_only_traefik_gets_in_and_workspaces_have_nodes_of_their_own(tools: Tools, tmp_path: Path) -> None:
    (text,) = [block for block in blocks(PAGES / "gke.md", "yaml") if block.startswith("# my-gke.yaml")]
    (tmp_path / "my-gke.yaml").write_text(text)
    objects = Helmfile(tools, "gke").render("service", "--state-values-file", str(tmp_path / "my-gke.yaml"), **MANAGED)
    (certificate,) = of_kind(objects, "Certificate")
    (ingress,) = of_kind(objects, "Ingress")
    assert ingress["spec"]["tls"][0]["secretName"] == certificate["spec"]["secretName"]
    assert ingress["spec"]["rules"][0]["host"] == "*.workspaces.example.com"
    (config,) = of_kind(objects, "ConfigMap")
    user = Helm(tools.path("helm")).render("user-ab12cd34", *ADDRESS, "-f", "-", stdin=config["data"]["user-pod.yaml"])
    (deployment,) = of_kind(user, "Deployment")
    spec = deployment["spec"]["template"]["spec"]
    pool = next(block for block in blocks(PAGES / "gke.md", "sh") if "node-pools create" in block)
    (label,) = spec["nodeSelector"].items()
    assert f"--node-labels {label[0]}={label[1]} " in pool
    assert f"--node-taints {label[0]}={label[1]}:NoSchedule" in pool
    assert {"key": label[0], "operator": "Equal", "value": label[1], "effect": "NoSchedule"} in spec["tolerations"]
    (claim,) = of_kind(user, "PersistentVolumeClaim")
    assert claim["spec"]["storageClassName"] == "premium-rwo"
    (scaler,) = of_kind(user, "ScaledObject")
    assert "username" not in scaler["spec"]["triggers"][0]["metadata"]  # Memorystore has one user


def test_the_deployment_by_github_deploys_the_digest_that_was_verified(tools: Tools) -> None:
    steps = yaml.safe_load((ROOT / ".github/workflows/deploy-gke.yaml").read_text())["jobs"]["deploy"]["steps"]
    script = steps[-1]["run"]
    digest, image = f"sha256:{'a' * 64}", "ghcr.io/example/user-pods/session-service"
    options = re.findall(r'--state-values-set "(.*?)"', script)
    values = [option.replace("$IMAGE", image).replace("$DIGEST", digest) for option in options]
    arguments = [each for value in values for each in ("--state-values-set", value)]
    (deployment,) = of_kind(Helmfile(tools, "gke").render("service", *arguments), "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"{image}@{digest}"


# --- what pages name ---

GUIDES = sorted(PAGES.glob("*.md"))


def ids(page: Path) -> str:
    return page.stem


@pytest.mark.parametrize("page", GUIDES, ids=ids)
def test_every_file_that_a_guide_names_exists(page: Path) -> None:
    roots = "|".join(("environments", "chart", "images", "devcluster", "docs", "tests", "examples", r"\.github"))
    for name in re.findall(rf"`((?:{roots})/[\w./-]+)`", page.read_text()):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", GUIDES, ids=ids)
def test_every_helmfile_command_of_a_guide_names_an_environment_and_files_that_it_shows(page: Path) -> None:
    text = page.read_text()
    for environment in re.findall(r"helmfile -e (\S+)", text):
        assert environment in ENVIRONMENTS
    for name in re.findall(r"--state-values-file (\S+)", text):
        shown = any(f"# {name}\n" in other.read_text() for other in GUIDES)
        assert shown or name == ".cluster/images.yaml", name  # which `python -m stack images` writes


@pytest.mark.parametrize("page", GUIDES, ids=ids)
def test_every_manifest_of_a_guide_is_one_and_is_not_refused_in_the_users_namespace(page: Path) -> None:
    inline = [match for block in blocks(page, "sh") for match in re.findall(r"<<EOF\n(.*?)^EOF", block, re.M | re.S)]
    for block in (*blocks(page, "yaml"), *inline):
        for item in yaml.safe_load_all(block):
            if isinstance(item, dict) and "kind" in item and "apiVersion" in item:
                assert item["metadata"]["name"]
                assert not runs_pods_among_users(item), "the namespace enforces the restricted standard"


def runs_pods_among_users(item: dict[str, Any]) -> bool:
    return item["metadata"].get("namespace") == "users" and item["kind"] in ("DaemonSet", "Deployment", "Pod", "Job")
