"""Which nodes a pod may run on, by Kubernetes' rules."""

import pytest

from service.domain.placement import ANYWHERE, Placement, Requirement, Taint, Toleration

DEDICATED = Taint("dedicated", "users", "NoSchedule")


@pytest.mark.parametrize(
    ("toleration", "covers"),
    [
        (Toleration("dedicated", "users", "NoSchedule"), True),
        (Toleration("dedicated", "users", ""), True),
        (Toleration("dedicated", None, "NoSchedule"), True),
        (Toleration("", None, ""), True),
        (Toleration("dedicated", "others", ""), False),
        (Toleration("dedicated", "users", "NoExecute"), False),
        (Toleration("gpu", None, ""), False),
    ],
)
def test_a_taint_keeps_pods_away_that_do_not_tolerate_it(toleration: Toleration, covers: bool) -> None:
    assert Placement(tolerations=(toleration,)).accepts({}, [DEDICATED]) is covers
    assert not Placement(tolerations=(toleration,)).accepts({}, [DEDICATED, Taint("other", "", "NoSchedule")]) or (
        toleration.key == ""
    )


def test_a_pod_without_requirements_runs_on_every_node_without_taints() -> None:
    assert ANYWHERE.accepts({"a": "b"}, [])
    assert not ANYWHERE.accepts({}, [DEDICATED])


@pytest.mark.parametrize(
    ("operator", "values", "fitting"),
    [
        ("In", ("a", "b"), {"a"}),
        ("NotIn", ("a",), {"7", None}),
        ("Exists", (), {"a", "7"}),
        ("DoesNotExist", (), {None}),
        ("Gt", ("6",), {"7"}),
        ("Lt", ("8",), {"7"}),
        ("Gt", (), set()),
        ("Near", ("a",), set()),
    ],
)
def test_a_requirement_is_about_the_node_s_label(operator: str, values: tuple[str, ...], fitting: set[str]) -> None:
    placement = Placement(terms=((Requirement("pool", operator, values),),))
    labels: dict[str | None, dict[str, str]] = {"a": {"pool": "a"}, "7": {"pool": "7"}, None: {}}
    assert {name for name, each in labels.items() if placement.accepts(each, [])} == fitting


def test_all_requirements_of_one_term_must_hold() -> None:
    users, fast, big = (Requirement(key, "Exists") for key in ("users", "fast", "big"))
    placement = Placement(terms=((users, fast), (big,)))
    assert placement.accepts({"users": "", "fast": ""}, [])
    assert placement.accepts({"big": ""}, [])
    assert not placement.accepts({"users": ""}, [])
    assert not Placement(terms=()).accepts({}, [])
