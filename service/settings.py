"""All settings, read from the environment once at the start. The configuration reference is generated from them."""

import contextlib
import ipaddress
import logging
import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.adapters.redis.address import RedisAddress
from service.domain.awake_quota import AwakeLimits
from service.domain.expiry import ExpiryRule
from service.domain.identity import UserRule
from service.domain.idle_times import IdleTimes
from service.domain.limits import Limits
from service.domain.names import HOST_PREFIX, SessionId, is_dns_label, public_host
from service.domain.people import PersonRule
from service.domain.savings import Prices
from service.edge.addresses import Network
from service.edge.connection_limits import HEADER_LIMIT, HEADER_LINES
from service.gateway.activity.rules import ActivityMode
from service.gateway.pages.brand import LOGO_BYTES, Brand, Support, read_color, read_logo
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
_SHORTEST_LIFE = 3600
"""Seconds. Whoever means days by 90 is told, rather than all sessions deleted."""
_LABEL = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
Port = Annotated[int, Field(ge=0, le=65535)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
SecretName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]


class SettingsError(Exception):
    """The environment has no usable settings; the message names each variable and what is wrong with it."""


class Settings(BaseSettings):
    """One field per variable. Its docstring says what it does, in which unit, and when to change it."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True
    )

    role: Role = Role.ALL
    """What this process runs: `api`, `gateway`, `controller` or `all` of them. `serve --role` wins."""
    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback requires keys or tokens."""
    port: Port = 8080
    """TCP port of the API. 0 picks a free port and logs it."""
    metrics_port: Port = 0
    """TCP port at `HOST` that serves only `/metrics`, without a key. Set it if your scraper cannot send one. 0: no such
    port; `/metrics` is then on `PORT` and needs a key like every other path."""
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """Bearer keys, separated by commas, each of at least 16 characters. Use several to change keys without an outage.
    Empty, without `API_KEYS_FILE` and `API_OIDC_AUDIENCE`: no access control, which is allowed only on loopback."""
    api_keys_file: Path | None = None
    """File with API keys that have names and roles, as `key new` prints their lines; a changed file takes effect within
    seconds. Those of `API_KEYS` may do everything, as operators."""
    api_oidc_audience: str = ""
    """Let people call the API with tokens of an OpenID Connect provider whose claim `aud` is or contains this. Who they
    are follows from `OIDC_USER_CLAIM` and the settings after it. Each reaches only their own session. Empty: no."""
    api_oidc_issuer: str = ""
    """Issuer of these tokens, exactly as its metadata name it. Empty: `OIDC_ISSUER`."""
    api_oidc_operators: Annotated[tuple[str, ...], NoDecode] = ()
    """Groups (`OIDC_GROUPS_CLAIM`) whose members have the role `operator`, separated by commas."""
    api_oidc_viewers: Annotated[tuple[str, ...], NoDecode] = ()
    """Groups whose members have the role `viewer`, separated by commas."""
    rate_per_caller: Annotated[int, Field(ge=0)] = 300_000
    """Maximum number of requests per minute of one caller: of all keys with the same name, or of one person. As many
    may come at once. Further ones get 429 with `Retry-After`. Replicas count together. 0: no limit."""
    rate_per_user: Annotated[int, Field(ge=0)] = 1_200
    """The same for the requests that concern one user: those that act on one session (reading it is free), and apart
    from them all of a caller with one user."""
    audit_entries: Annotated[int, Field(ge=100)] = 10_000
    """About how many entries `GET /audit` keeps in Redis, 300 bytes each. The log has them all, at any `LOG_LEVEL`."""
    dashboard: bool = True
    """Serve the dashboard at `/dashboard` on `PORT`, to whoever has a key or may sign in at the identity provider. It
    is off without access control, and in roles without the API."""
    dashboard_url: str = ""
    """Where browsers reach `PORT`, for example `https://sessions.example.com`. Needed to sign in at the provider of
    `OIDC_ISSUER`: register `<url>/dashboard/callback` as a redirect URI of `OIDC_CLIENT_ID` there."""
    dashboard_stay: Annotated[float, Field(ge=60, le=2_592_000)] = 28_800
    """Seconds after which people sign in to the dashboard again. The default is eight hours."""
    dashboard_recheck: Annotated[float, Field(ge=60, le=2_592_000)] = 3600
    """Seconds after which the dashboard leads operators and viewers who have signed in at the provider there again,
    to learn their groups. Whoever is still signed in at the provider notices nothing."""
    price_cpu: Annotated[float, Field(ge=0)] = 0
    """What one CPU costs in an hour, for the dashboard's estimate of what sleeping saves. 0: no price is shown."""
    price_memory: Annotated[float, Field(ge=0)] = 0
    """The same of one GiB of memory."""
    price_currency: Annotated[str, Field(max_length=10)] = ""
    """The currency of these prices, as it is to be shown, for example `EUR`."""
    connections: Count = 2000
    """Maximum number of concurrent connections to `PORT`. Further ones get 503."""
    connections_per_address: Annotated[int, Field(ge=0)] = 0
    """Maximum number of these from one address (for IPv6: from one /64 network). Further ones get 429. 0: no limit.
    Connections from proxies in `GATEWAY_TRUSTED` do not count."""
    body_timeout: Annotated[float, Field(gt=0, le=600)] = 10
    """Seconds within which a request's body must arrive. Later ones get 408."""
    streams: Count = 1000
    """Maximum number of concurrent event streams. Further ones get 503."""
    streams_per_session: Count = 16
    """Maximum number of these for one session. Further ones get 429."""
    header_limit: Annotated[int, Field(ge=4096, le=1_048_576)] = Field(
        HEADER_LIMIT,
        description="Maximum total size in bytes of a request's line and headers, at every port. Larger ones get 431."
        f" At most {HEADER_LINES} headers are allowed.",
    )
    namespace: Annotated[str, Field(pattern=f"^{_LABEL}$")] = "users"
    """Namespace of the users' releases. It must exist: the service has no right to create namespaces."""
    namespace_policies: bool = False
    """Whether NetworkPolicies of that namespace admit only the gateway to workspaces, at their port, as the chart's
    `users.networkPolicies` do. `user-pods doctor` then tries whether the cluster's network enforces them."""
    kubeconfig: Path | None = None
    """Path of a kubeconfig file. Empty: use the pod's own ServiceAccount, as in a cluster."""
    kube_timeout: Annotated[float, Field(gt=0, le=60)] = 5
    """Timeout in seconds of one request to the Kubernetes API."""
    keda_namespace: str = "keda"
    """Namespace of KEDA's operator. /health reads its Lease there to see whether KEDA works. Empty: skip that check."""
    cluster_facts: bool = False
    """Read nodes, for the room on them, and KEDA's version, storage classes and HPAs, for `/diagnosis`. The chart's
    `rbac.clusterFacts` gives the right to do so. Off: do not ask for them."""
    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    """URL of Redis: `redis://[user:password@]host:port/database`, or `rediss://` for TLS. With Sentinels:
    `redis+sentinel://[user:password@]host:port,host:port/master/database` (`rediss+sentinel://` for TLS), and
    `?sentinel_username=…&sentinel_password=…` if they need that. Percent-encode special characters. KEDA gets
    addresses, database and users from here too, unless the chart values override them."""
    redis_timeout: Annotated[float, Field(gt=0, le=60)] = 2
    """Timeout in seconds of one call to Redis, including the wait for a connection."""
    chart: Path = next(filter(Path.exists, _CHARTS), _CHARTS[-1])
    """Path of the chart to install, a folder or an archive. The image contains one."""
    chart_values: Path | None = None
    """Path of a YAML file with values for every user's release, for example image and resources."""
    profiles: Path | None = None
    """Path of a YAML file with profiles: for each name the `values` that its sessions have above `CHART_VALUES`, and
    possibly a `description`, `roles` (who may choose it) and `limits` (`cooldown`, `background`, in seconds)."""
    default_profile: str | None = None
    """Profile of sessions whose creator chooses none. Empty: the common values alone."""
    helm: str = "helm"
    """The helm program, version 3 or 4: a name on PATH, or a path."""
    helm_processes: Annotated[int, Field(ge=1, le=64)] = max(2, os.cpu_count() or 2)
    """Maximum number of concurrent helm processes. One takes about 0.2 s of a core, so the default is the core
    count."""
    helm_queue: Annotated[int, Field(ge=0)] = 100
    """Maximum number of creates and deletes that wait for helm. Further ones get 429."""
    helm_timeout: Annotated[float, Field(ge=5, le=600)] = 60
    """Seconds after which a helm process is ended. An install takes well under one second."""
    lease: Annotated[float, Field(gt=0, le=3600)] = 15
    """Seconds for which one wake keeps the queue non-empty. At least twice `POLLING_INTERVAL` plus 2 s, because KEDA
    could miss a shorter one."""
    polling_interval: Annotated[int, Field(ge=1, le=3600)] = 5
    """Seconds between two polls of a queue by KEDA."""
    cooldown: Annotated[int, Field(ge=1, le=604800)] = 120
    """Seconds from when KEDA last saw a non-empty queue until the pod sleeps. A create may choose another value."""
    activity_background_limit: Annotated[float, Field(ge=0, le=604800)] = 0
    """Seconds after the last activity for which a working program (terminal output, a download) may keep the pod awake.
    A create may choose another value. 0: such programs keep nothing awake."""
    parking: bool = True
    """Park sleeping sessions: KEDA then spends nothing on them, and a wake does not wait for its poll. Off: plain KEDA,
    and parked sessions are unparked."""
    cooldown_limit: Seconds = 86_400
    """Longest cooldown in seconds that a create may ask for."""
    awake_limit: Annotated[int, Field(ge=0)] = 0
    """Maximum number of sessions that are awake in all. Wakes of further ones get 429, and their visitors a page that
    says so. Pushes to a queue by other programs are not limited. 0: no limit."""
    awake_limits: Annotated[dict[str, int], NoDecode] = {}
    """The same for the sessions of each group, below the limit of all: `students=40,staff=100`. A create or its key
    names the group; for people who sign in, it is the first of these that `OIDC_GROUPS_CLAIM` has. Empty: no limits."""
    extension_limit: Seconds = 28_800
    """Longest time in seconds for which an extension may keep a pod awake."""
    sweep_interval: Annotated[float, Field(gt=0, le=3600)] = 30
    """Seconds between two resyncs of all sessions, which find changes that no event has reported."""
    leader_term: Annotated[float, Field(ge=2, le=300)] = 10
    """Seconds after which another replica takes over when the leader dies (the duration of its lease)."""
    parks_per_second: Annotated[float, Field(gt=0)] = 50
    """Maximum number of sessions parked per second. It protects the API server when many fall asleep at once."""
    session_lifetime: Annotated[float, Field(ge=0, le=315_360_000)] = 0
    """Seconds after its creation at which a session is deleted; an awake one is sent to sleep first. Its volume is kept
    for its user's next session. 0: never; else 3600 at least."""
    session_dormancy: Annotated[float, Field(ge=0, le=315_360_000)] = 0
    """The same after so many seconds without being awake. 0: never; else 3600 at least."""
    deletion_warning: Annotated[float, Field(ge=3600, le=31_536_000)] = 259_200
    """Seconds before such a deletion at which the user is warned, at least. The default is three days. It counts anew
    after an hour in which the service did not run."""
    deletions_per_hour: Annotated[int, Field(ge=0, le=3600)] = 60
    """Maximum number of such deletions in an hour, so that a mistake can be noticed and stopped. 0: only warn."""
    keep_limit: Seconds = 2_592_000
    """Longest time in seconds for which a call of `keep` keeps a session from such a deletion. The default is 30
    days."""
    retention: Seconds = 2_592_000
    """Seconds for which a session is kept as `released` after its release was uninstalled. The default is 30 days."""
    schedule_timeout: Annotated[float, Field(ge=0)] = 120
    """Seconds that a pod may wait for a node, or for the node to prepare it, before its status shows a warning. The
    wake goes on nevertheless."""
    health_cache: Annotated[float, Field(ge=0, le=60)] = 5
    """Seconds for which /health reuses its last result, so that frequent probes cost nothing."""
    failure_limit: Seconds = 300
    """Seconds that a part of the process (leader, controller, a watch) may fail without interruption. After that /livez
    answers 503, so that Kubernetes restarts the process."""
    drain_seconds: Annotated[float, Field(ge=0, le=600)] = 0
    """Seconds after a SIGTERM during which /readyz answers 503 and everything else still works, so that load balancers
    stop sending requests before the ports close. The chart sets it. 0: there is no load balancer."""
    shutdown_timeout: Annotated[float, Field(ge=0)] = 75
    """Seconds that requests in progress get to finish at the end, after `DRAIN_SECONDS`. Longer than `HELM_TIMEOUT`.
    After that the process ends by force and logs what was in progress."""
    recovery_interval: Seconds = 10
    """Seconds between two checks that Redis still has the index of sessions."""
    gateway_domain: Annotated[str, Field(pattern=rf"^({_LABEL}(\.{_LABEL})*)?$")] = ""
    """Domain of the workspaces' host names, `<prefix><uuid>.<domain>`. Empty: no gateway."""
    gateway_prefix: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,40})?$")] = HOST_PREFIX
    """Prefix of the workspaces' host names."""
    gateway_port: Port = 8081
    """TCP port of the gateway, at `HOST`."""
    gateway_scheme: Literal["http", "https"] = "https"
    """Scheme in the workspaces' URLs: `https` behind a proxy that ends TLS, `http` to try it out."""
    gateway_public_port: Port = 0
    """Port in the workspaces' URLs. 0: the scheme's default, or `GATEWAY_PORT` with `http`."""
    gateway_open: bool = False
    """Let everybody in without a ticket. Allowed only on loopback, to try it out."""
    gateway_home_url: str = ""
    """URL of your frontend's page that signs users in and returns them with a ticket. A browser without access is
    redirected there, with `return_to`: the workspace's URL that it asked for. Every page of the gateway links there.
    Empty: pages say whom to ask."""
    gateway_ticket: Annotated[float, Field(ge=1, le=3600)] = 60
    """Seconds for which the URL that `open` returns is valid."""
    gateway_stay: Annotated[float, Field(ge=60)] = 43_200
    """Seconds after which an unused session cookie expires. The default is twelve hours. Use renews it once half of
    that has passed."""
    gateway_stay_limit: Annotated[float, Field(ge=60)] = 604_800
    """Seconds after which a browser needs a new ticket, however much it is used. The default is seven days. At least
    `GATEWAY_STAY`."""
    gateway_keys_secret: SecretName = "user-pods-signing-keys"  # noqa: S105 - a name
    """Name of the Secret with the keys that seal tickets and session cookies. The service fills it, and creates it if
    it has the right to."""
    gateway_keys_namespace: Annotated[str, Field(pattern=f"^({_LABEL})?$")] = ""
    """Namespace of that Secret, preferably one without users. Empty: `NAMESPACE`."""
    gateway_keys_age: Annotated[float, Field(ge=600)] = 2_592_000
    """Seconds after which a new key seals tickets and session cookies. The default is 30 days. The old key still
    verifies for another `GATEWAY_STAY_LIMIT`."""
    gateway_activity: ActivityMode = ActivityMode.INPUT
    """What keeps a pod awake: `input` counts the user's input; `connection` counts an open WebSocket as well."""
    gateway_connection_limit: Seconds = 28_800
    """Seconds for which an open WebSocket keeps a pod awake when `GATEWAY_ACTIVITY` is `connection`."""
    gateway_companion: bool = True
    """Add a script to the pages of workspaces that reports the user's input, warns before a sleep, and wakes after it.
    Off: pages reach browsers byte for byte, and what they request tells whether somebody uses them."""
    gateway_sleep_notice: Annotated[float, Field(ge=0, le=3600)] = 60
    """Seconds before a sleep at which the workspace's pages warn of it. At most half the time after which an unused
    session sleeps. 0: no warning."""
    gateway_patience: Annotated[float, Field(ge=1, le=600)] = 60
    """Seconds that a request waits for a pod to wake. After that it gets 504 with the reason."""
    gateway_held: Count = 1000
    """Maximum number of requests that wait for pods to wake."""
    gateway_session_requests: Count = 256
    """Maximum number of concurrent requests of one session, and of concurrent WebSockets. Four times as many requests
    wait; further ones get 429."""
    gateway_connections: Count = 10_000
    """Maximum number of concurrent connections of browsers. Further ones get 503. Lower if the process may not open two
    files for each."""
    gateway_connections_per_address: Annotated[int, Field(ge=0)] = 0
    """Maximum number of these from one address (for IPv6: from one /64 network). Further ones get 429. 0: no limit,
    because whole offices share an address. Connections from proxies in `GATEWAY_TRUSTED` do not count."""
    gateway_close_spread: Annotated[float, Field(ge=0, le=600)] = 10
    """Seconds over which open WebSockets are closed at the end, so that not all browsers reconnect at once. At most
    half of `SHUTDOWN_TIMEOUT`."""
    gateway_cookies: Annotated[tuple[str, ...], NoDecode] = WITHHELD
    """Names of the cookies that pods receive, separated by commas. Plain names: only these. Names with `!` in front:
    all but these. `*` at the end matches any rest; `*` alone means all cookies. A cookie that a frontend sets for the
    whole domain reaches every workspace under it. Pods never receive the session cookie."""
    gateway_trusted: Annotated[tuple[Network, ...], NoDecode] = ()
    """Networks of trusted proxies in front of the service, separated by commas. The service believes their headers
    about a client's address and scheme."""
    gateway_internal_url: Annotated[str, Field(pattern=r"^(https?://[A-Za-z0-9.\-\[\]:]+)?$")] = ""
    """URL of the gateway inside the cluster, without a path, for `user-pods-keep-awake` in the workspaces. Not that of
    a proxy: the gateway knows a pod by its address. Each release stores it at its create. Empty: no such command."""
    gateway_brand_name: Annotated[str, Field(max_length=60)] = ""
    """Name of your product or organisation, at the top of the gateway's own pages. Empty: none."""
    gateway_brand_color: str = ""
    """Colour of bars and main buttons on these pages, as `#rgb` or `#rrggbb`. The text on it is black or white, as is
    easier to read. Empty: black, or white in dark mode."""
    gateway_brand_logo: str = Field(
        "",
        description="Logo on these pages: the path of an SVG, PNG, JPEG, GIF or WebP file, or a `data:image/…;base64,…`"
        f" URL. At most {LOGO_BYTES:,} bytes: it is part of every page, which fetches nothing from other hosts."
        " Empty: none.",
    )
    gateway_support: Annotated[str, Field(max_length=500)] = ""
    """What people who need help read at the bottom of these pages. May contain one link:
    `Ask [the help desk](https://help.example.com).` Empty: nothing."""
    oidc_issuer: str = ""
    """Issuer of an OpenID Connect provider, exactly as its metadata name it. Users who open their workspace, or the
    domain itself, then sign in there. Empty: users come by your frontend's links."""
    oidc_client_id: str = ""
    """Id of the service as a client of that provider. Register `<scheme>://<GATEWAY_DOMAIN>/.user-pods/callback` as its
    redirect URI, and `/.user-pods/signed-out` for sign-outs."""
    oidc_client_secret: SecretStr = SecretStr("")
    """Its secret. Empty, without a file either: a public client, which PKCE alone protects."""
    oidc_client_secret_file: Path | None = None
    """File with that secret, read at the start."""
    oidc_scopes: str = "openid email"
    """Scopes to ask for, separated by spaces; `openid` is one."""
    oidc_user_claim: Annotated[str, Field(min_length=1)] = "email"
    """Claim that is the `user_id` of the user's session, for example `email`, `preferred_username` or `sub`. Choose one
    that users cannot change themselves, and that is never given to somebody else."""
    oidc_verified_email: bool = True
    """Refuse users whose provider does not say that it has verified their e-mail address (`email_verified`), where
    the address counts. Off: for a provider that never says so, and whose users cannot choose their address."""
    oidc_groups_claim: Annotated[str, Field(min_length=1)] = "groups"
    """Claim with the user's groups."""
    oidc_allowed_groups: Annotated[tuple[str, ...], NoDecode] = ()
    """Groups of whom one is needed, separated by commas. Empty: any user of the provider."""
    oidc_allowed_domains: Annotated[tuple[str, ...], NoDecode] = ()
    """Domains of e-mail addresses, separated by commas. Empty: any."""
    oidc_create: bool = True
    """Create the session of a user who signs in for the first time. With `ROLE=gateway`, a process runs helm for it."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is logged."""
    log_format: Literal["json", "console"] = "json"
    """`json` for machines, `console` for people."""

    @field_validator(
        "api_keys",
        "api_oidc_operators",
        "api_oidc_viewers",
        "gateway_cookies",
        "gateway_trusted",
        "oidc_allowed_groups",
        "oidc_allowed_domains",
        mode="before",
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("awake_limits", mode="before")
    @classmethod
    def _limits_of_groups(cls, value: Any) -> Any:
        return _limits_of_groups(value) if isinstance(value, str) else value

    @field_validator("session_lifetime", "session_dormancy")
    @classmethod
    def _expires(cls, value: float) -> float:
        if 0 < value < _SHORTEST_LIFE:
            raise ValueError(f"write seconds, {_SHORTEST_LIFE} at least, or 0 for sessions that stay")
        return value

    @field_validator("gateway_cookies")
    @classmethod
    def _cookies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value == ("*",):
            return ()
        cookies.check(value)
        return value

    @field_validator("api_keys")
    @classmethod
    def _long(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in value:
            text = key.get_secret_value()
            if len(text) < 16 or not text.isascii() or not text.isprintable() or " " in text:
                raise ValueError("each key must have 16 or more printable ASCII characters without spaces")
        return value

    @field_validator("gateway_brand_color")
    @classmethod
    def _color(cls, value: str) -> str:
        return read_color(value) if value else ""

    @field_validator("gateway_brand_logo")
    @classmethod
    def _logo(cls, value: str) -> str:
        return read_logo(value) if value else ""

    @field_validator("gateway_brand_name", "gateway_support")
    @classmethod
    def _line(cls, value: str) -> str:
        if value and not value.isprintable():
            raise ValueError("write one line of printable characters")
        return value

    @field_validator("gateway_support")
    @classmethod
    def _support(cls, value: str) -> str:
        Support.parse(value)
        return value

    @field_validator("gateway_home_url")
    @classmethod
    def _home(cls, value: str) -> str:
        if value:
            _check_web_address(value)
        return value

    @field_validator("dashboard_url")
    @classmethod
    def _dashboard(cls, value: str) -> str:
        if value:
            _check_web_address(value)
            if urlsplit(value).path not in ("", "/") or urlsplit(value).query:
                raise ValueError("write scheme and host only, such as https://sessions.example.com")
        return value.removesuffix("/")

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: SecretStr) -> SecretStr:
        RedisAddress.parse(value.get_secret_value())
        return value

    @field_validator(
        "api_keys_file",
        "kubeconfig",
        "chart_values",
        "profiles",
        "default_profile",
        "oidc_client_secret_file",
        mode="before",
    )
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
        if self.oidc_issuer:
            self._check_oidc()
        if self.role.serves_api:
            self._check_callers()
        return self

    def _check_callers(self) -> None:
        if self.api_oidc_audience:
            _check_issuer("API_OIDC_ISSUER", self.token_issuer)
        if not self.has_callers and not _loopback(self.host):
            raise ValueError(
                f"{PREFIX}API_KEYS is empty, so anybody who reaches {self.host} could use the service;"
                f" set it, {PREFIX}API_KEYS_FILE or {PREFIX}API_OIDC_AUDIENCE, or {PREFIX}HOST=127.0.0.1"
            )

    def _check_oidc(self) -> None:
        _check_issuer("OIDC_ISSUER", self.oidc_issuer)
        if not self.gateway_domain or not self.oidc_client_id:
            raise ValueError(f"{PREFIX}OIDC_ISSUER needs {PREFIX}OIDC_CLIENT_ID and {PREFIX}GATEWAY_DOMAIN")
        if self.gateway_home_url:
            raise ValueError(
                f"{PREFIX}OIDC_ISSUER and {PREFIX}GATEWAY_HOME_URL exclude each other: who signs users in?"
            )
        if "openid" not in self.oidc_scopes.split():
            raise ValueError(f"{PREFIX}OIDC_SCOPES must have openid")
        if self.oidc_client_secret_file and self.oidc_client_secret.get_secret_value():
            raise ValueError(f"set {PREFIX}OIDC_CLIENT_SECRET or its file, not both")

    @property
    def has_callers(self) -> bool:
        """Whether callers of the API have to say who they are."""
        return bool(self.api_keys or self.api_keys_file or self.api_oidc_audience)

    @property
    def prices(self) -> Prices:
        return Prices(cpu=self.price_cpu, memory=self.price_memory, currency=self.price_currency)

    @property
    def serves_dashboard(self) -> bool:
        return self.dashboard and self.has_callers and self.role.serves_api

    @property
    def token_issuer(self) -> str:
        """Who issues the tokens of people who call the API."""
        return self.api_oidc_issuer or self.oidc_issuer

    @property
    def limits_on_awake(self) -> AwakeLimits:
        return AwakeLimits(total=self.awake_limit or None, groups=self.awake_limits)

    @property
    def person_rule(self) -> PersonRule:
        return PersonRule(
            user=self.user_rule,
            operators=frozenset(self.api_oidc_operators),
            viewers=frozenset(self.api_oidc_viewers),
        )

    @property
    def user_rule(self) -> UserRule:
        return UserRule(
            claim=self.oidc_user_claim,
            verified_email=self.oidc_verified_email,
            groups_claim=self.oidc_groups_claim,
            groups=frozenset(self.oidc_allowed_groups),
            domains=frozenset(domain.lower() for domain in self.oidc_allowed_domains),
            quotas=tuple(self.awake_limits),
        )

    @property
    def runs_helm(self) -> bool:
        """Whether this process creates sessions. A gateway does so on a user's first visit."""
        on_visit = self.role.serves_gateway and bool(self.oidc_issuer) and self.oidc_create
        return self.role.serves_api or self.role.controls or on_visit

    @property
    def domain_origin(self) -> str:
        """The origin of the workspaces' domain itself in a browser."""
        return f"{self.gateway_scheme}://{self.gateway_domain}{self._public_port}"

    @property
    def _public_port(self) -> str:
        port = self.gateway_public_port or (self.gateway_port if self.gateway_scheme == "http" else 0)
        return f":{port}" if port else ""

    def origin(self, uuid: SessionId) -> str:
        """The origin (scheme, host and port) of a workspace in its user's browser."""
        host = public_host(uuid, self.gateway_domain, self.gateway_prefix)
        return f"{self.gateway_scheme}://{host}{self._public_port}"

    @property
    def brand(self) -> Brand:
        return Brand(
            name=self.gateway_brand_name,
            color=self.gateway_brand_color,
            logo=self.gateway_brand_logo,
            support=Support.parse(self.gateway_support) if self.gateway_support else None,
        )

    @property
    def limits(self) -> Limits:
        return Limits(
            cooldown=timedelta(seconds=self.cooldown_limit),
            extension=timedelta(seconds=self.extension_limit),
            sparing=timedelta(seconds=self.keep_limit),
        )

    @property
    def expiry_rule(self) -> ExpiryRule:
        return ExpiryRule(
            lifetime=timedelta(seconds=self.session_lifetime) if self.session_lifetime else None,
            dormancy=timedelta(seconds=self.session_dormancy) if self.session_dormancy else None,
            warning=timedelta(seconds=self.deletion_warning),
        )

    @property
    def idle_times(self) -> IdleTimes:
        return IdleTimes(
            lease=timedelta(seconds=self.lease),
            cooldown=timedelta(seconds=self.cooldown),
            poll=timedelta(seconds=self.polling_interval),
            background=timedelta(seconds=self.activity_background_limit),
        )

    def values(self, operators: Mapping[str, Any]) -> dict[str, Any]:
        """The values of every release: the operator's, completed from the settings.

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
        values = {**operators, "redis": redis}
        if self.gateway_internal_url:
            values["gateway"] = {"url": self.gateway_internal_url} | dict(operators.get("gateway") or {})
        return values


def _for_keda(address: RedisAddress) -> dict[str, Any]:
    return {
        "address": "" if address.master else address.addresses[0],
        "database": address.database,
        "username": "" if address.username == "default" else address.username,
        "tls": {"enabled": address.tls},
    }


def _sentinel_for_keda(address: RedisAddress, operators: Mapping[str, Any]) -> dict[str, Any]:
    """The Sentinels, unless the operator gives KEDA a server. The operator's own values take precedence."""
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
        "The service does not start with an unknown or invalid one, and its message names it.",
        "`make generated` writes this page from the code.",
        "",
        "| variable | default | meaning |",
        "| --- | --- | --- |",
    ]
    for name, field in Settings.model_fields.items():
        default = {
            "chart": "the one in the package",
            "gateway_cookies": ",".join(WITHHELD),
            "helm_processes": "the core count",
            "oidc_client_secret": "",
            "redis_url": "redis://127.0.0.1:6379/0",
        }.get(name, "" if field.default in (None, (), {}) else field.default)
        meaning = " ".join((field.description or "").split())
        lines.append(f"| `{PREFIX}{name.upper()}` | {f'`{default}`' if default != '' else 'empty'} | {meaning} |")
    return "\n".join([*lines, ""])


