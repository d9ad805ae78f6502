"""The file of profiles: what it may say, and that a mistake is named. The values of a session."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from service.adapters.files.profiles import SET_BY_THE_SERVICE, read_profiles
from service.adapters.helm.values import own_values, session_values
from service.domain.idle_times import IdleTimes
from service.domain.names import SessionId
from service.domain.permissions import CallerRole
from service.domain.profiles import Profile
from service.domain.workload import UNASSIGNED, Assignment

UUID = SessionId("abc123xy")
FILE = """
small: {}
gpu:
  description: One GPU
  values: {resources: {limits: {nvidia.com/gpu: 1}}, tolerations: [{key: gpu}]}
  roles: [frontend, operator]
  limits: {cooldown: 600, background: 0}
"""


def file(folder: Path, text: str) -> Path:
    (folder / "profiles.yaml").write_text(text)
    return folder / "profiles.yaml"


def test_a_file_gives_the_profiles_in_its_order(tmp_path: Path) -> None:
    small, gpu = read_profiles(file(tmp_path, FILE))
    assert small == Profile(name="small")
    assert gpu == Profile(
        name="gpu",
        description="One GPU",
        values={"resources": {"limits": {"nvidia.com/gpu": 1}}, "tolerations": [{"key": "gpu"}]},
        roles=frozenset({CallerRole.FRONTEND, CallerRole.OPERATOR}),
        cooldown=timedelta(minutes=10),
        background=timedelta(0),
    )
    assert read_profiles(file(tmp_path, "")) == read_profiles(file(tmp_path, "{}")) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "cannot be read as YAML"),
        ("- small", "not hold a mapping"),
        ("5", "not hold a mapping"),
        ("Large: {}", "'Large' is no name"),
        ("'': {}", "'' is no name"),
        ("1: {}", "1 is no name"),
        ("large: [a]", "large: "),
        ("large: {image: x}", "large.image: "),
        ("large: {values: [a]}", "large.values: "),
        ("large: {description: 5}", "large.description: "),
        ('large: {description: "a\\nb"}', "large.description: write one line"),
        ("large: {roles: []}", "large.roles: "),
        ("large: {roles: [root]}", "large.roles.0: "),
        ("large: {limits: {cooldown: 0}}", "large.limits.cooldown: "),
        ("large: {limits: {cooldown: .nan}}", "large.limits.cooldown: "),
        ("large: {limits: {lease: 5}}", "large.limits.lease: "),
        *((f"large: {{values: {{{name}: x}}}}", f"must not set {name}: ") for name in SET_BY_THE_SERVICE),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        read_profiles(file(tmp_path, text))


def test_a_profile_is_above_the_common_values_and_below_the_sessions_own() -> None:
    common = {"image": {"tag": "1", "digest": ""}, "env": [{"name": "A"}], "probes": {"startup": {"periodSeconds": 1}}}
    profile = Profile(name="gpu", values={"image": {"tag": "2"}, "env": [{"name": "B"}], "probes": {"startup": None}})
    own = own_values(UUID, "ann", IdleTimes(), Assignment(profile="gpu"))
    assert session_values(common, profile, own) == {
        "image": {"tag": "2", "digest": ""},
        "env": [{"name": "B"}],  # helm replaces lists
        "probes": {"startup": None},
        "uuid": UUID,
        "user": {"id": "ann"},
        "profile": "gpu",
        "autoscaling": {"pollingInterval": 5, "cooldownPeriod": 120, "lease": 15.0, "background": 0.0},
    }
    assert common["image"] == {"tag": "1", "digest": ""}, "it is common to all sessions"


def test_a_session_without_a_profile_has_no_value_that_older_charts_do_not_know() -> None:
    assert "profile" not in own_values(UUID, "ann", IdleTimes(), UNASSIGNED)
