"""Parses the URL of Redis: a server, or the Sentinels that know which server is the primary."""

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlencode

FORM = "redis://host:6379/0, redis://user:password@host:6379/0 or redis+sentinel://host:26379,host:26379/mymaster/0"
_URL = re.compile(
    r"(?P<scheme>rediss?(\+sentinel)?)://((?P<user>[^:@/?#]*)(:(?P<password>[^/?#]*))?@)?(?P<hosts>[^/?#@]+)"
    r"(/(?P<path>[^?#]*))?(\?(?P<query>[^#]*))?",
    re.IGNORECASE,
)
_HOST = re.compile(r"(\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[^\s:\[\]]+))(:(?P<port>[0-9]{1,5}))?")
_PORTS = {False: 6379, True: 26379}


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """The parts of the URL, percent-decoded."""

    hosts: tuple[tuple[str, int], ...]
    """Host and port of the server or of each Sentinel; IPv6 addresses have no brackets."""
    database: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    master: str = ""
    """The Sentinels' name for the primary; empty when the host is the server itself."""
    sentinel_username: str = ""
    sentinel_password: str = field(default="", repr=False)
    options: str = field(default="", repr=False)
    """The rest of the query, which the client understands."""

    @classmethod
    def parse(cls, url: str) -> "RedisAddress":
        """Raises ValueError. Its text never repeats the URL, which may contain a password."""
        match = _URL.fullmatch(url)
        if match is None:
            raise ValueError(f"must look like {FORM}")
        scheme = match["scheme"].lower()
        sentinel = scheme.endswith("+sentinel")
        hosts = tuple(_host(text, _PORTS[sentinel]) for text in match["hosts"].split(","))
        if len(hosts) > 1 and not sentinel:
            raise ValueError("only redis+sentinel:// takes several hosts")
        query = {name: values[0] for name, values in parse_qs(match["query"] or "").items()}
        master, database = _path(match["path"] or "", sentinel=sentinel)
        return cls(
            hosts=hosts,
            database=int(query.pop("db", "") or database),
            username=unquote(match["user"] or ""),
            password=unquote(match["password"] or ""),
            tls=scheme.startswith("rediss"),
            master=master,
            sentinel_username=query.pop("sentinel_username", ""),
            sentinel_password=query.pop("sentinel_password", ""),
            options=urlencode(query),
        )

    @property
    def addresses(self) -> list[str]:
        """Each host as `host:port`; IPv6 addresses in brackets."""
        return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts]


def _host(text: str, port: int) -> tuple[str, int]:
    match = _HOST.fullmatch(text)
    number = int(match["port"] or port) if match else 0
    if match is None or not 0 < number < 65536:
        raise ValueError(f"must look like {FORM}; put an IPv6 address in brackets")
    return match["six"] or unquote(match["name"]), number


def _path(path: str, *, sentinel: bool) -> tuple[str, int]:
    """The master's name and the database number."""
    master, _, database = path.partition("/") if sentinel else ("", "", path)
    if sentinel and not master:
        raise ValueError("redis+sentinel:// needs the name of the master after the hosts, for example /mymaster/0")
    if database.strip("/") and not (database.strip("/").isdecimal() and database.isascii()):
        raise ValueError("the part after the host must be a database number")
    return unquote(master), int(database.strip("/") or 0)
