"""Every setting, read from the environment once at the start; docs/reference/configuration.md lists them."""

import ipaddress
import logging
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.adapters.redis.address import RedisAddress
from service.domain.limits import Limits
from service.domain.names import HOST_PREFIX, SessionId, public_host
from service.domain.session import IdleTimes
from service.edge.addresses import Network
from service.edge.connection_limits import HEADER_LIMIT, HEADER_LINES
from service.gateway.activity.rules import ActivityMode
from service.gateway.proxy import cookies
from service.gateway.proxy.cookies import WITHHELD
from service.role import Role

log = logging.getLogger(__name__)

PREFIX = "USER_PODS_"
REMOVED = frozenset({"GATEWAY_COMPRESSION"})
"""Former settings. They no longer have an effect, and do not stop the service."""
_PACKAGE = Path(__file__).resolve().parent
_CHARTS = (_PACKAGE / "_chart" / "user-pod", _PACKAGE.parent / "chart" / "user-pod")
"""In the wheel the chart is package data. In a checkout and in the image it is beside the package."""


class SettingsError(Exception):
    """The environment does not hold usable settings; the message names each variable and what is wrong."""


class Settings(BaseSettings):
    """One field per variable; the description gives unit, meaning and the reason for the default."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True)

    role: Role = Field(
        Role.ALL,
        description="What this process runs: `api`, `gateway`, `controller` or `all` of them. `serve --role` wins.",
    )
    host: str = Field("127.0.0.1", description="Address to listen on. Anything but loopback needs `API_KEYS`.")
    port: int = Field(8080, ge=0, le=65535, description="TCP port to listen on; 0 takes a free one and logs it.")
    metrics_port: int = Field(
        0, ge=0, le=65535,
        description="TCP port at `HOST` that serves `/metrics` alone, without a key, for a scraper that has none. 0: no"
        " such port; `/metrics` is then only where everything else is, with a key like everything else.",
    )  # fmt: skip
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="Bearer keys, separated by commas, each of 16 characters or more. Several at once allow a change"
        " without an outage. Empty: no access control, and then only on loopback.",
    )
    connections: int = Field(
        2000, ge=1, description="Connections to `PORT` at the same time; beyond them the answer is 503."
    )
    connections_per_address: int = Field(
        0, ge=0,
        description="Of these from one address (of IPv6, from one network of 64 bits); beyond them the answer is 429."
        " 0: any number. The proxies of `GATEWAY_TRUSTED` are not counted.",
    )  # fmt: skip
    body_timeout: float = Field(
        10, gt=0, le=600, description="Seconds until a call's body must have come; then the answer is 408."
    )
    streams: int = Field(1000, ge=1, description="Streams of events at the same time; beyond them the answer is 503.")
    streams_per_session: int = Field(16, ge=1, description="Of these for one session; beyond them the answer is 429.")
    header_limit: int = Field(
        HEADER_LIMIT, ge=4096, le=1_048_576,
        description="Bytes of a request's line and headers, all together, at every port; beyond them the answer is 431."
        f" There may be {HEADER_LINES} headers.",
    )  # fmt: skip
    namespace: str = Field(
        "users",
        pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$",
        description="Namespace of the users' releases. It must exist: the service has no right to make namespaces.",
    )
    kubeconfig: Path | None = Field(
        None, description="Kubeconfig file. Empty: the pod's own ServiceAccount, as on a cluster."
    )
    kube_timeout: float = Field(
        5, gt=0, le=60, description="Seconds for one request to the Kubernetes API, so that a hung one is told as such."
    )
    keda_namespace: str = Field(
        "keda",
        description="Namespace of KEDA's operator, whose Lease tells /health that it lives. Empty: not looked at.",
    )
    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis as `redis://[user:password@]host:port/database`, or `rediss://` for TLS. Behind Sentinels"
        " `redis+sentinel://[user:password@]host:port,host:port/master/database` (`rediss+sentinel://`), with"
        " `?sentinel_username=…&sentinel_password=…` where they ask for that. Percent-encode what a URL cannot hold."
        " KEDA gets addresses, database and users from here too, unless the chart values say otherwise.",
    )
    redis_timeout: float = Field(
        2, gt=0, le=60, description="Seconds for one call to Redis, whatever it has to wait for."
    )
    chart: Path = Field(
        next(filter(Path.exists, _CHARTS), _CHARTS[-1]),
        description="The chart to install, a folder or an archive. The package and the image carry their own.",
    )
    chart_values: Path | None = Field(
        None, description="YAML file with values for every user's release, for example image and resources."
    )
    helm: str = Field("helm", description="The helm program, version 3 or 4: a name on PATH or a path.")
    helm_processes: int = Field(
        max(2, os.cpu_count() or 2), ge=1, le=64,
        description="Helm processes at once; one takes about 0.2 s of a core, so the default is the core count.",
    )  # fmt: skip
    helm_queue: int = Field(
        100, ge=0, description="Creates and deletes that may wait for helm; beyond them the answer is 429."
    )
    helm_timeout: float = Field(
        60, ge=5, le=600, description="Seconds until a helm process is ended. An install takes well under one."
    )
    lease: float = Field(
        15, gt=0, le=3600,
        description="Seconds that one wake keeps the queue non-empty. At least twice `POLLING_INTERVAL` plus 2 s, or"
        " KEDA could miss it.",
    )  # fmt: skip
    polling_interval: int = Field(5, ge=1, le=3600, description="Seconds between two looks of KEDA at a queue.")
    cooldown: int = Field(
        120, ge=1, le=604800, description="Seconds from KEDA's last sight of a non-empty queue until the pod sleeps."
    )
    parking: bool = Field(
        True,
        description="Park sleepers: KEDA then spends nothing on them, and a wake does not wait for its poll. Off: plain"
        " KEDA; sessions that are parked are given back to it.",
    )
    cooldown_limit: float = Field(
        86_400, gt=0, description="Seconds that a create may ask for as its session's own cooldown, at most."
    )
    extension_limit: float = Field(28_800, gt=0, description="Seconds that an extension may keep a pod awake, at most.")
    sweep_interval: float = Field(
        30, gt=0, le=3600,
        description="Seconds between two looks at all sessions, which find whatever no event told of.",
    )  # fmt: skip
    leader_term: float = Field(
        10, ge=2, le=300,
        description="Seconds until another replica leads when the leader is gone without a word.",
    )  # fmt: skip
    parks_per_second: float = Field(
        50, gt=0, description="Sessions parked per second at most, so that many at once do not flood the API server."
    )
    retention: float = Field(
        2_592_000, gt=0,
        description="Seconds that a session whose release was uninstalled is remembered as `released`; 30 days.",
    )  # fmt: skip
    schedule_timeout: float = Field(
        120, ge=0,
        description="Seconds that a pod may wait for a node, or for the node to prepare it, before status warns. Its"
        " wake is held all the same.",
    )  # fmt: skip
    health_cache: float = Field(
        5, ge=0, le=60, description="Seconds that an answer of /health is reused, so that probes cost nothing."
    )
    failure_limit: float = Field(
        300, gt=0,
        description="Seconds that a part of the process (leader, controller, a watch) may fail without a break until"
        " /livez answers 503, so that Kubernetes restarts the process.",
    )  # fmt: skip
    drain_seconds: float = Field(
        0, ge=0, le=600,
        description="Seconds after a SIGTERM in which /readyz answers 503 while everything is still served, so that"
        " load balancers move on before the ports close. The chart sets it; 0: nothing balances this process.",
    )  # fmt: skip
    shutdown_timeout: float = Field(
        75, ge=0,
        description="Seconds that requests under way get at the end, after `DRAIN_SECONDS`: more than `HELM_TIMEOUT`."
        " Then the process ends by force, and its log says what was under way.",
    )  # fmt: skip
    recovery_interval: float = Field(
        10, gt=0, description="Seconds between two looks whether Redis still has the index of sessions."
    )
    gateway_domain: str = Field(
        "", pattern=r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*)?$",
        description="Domain of the workspaces' hosts, `<prefix><uuid>.<domain>`, which the gateway serves. Empty: no"
        " gateway.",
    )  # fmt: skip
    gateway_prefix: str = Field(
        HOST_PREFIX, pattern=r"^[a-z0-9]([-a-z0-9]{0,40})?$", description="What their names begin with."
    )
    gateway_port: int = Field(8081, ge=0, le=65535, description="TCP port at `HOST` that the gateway listens on.")
    gateway_scheme: Literal["http", "https"] = Field(
        "https", description="How browsers come: `https` behind whatever ends TLS, `http` for trying it out."
    )
    gateway_public_port: int = Field(
        0, ge=0, le=65535, description="Port that browsers use. 0: the scheme's own, or `GATEWAY_PORT` with `http`."
    )
    gateway_open: bool = Field(
        False, description="Let everybody in without a ticket. Only on loopback, for trying it out."
    )
    gateway_ticket: float = Field(60, ge=1, le=3600, description="Seconds that the URL of an open is good.")
    gateway_stay: float = Field(
        43_200, ge=60,
        description="Seconds that an unused session cookie stays valid: twelve hours. Using it renews it, once half of"
        " them have passed.",
    )  # fmt: skip
    gateway_stay_limit: float = Field(
        604_800, ge=60,
        description="Seconds after its ticket until a browser needs a new one, however much it is used: seven days. At"
        " least `GATEWAY_STAY`.",
    )  # fmt: skip
    gateway_keys_secret: str = Field(
        "user-pods-signing-keys", pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$",
        description="Secret with the keys that tickets and session cookies are sealed with. The service fills it, and"
        " makes it where it may.",
    )  # fmt: skip
    gateway_keys_namespace: str = Field(
        "",
        pattern=r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$",
        description="Namespace of that Secret, better one without users. Empty: `NAMESPACE`.",
    )
    gateway_keys_age: float = Field(
        2_592_000, ge=600,
        description="Seconds after which a new key seals, 30 days; the old one verifies for `GATEWAY_STAY_LIMIT` more.",
    )  # fmt: skip
    gateway_activity: ActivityMode = Field(
        ActivityMode.INPUT,
        description="What keeps a pod awake: `input`, what its user does; `connection`, an open WebSocket too.",
    )
    gateway_connection_limit: float = Field(
        28_800, gt=0, description="Seconds that an open WebSocket keeps a pod awake, with `connection`."
    )
    gateway_patience: float = Field(60, ge=1, le=600, description="Seconds that a request waits for a pod that wakes.")
    gateway_held: int = Field(1000, ge=1, description="Requests that may wait at the same time.")
    gateway_session_requests: int = Field(
        256, ge=1,
        description="Requests of one session under way at the same time, and as many WebSockets. Four times as many"
        " wait in line; beyond them the answer is 429.",
    )  # fmt: skip
    gateway_connections: int = Field(
        10_000, ge=1,
        description="Connections of browsers at the same time; beyond them the answer is 503. Fewer where the process"
        " may not open two files for each.",
    )  # fmt: skip
    gateway_connections_per_address: int = Field(
        0, ge=0,
        description="Of these from one address (of IPv6, from one network of 64 bits); beyond them the answer is 429."
        " 0: any number, since whole offices come from one. The proxies of `GATEWAY_TRUSTED` are not counted.",
    )  # fmt: skip
    gateway_close_spread: float = Field(
        10, ge=0, le=600,
        description="Seconds over which open WebSockets are closed at the end, so that they do not all come back at"
        " once; half of `SHUTDOWN_TIMEOUT` at most.",
    )  # fmt: skip
    gateway_cookies: Annotated[tuple[str, ...], NoDecode] = Field(
        WITHHELD,
        description="Which cookies pods see, by name, separated by commas: names that are let through, and no others;"
        " or names with `!` in front that are withheld. `*` at the end stands for any rest. `*` alone: all. A cookie"
        " that a frontend sets for the whole domain reaches every workspace under it. The pass is never seen.",
    )
    gateway_trusted: Annotated[tuple[Network, ...], NoDecode] = Field(
        (),
        description="Networks of the proxies in front, separated by commas: their word on a client's address and scheme"
        " is taken.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["json", "console"] = Field("json", description="`json` for machines, `console` for people.")

    @field_validator("api_keys", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("gateway_cookies", mode="before")
    @classmethod
    def _cookies(cls, value: Any) -> Any:
        patterns = tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
        if patterns == ("*",):
            return ()
        cookies.check(patterns)
        return patterns

    @field_validator("gateway_trusted", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("api_keys")
    @classmethod
    def _long(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in value:
            text = key.get_secret_value()
            if len(text) < 16 or not text.isascii() or not text.isprintable() or " " in text:
                raise ValueError("each key must have 16 or more printable ASCII characters without spaces")
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: SecretStr) -> SecretStr:
        RedisAddress.parse(value.get_secret_value())
        return value

    @field_validator("kubeconfig", "chart_values", mode="before")
    @classmethod
    def _empty(cls, value: Any) -> Any:
        return value or None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.idle_times.lease < self.idle_times.shortest_lease:
            margin, least = IdleTimes.MARGIN.total_seconds(), self.idle_times.shortest_lease.total_seconds()
            raise ValueError(f"{PREFIX}LEASE must be at least 2 x {PREFIX}POLLING_INTERVAL + {margin:g} s = {least:g}")
        if self.metrics_port and self.metrics_port == self.port:
            raise ValueError(f"{PREFIX}METRICS_PORT must not be {PREFIX}PORT, where a key is asked for")
        if self.gateway_domain and self.gateway_port and self.gateway_port in (self.port, self.metrics_port):
            raise ValueError(f"{PREFIX}GATEWAY_PORT must be a port of its own")
        if self.role is Role.GATEWAY and not self.gateway_domain:
            raise ValueError(f"{PREFIX}ROLE is gateway, so {PREFIX}GATEWAY_DOMAIN must be set")
        if self.gateway_stay_limit < self.gateway_stay:
            raise ValueError(f"{PREFIX}GATEWAY_STAY_LIMIT must be at least {PREFIX}GATEWAY_STAY")
        if self.gateway_open and not _loopback(self.host):
            raise ValueError(f"{PREFIX}GATEWAY_OPEN would let anybody in who reaches {self.host}; it is for loopback")
        if self.role.serves_api and not self.api_keys and not _loopback(self.host):
            raise ValueError(
                f"{PREFIX}API_KEYS is empty, so anybody who reaches {self.host} could use the service;"
                f" set it, or {PREFIX}HOST=127.0.0.1"
            )
        return self

    def origin(self, uuid: SessionId) -> str:
        """Scheme and host of a workspace, as its user's browser has it."""
        port = self.gateway_public_port or (self.gateway_port if self.gateway_scheme == "http" else 0)
        host = public_host(uuid, self.gateway_domain, self.gateway_prefix)
        return f"{self.gateway_scheme}://{host}{f':{port}' if port else ''}"

    @property
    def limits(self) -> Limits:
        return Limits(
            cooldown=timedelta(seconds=self.cooldown_limit), extension=timedelta(seconds=self.extension_limit)
        )

    @property
    def idle_times(self) -> IdleTimes:
        return IdleTimes(
            lease=timedelta(seconds=self.lease),
            cooldown=timedelta(seconds=self.cooldown),
            poll=timedelta(seconds=self.polling_interval),
        )

    def values(self, operators: Mapping[str, Any]) -> dict[str, Any]:
        """Values for every release: the operator's, completed by what follows from the settings.

        Raises SettingsError when KEDA could not work with them.
        """
        address = RedisAddress.parse(self.redis_url.get_secret_value())
        redis = _for_keda(address) | dict(operators.get("redis") or {})
        if address.master:
            redis["sentinel"] = _sentinel_for_keda(address, operators.get("redis") or {})
        if (operators.get("autoscaling") or {}).get("enabled", True) is not True:
            raise SettingsError(f"{PREFIX}CHART_VALUES switches autoscaling off: no session could ever sleep or wake")
        for password, given, name in (
            (address.password, redis, "redis.passwordSecret.name"),
            (address.sentinel_password, redis.get("sentinel") or {}, "redis.sentinel.passwordSecret.name"),
        ):
            if password and not (given.get("passwordSecret") or {}).get("name"):
                raise SettingsError(
                    f"{PREFIX}REDIS_URL has a password, but {PREFIX}CHART_VALUES gives no {name}:"
                    " KEDA could not read the queues"
                )
        return {**operators, "redis": redis}


