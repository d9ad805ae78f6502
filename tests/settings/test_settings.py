"""Settings: bad or unknown ones stop the start and are named; secrets are not shown."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from service import settings
from service.domain.awake_quota import AwakeLimits
from service.domain.expiry import ExpiryRule
from service.domain.names import SessionId
from service.role import Role
from service.settings import Settings, SettingsError


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"USER_PODS_{name.upper()}", raising=False)


def test_the_defaults_can_be_used() -> None:
    loaded = settings.load()
    assert (loaded.host, loaded.port, loaded.lease, loaded.cooldown) == ("127.0.0.1", 8080, 15, 120)


def test_no_session_is_ever_deleted_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not settings.load().expiry_rule
    monkeypatch.setenv("USER_PODS_DELETION_WARNING", "3600")
    assert not settings.load().expiry_rule
    monkeypatch.setenv("USER_PODS_SESSION_DORMANCY", "7776000")
    assert settings.load().expiry_rule == ExpiryRule(dormancy=timedelta(days=90), warning=timedelta(hours=1))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PORT", "eighty", "valid integer"),
        ("PORT", "70000", "65535"),
        ("NAMESPACE", "Users", "pattern"),
        ("REDIS_URL", "localhost:6379", "redis://host:6379/0"),
        ("REDIS_URL", "redis://host/db", "database number"),
        ("REDIS_URL", "redis://one,two/0", "only redis+sentinel"),
        ("REDIS_URL", "redis://fd00::6:6379/0", "brackets"),
        ("REDIS_URL", "redis://host:70000/0", "redis://"),
        ("REDIS_URL", "redis+sentinel://host:26379", "name of the master"),
        ("REDIS_URL", "redis+sentinel://host:26379/mymaster/db", "database number"),
        ("GATEWAY_HOME_URL", "app.example.com", "complete URL"),
        ("GATEWAY_HOME_URL", "https://user@app.example.com/", "complete URL"),
        ("GATEWAY_HOME_URL", "javascript:alert(1)", "complete URL"),
        ("GATEWAY_HOME_URL", "https://app.example.com/#x", "complete URL"),
        ("API_KEYS", "short", "16 or more"),
        ("API_KEYS", "with space with space", "without spaces"),
        ("API_OIDC_AUDIENCE", "user-pods", "API_OIDC_ISSUER: write a complete URL"),
        ("LEASE", "11", "USER_PODS_LEASE must be at least"),
        ("POLLING_INTERVAL", "30", "= 62"),
        ("SESSION_LIFETIME", "365", "write seconds, 3600 at least, or 0"),
        ("SESSION_DORMANCY", "90", "write seconds, 3600 at least, or 0"),
        ("SESSION_DORMANCY", "-1", "greater than or equal to 0"),
        ("DELETION_WARNING", "3", "greater than or equal to 3600"),
        ("DELETION_WARNING", "0", "greater than or equal to 3600"),
        ("HELM_TIMEOUT", "1", "5"),
        ("HOST", "0.0.0.0", "USER_PODS_API_KEYS is empty"),
        ("GATEWAY_DOMAIN", "Not a domain", "should match pattern"),
        ("GATEWAY_TRUSTED", "10.0.0.0/33", "not a valid"),
        ("METRICS_PORT", "8080", "must not be USER_PODS_PORT"),
        ("LOG_FORMAT", "xml", "'json' or 'console'"),
        ("REDIS_PASSWORD", "x", "no such setting"),
    ],
)
def test_a_bad_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str) -> None:
    monkeypatch.setenv(f"USER_PODS_{name}", value)
    with pytest.raises(SettingsError) as stopped:
        settings.load()
    assert words in str(stopped.value)
    assert "USER_PODS_" in str(stopped.value)


@pytest.mark.parametrize("role", [Role.GATEWAY, Role.CONTROLLER])
def test_a_role_without_the_api_needs_no_keys(monkeypatch: pytest.MonkeyPatch, role: Role) -> None:
    monkeypatch.setenv("USER_PODS_HOST", "0.0.0.0")
    monkeypatch.setenv("USER_PODS_GATEWAY_DOMAIN", "pods.example.com")
    monkeypatch.setenv("USER_PODS_ROLE", "api")
    assert settings.load(role=role).role is role
    with pytest.raises(SettingsError, match="API_KEYS is empty"):
        settings.load()


def test_all_invalid_settings_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER_PODS_PORT", "x")
    monkeypatch.setenv("USER_PODS_NAMESPACE", "X")
    monkeypatch.setenv("USER_PODS_TYPO", "1")
    with pytest.raises(SettingsError) as stopped:
        settings.load()
    assert all(name in str(stopped.value) for name in ("USER_PODS_PORT", "USER_PODS_NAMESPACE", "USER_PODS_TYPO"))


def test_a_removed_setting_does_not_stop_the_start_and_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("USER_PODS_GATEWAY_COMPRESSION", "true")
    settings.load()
    settings.warn_of_removed()
    assert caplog.messages == ["USER_PODS_GATEWAY_COMPRESSION no longer has an effect; remove it from the environment"]


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER_PODS_REDIS_URL", "redis://:hunter2hunter2@localhost:6379/0")
    monkeypatch.setenv("USER_PODS_API_KEYS", "k" * 20 + "," + "z" * 20)
    loaded = settings.load()
    assert [key.get_secret_value() for key in loaded.api_keys] == ["k" * 20, "z" * 20]
    for text in (repr(loaded), str(loaded), loaded.model_dump_json()):
        assert "hunter2" not in text
        assert "kkk" not in text
    monkeypatch.setenv("USER_PODS_REDIS_URL", "http://:hunter2hunter2@localhost")
    with pytest.raises(SettingsError) as stopped:
        settings.load()
    assert "hunter2" not in str(stopped.value)


def test_keda_gets_the_services_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER_PODS_REDIS_URL", "rediss://keda:hunter2@redis.example:7000/3")
    values = settings.load().values({"redis": {"passwordSecret": {"name": "redis"}}, "port": 3000})
    assert values["redis"] == {
        "address": "redis.example:7000",
        "database": 3,
        "username": "keda",
        "tls": {"enabled": True},
        "passwordSecret": {"name": "redis"},
    }
    assert values["port"] == 3000


def test_keda_gets_an_ipv6_address_with_its_brackets_and_the_users_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER_PODS_REDIS_URL", "redis://us%40er:p%2Fw@[fd00::6]:6380/2")
    values = settings.load().values({"redis": {"passwordSecret": {"name": "redis"}}})["redis"]
    assert (values["address"], values["username"], values["database"]) == ("[fd00::6]:6380", "us@er", 2)
    monkeypatch.setenv("USER_PODS_REDIS_URL", "redis://[fd00::6]")
    assert settings.load().values({})["redis"]["address"] == "[fd00::6]:6379"


SENTINELS = "rediss+sentinel://keda:hunter2@one:26380,[fd00::6]/my%20master/3"


def test_keda_gets_the_services_sentinels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER_PODS_REDIS_URL", SENTINELS)
    assert settings.load().values({"redis": {"passwordSecret": {"name": "redis"}}})["redis"] == {
        "address": "",
        "sentinel": {"addresses": ["one:26380", "[fd00::6]:26379"], "master": "my master", "username": ""},
        "database": 3,
        "username": "keda",
        "tls": {"enabled": True},
        "passwordSecret": {"name": "redis"},
    }
    operators = {"address": "redis.users:6379", "passwordSecret": {"name": "redis"}}
    values = settings.load().values({"redis": operators})["redis"]
    assert (values["address"], values["sentinel"]["addresses"]) == ("redis.users:6379", [])


def test_a_password_of_the_sentinels_needs_a_secret_for_keda(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "redis+sentinel://one/mymaster?sentinel_username=watcher&sentinel_password=hunter2%20x"
    monkeypatch.setenv("USER_PODS_REDIS_URL", url)
    with pytest.raises(SettingsError, match=r"redis\.sentinel\.passwordSecret\.name") as stopped:
        settings.load().values({})
    assert "hunter2" not in str(stopped.value)
    values = settings.load().values({"redis": {"sentinel": {"passwordSecret": {"name": "sentinels"}}}})["redis"]
    assert values["sentinel"] == {
        "addresses": ["one:26379"],
        "master": "mymaster",
        "username": "watcher",
        "passwordSecret": {"name": "sentinels"},
    }


def test_settings_that_cannot_work_are_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER_PODS_REDIS_URL", "redis://:hunter2@localhost:6379/0")
    with pytest.raises(SettingsError, match="KEDA could not read"):
        settings.load().values({})
    with pytest.raises(SettingsError, match="autoscaling off"):
        settings.load().values({"autoscaling": {"enabled": False}})


def test_the_process_ends_with_a_message_and_no_traceback(tmp_path: Path) -> None:
    env = {"USER_PODS_PORT": "x", "PATH": "/usr/bin"}
    argv = [sys.executable, "-m", "service", "serve"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "USER_PODS_PORT" in done.stderr
    assert "Traceback" not in done.stderr
    bad = tmp_path / "values.yaml"
    bad.write_text("a: [")
    done = subprocess.run(argv, env={"USER_PODS_CHART_VALUES": str(bad)}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "USER_PODS_CHART_VALUES" in done.stderr
    for env in ({"USER_PODS_PROFILES": str(bad)}, {"USER_PODS_DEFAULT_PROFILE": "large"}):
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "USER_PODS_PROFILES" in done.stderr


def test_the_gateway_has_a_separate_port_and_is_open_only_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER_PODS_GATEWAY_DOMAIN", "pods.example.com")
    monkeypatch.setenv("USER_PODS_GATEWAY_PORT", "8080")
    with pytest.raises(SettingsError, match="GATEWAY_PORT must be a port of its own"):
        settings.load()
    monkeypatch.delenv("USER_PODS_GATEWAY_PORT")
    monkeypatch.setenv("USER_PODS_HOST", "0.0.0.0")
    monkeypatch.setenv("USER_PODS_API_KEYS", "k" * 20)
    monkeypatch.setenv("USER_PODS_GATEWAY_OPEN", "true")
    with pytest.raises(SettingsError, match="GATEWAY_OPEN would let anybody in"):
        settings.load()


def test_workspaces_have_addresses_as_browsers_reach_them(monkeypatch: pytest.MonkeyPatch) -> None:
    uuid = SessionId("abc123xy")
    monkeypatch.setenv("USER_PODS_GATEWAY_DOMAIN", "pods.example.com")
    assert settings.load().origin(uuid) == "https://vs-code-abc123xy.pods.example.com"
    monkeypatch.setenv("USER_PODS_GATEWAY_PUBLIC_PORT", "8443")
    monkeypatch.setenv("USER_PODS_GATEWAY_PREFIX", "ws-")
    assert settings.load().origin(uuid) == "https://ws-abc123xy.pods.example.com:8443"


def test_help_lists_the_commands() -> None:
    done = subprocess.run([sys.executable, "-m", "service", "--help"], capture_output=True, text=True, check=True)
    assert "serve" in done.stdout


OIDC = {"OIDC_ISSUER": "https://id.example.com", "OIDC_CLIENT_ID": "workspaces", "GATEWAY_DOMAIN": "pods.example.com"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"OIDC_ISSUER": "http://id.example.com"}, "must be an https URL"),
        ({"OIDC_ISSUER": "https://id.example.com/?tenant=1"}, "without a query"),
        ({"OIDC_ISSUER": "id.example.com"}, "complete URL"),
        ({"OIDC_CLIENT_ID": ""}, "needs USER_PODS_OIDC_CLIENT_ID"),
        ({"GATEWAY_DOMAIN": ""}, "GATEWAY_DOMAIN"),
        ({"GATEWAY_HOME_URL": "https://app.example.com/"}, "exclude each other"),
        ({"OIDC_SCOPES": "email"}, "must have openid"),
        ({"OIDC_CLIENT_SECRET": "hunter2", "OIDC_CLIENT_SECRET_FILE": "/secret"}, "not both"),
    ],
)
def test_a_provider_that_cannot_work_is_refused(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], words: str
) -> None:
    for name, value in {**OIDC, **changes}.items():
        monkeypatch.setenv(f"USER_PODS_{name}", value)
    with pytest.raises(SettingsError, match=words) as stopped:
        settings.load()
    assert "hunter2" not in str(stopped.value)


def test_the_provider_and_who_may_come_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    more = {
        "OIDC_ALLOWED_DOMAINS": "Example.com, example.org",
        "OIDC_ALLOWED_GROUPS": "staff",
        "OIDC_CLIENT_SECRET": "hunter2",
    }
    for name, value in {**OIDC, **more}.items():
        monkeypatch.setenv(f"USER_PODS_{name}", value)
    loaded = settings.load()
    assert loaded.user_rule.domains == {"example.com", "example.org"}
    assert loaded.user_rule.claims == {"email", "email_verified", "groups"}
    assert loaded.domain_origin == "https://pods.example.com"
    assert "hunter2" not in repr(loaded)
    monkeypatch.setenv("USER_PODS_OIDC_ISSUER", "http://127.0.0.1:9400")
    assert settings.load().oidc_issuer == "http://127.0.0.1:9400"


def test_limits_of_groups_are_named_with_their_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER_PODS_AWAKE_LIMITS", "students=40, staff=100,")
    loaded = settings.load()
    assert loaded.limits_on_awake == AwakeLimits(groups={"students": 40, "staff": 100})
    assert loaded.user_rule.quotas == ("students", "staff")
    assert "groups" in loaded.user_rule.claims
    monkeypatch.delenv("USER_PODS_AWAKE_LIMITS")
    assert not settings.load().limits_on_awake


@pytest.mark.parametrize(
    "wrong", ["students", "students=", "students=0", "students=-1", "A=1", "=1", "a=1,a=2", "a=1=2"]
)
def test_a_limit_of_a_group_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("USER_PODS_AWAKE_LIMITS", wrong)
    with pytest.raises(SettingsError, match="write students=40,staff=100"):
        settings.load()
