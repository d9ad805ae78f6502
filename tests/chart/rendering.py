"""The service's chart as objects, and what its Roles grant."""

from typing import Any

import yaml

from tests.chart.conftest import CHART, Helm

SERVICE = CHART.parent / "session-service"

Right = tuple[str, str, str, str, str]
"""Namespace ("": the whole cluster), API group, resource with its subresource, verb, name of one object ("": any)."""


def render(helm: Helm, *arguments: str) -> list[dict[str, Any]]:
    text = helm("template", "session-service", str(SERVICE), *arguments)
    return [item for item in yaml.safe_load_all(text) if item]


def of_kind(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [item for item in objects if item["kind"] == kind]


def rights(objects: list[dict[str, Any]]) -> dict[str, set[Right]]:
    """What each ServiceAccount may do, by its name."""
    roles = {_place(item): item["rules"] for kind in ("Role", "ClusterRole") for item in of_kind(objects, kind)}
    found: dict[str, set[Right]] = {}
    for binding in (*of_kind(objects, "RoleBinding"), *of_kind(objects, "ClusterRoleBinding")):
        namespace = binding["metadata"].get("namespace", "")
        rules = roles[namespace, binding["roleRef"]["name"]]
        for subject in binding["subjects"]:
            found.setdefault(subject["name"], set()).update(_expanded(namespace, rules))
    return found


def _place(item: dict[str, Any]) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _expanded(namespace: str, rules: list[dict[str, Any]]) -> set[Right]:
    return {
        (namespace, group, resource, verb, name)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    }
