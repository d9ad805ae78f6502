"""Where Redis is, as one URL says it: a server, or the Sentinels that know which server is the primary."""

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
    """What a URL says; names and words are percent-decoded."""

    hosts: tuple[tuple[str, int], ...]
    """Of the server, or of the Sentinels; IPv6 addresses without brackets."""
    database: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    master: str = ""
    """The name under which the Sentinels know the primary; empty: the host is the server itself."""
    sentinel_username: str = ""
    sentinel_password: str = field(default="", repr=False)
    options: str = field(default="", repr=False)
    """The rest of the query, for the client."""

    @classmethod
    def parse(cls, url: str) -> "RedisAddress":
        """Raises ValueError, whose text never repeats the URL: it may hold a password."""
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
        """Each `host:port`, with the brackets that an IPv6 address needs."""
        return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts]


def _host(text: str, port: int) -> tuple[str, int]:
    match = _HOST.fullmatch(text)
    number = int(match["port"] or port) if match else 0
    if match is None or not 0 < number < 65536:
        raise ValueError(f"must look like {FORM}; an IPv6 address stands in brackets")
    return match["six"] or unquote(match["name"]), number


def _path(path: str, *, sentinel: bool) -> tuple[str, int]:
    """The master's name, and the database."""
    master, _, database = path.partition("/") if sentinel else ("", "", path)
    if sentinel and not master:
        raise ValueError("redis+sentinel:// needs the name of the master after the hosts, for example /mymaster/0")
    if database.strip("/") and not (database.strip("/").isdecimal() and database.isascii()):
        raise ValueError("the part after the host must be a database number")
    return unquote(master), int(database.strip("/") or 0)