def _limits_of_groups(text: str) -> dict[str, int]:
    """Raises ValueError with a message for the operator."""
    found: dict[str, int] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        group, _, limit = part.partition("=")
        if not is_dns_label(group) or not re.fullmatch("[1-9][0-9]{0,8}", limit) or group in found:
            raise ValueError(
                f"{part!r:.80} is no limit of a group, or its second one: write students=40,staff=100, each group once,"
                " with 1 to 63 characters out of a-z, 0-9 and dash, and 1 or more sessions"
            )
        found[group] = int(limit)
    return found


def _check_issuer(name: str, url: str) -> None:
    """Raises ValueError."""
    try:
        _check_web_address(url)
    except ValueError as error:
        raise ValueError(f"{PREFIX}{name}: {error}") from None
    parts = urlsplit(url)
    if parts.query or (parts.scheme == "http" and not _loopback(parts.hostname or "")):
        raise ValueError(f"{PREFIX}{name} must be an https URL without a query; http is for loopback")


def _check_web_address(url: str) -> None:
    """Raises ValueError with a message for the operator."""
    parts = urlsplit(url)
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or "@" in parts.netloc
        or parts.fragment
        or not re.fullmatch("[!-~]+", url)
    ):
        raise ValueError("write a complete URL such as https://app.example.com/workspace, without a user or a fragment")


def _loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    return False