def _for_keda(address: RedisAddress) -> dict[str, Any]:
    return {
        "address": "" if address.master else address.addresses[0],
        "database": address.database,
        "username": "" if address.username == "default" else address.username,
        "tls": {"enabled": address.tls},
    }


def _sentinel_for_keda(address: RedisAddress, operators: Mapping[str, Any]) -> dict[str, Any]:
    """The Sentinels, unless the operator has KEDA go to a server; the operator's own words come first."""
    own = {
        "addresses": [] if operators.get("address") else address.addresses,
        "master": address.master,
        "username": address.sentinel_username,
    }
    return own | dict(operators.get("sentinel") or {})


def load(*, role: Role | None = None) -> Settings:
    """The settings of this process; `role` wins over the environment.

    Raises SettingsError naming every variable that is wrong or unknown.
    """
    known = {f"{PREFIX}{name}".upper() for name in (*Settings.model_fields, *REMOVED)}
    unknown = sorted(name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known)
    problems = [f"{name}: there is no such setting" for name in unknown]
    try:
        settings = Settings(role=role) if role else Settings()
    except ValidationError as error:
        for item in error.errors(include_url=False, include_context=False, include_input=False):
            name = f"{PREFIX}{str(item['loc'][0]).upper()}: " if item["loc"] else ""
            problems.append(f"{name}{item['msg'].removeprefix('Value error, ')}")
        raise SettingsError("\n".join(problems)) from None
    if problems:
        raise SettingsError("\n".join(problems))
    return settings


def warn_of_removed() -> None:
    """Log each former setting that is still in the environment."""
    for name in sorted(os.environ):
        if name.upper().removeprefix(PREFIX) in REMOVED and name.upper().startswith(PREFIX):
            log.warning("%s no longer has an effect; remove it from the environment", name)


def reference() -> str:
    """docs/reference/configuration.md."""
    lines = [
        "# Configuration",
        "",
        f"Every setting is an environment variable with the prefix `{PREFIX}`.",
        "An unknown or bad one stops the start with a message that names it.",
        "This page is made by `make generated`; a test holds it to the code.",
        "",
        "| variable | default | meaning |",
        "| --- | --- | --- |",
    ]
    for name, field in Settings.model_fields.items():
        default = {
            "chart": "the one in the package",
            "gateway_cookies": ",".join(WITHHELD),
            "helm_processes": "the core count",
            "redis_url": "redis://127.0.0.1:6379/0",
        }.get(name, "" if field.default in (None, ()) else field.default)
        lines.append(
            f"| `{PREFIX}{name.upper()}` | {f'`{default}`' if default != '' else 'empty'} | {field.description} |"
        )
    return "\n".join([*lines, ""])


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
