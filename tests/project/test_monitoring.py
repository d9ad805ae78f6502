"""Dashboard and alert rules are held to the metrics that there are: their names, their labels, their grammar."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from promql_parser import Expr, VectorSelector

from service.adapters.prometheus.reference import every_metric, reference
from service.domain.metrics import MEASURED, RequestOutcome
from service.domain.phase import Phase
from stack.stack import ROOT

FOLDER = ROOT / "docs" / "monitoring"
SCRAPER = {"instance", "job"}
"""Labels that Prometheus adds."""
VALUES = {
    "phase": {phase.value for phase in Phase},
    "stage": set(map(str, MEASURED)),
    "outcome": {"ok", "failed", "installed", "present"} | {visit.value for visit in RequestOutcome},
}
RULES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"][0]["rules"]
PANELS: list[dict[str, Any]] = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
EXPRESSIONS = [rule["expr"] for rule in RULES] + [t["expr"] for panel in PANELS for t in panel["targets"]]


def series() -> dict[str, set[str]]:
    """Name of every series that a scrape can bring -> its labels."""
    found: dict[str, set[str]] = {}
    for family in every_metric().registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def selectors(expression: str) -> list[VectorSelector]:
    found: list[VectorSelector] = []

    def visit(part: Expr) -> bool:
        if isinstance(part, VectorSelector):
            found.append(part)
        return True

    promql_parser.walk(promql_parser.parse(expression.replace("$__rate_interval", "5m")), visit)
    return found


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_expression_can_be_parsed_and_names_metrics_and_labels_that_exist(expression: str) -> None:
    known, labels = series(), set(SCRAPER)
    assert selectors(expression)
    for selector in selectors(expression):
        assert selector.name in known
        labels |= known[selector.name]
        for matcher in selector.matchers.matchers:
            assert matcher.name in known[selector.name]
            assert matcher.value in VALUES[matcher.name]
    for grouping in re.findall(r"\b(?:by|on) ?\(([^)]*)\)", expression):
        assert {name.strip() for name in grouping.split(",") if name.strip()} <= labels


def test_every_alert_has_a_severity_a_summary_and_a_first_step() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert re.fullmatch(r"[0-9]+[sm]", rule.get("for", "0s"))
        assert all(rule["annotations"][part].endswith((".", "?")) for part in ("summary", "runbook"))


def test_log_messages_quoted_by_alerts_exist() -> None:
    code = "".join(path.read_text() for path in (ROOT / "service").rglob("*.py"))
    for rule in RULES:
        for message in re.findall(r'"([^"]+)"', rule["annotations"]["runbook"]):
            assert message in code, f"{rule['alert']} quotes a message that the service does not log: {message}"


def test_panels_have_unique_names_and_ids_and_do_not_overlap() -> None:
    assert len({panel["id"] for panel in PANELS}) == len({panel["title"] for panel in PANELS}) == len(PANELS)
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        cells = set(_cells(**panel["gridPos"]))
        assert not cells & taken, panel["title"]
        taken |= cells
    assert max(x for x, _ in taken) < 24


def _cells(x: int, y: int, w: int, h: int) -> Iterator[tuple[int, int]]:
    return ((column, row) for column in range(x, x + w) for row in range(y, y + h))


def test_every_metric_is_in_the_reference_and_those_named_in_the_guide_exist() -> None:
    page = reference()
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in series()}
    assert families == set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    guide = Path(ROOT / "docs" / "how-to" / "monitor.md").read_text()
    for name in re.findall(r"`([a-z]+(?:_[a-z]+)*)(?:_?…)?`", guide):
        assert any(family.startswith((name, f"user_pods_{name}")) for family in families) or name in VOCABULARY, name


VOCABULARY = {
    "added", "answer", "api", "asked", "asleep", "by", "doing", "failed", "idle", "idle_since", "info", "interrupted",
    "keep_data", "last_activity", "left", "metrics", "operator", "outcome", "pod", "ready", "ready_at", "reason",
    "request_id", "revision", "seconds", "uuid", "visit", "why",
}  # fmt: skip
"""Words in code type that are no metrics: members, causes and log fields."""
