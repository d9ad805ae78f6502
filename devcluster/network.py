"""The real node's network: a bridge for pods, and a dead end for other cluster addresses.

All names are fixed, because a machine has one real node (`claim.py`). Its forwarding setting stays as it is: only
what comes from the pods' bridge is forwarded, and only back to it.
"""

import ipaddress
import json
import os
import shutil
import subprocess
from pathlib import Path

from devcluster import leftovers
from devcluster.errors import DevclusterError

POD_RANGE = "10.112.0.0/16"
"""Beside the Services' range."""
HOST = "10.112.0.1"
"""The machine's own address on the bridge: the pods' gateway, and the node's address."""
BRIDGE = "devcluster0"
NOWHERE = "devcluster-none"
"""A bridge without ports (not every kernel has `dummy` links), to which both ranges are routed: what kube-proxy does
not redirect ends there."""
TABLE = "devcluster"
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
"""Where the machine's own programs are, also for users whose PATH lacks the administrator's."""
_BRIDGE_FILTER = Path("/proc/sys/net/bridge")
_PROXY_TABLES = (("ip", "kube-proxy"), ("ip6", "kube-proxy"))
"""What kube-proxy calls its own; it leaves them behind when it ends."""

KNOWN = "known"
"""The set, in `TABLE`, of the pods for which the firewall has rules (`firewall.py` keeps it)."""

# A pod talks to pods, Services and this machine, and to nobody else; nobody else gets to a pod by using this machine as
# a router; and what is meant for the cluster does not leave even where a route is missing. Pods have link-local IPv6
# addresses, for which no NetworkPolicy would be enforced.
# A new pod waits until the firewall knows it: what it sends or is sent by pods is dropped, which TCP repeats. Only the
# cluster's DNS answers at once, since a resolver would wait five seconds.
_GUARD = f"""
table inet {TABLE}
flush table inet {TABLE}
table inet {TABLE} {{
    set {KNOWN} {{
        type ipv4_addr;
    }}
    chain forward {{
        type filter hook forward priority filter; policy accept;
        iifname {BRIDGE} meta nfproto ipv6 drop
        iifname {BRIDGE} oifname != {BRIDGE} drop
        iifname != {BRIDGE} oifname {BRIDGE} drop
        iifname {BRIDGE} ip saddr != @{KNOWN} jump unknown
        iifname {BRIDGE} ip daddr {POD_RANGE} ip daddr != @{KNOWN} jump unknown
    }}
    chain enter {{
        type filter hook input priority filter; policy accept;
        iifname {BRIDGE} meta nfproto ipv6 drop
        iifname {BRIDGE} ip saddr != @{KNOWN} jump unknown
    }}
    chain unknown {{
        ct state established,related accept
        ct original ip daddr @dns@ th dport 53 accept
        drop
    }}
    chain leave {{
        type filter hook postrouting priority filter; policy accept;
        ip daddr {{ @ranges@ }} oifname != {{ {BRIDGE}, {NOWHERE}, lo }} drop
    }}
}}
"""


def guard(service_range: str, dns: str) -> None:
    """Create the packet filter, or renew its rules; the set of known pods stays. `dns`: the address of that Service."""
    ranges = ", ".join((service_range, POD_RANGE))
    run("nft", "-f", "-", stdin=_GUARD.replace("@ranges@", ranges).replace("@dns@", dns))


def up(service_range: str, dns: str) -> None:
    """Create the missing ones of bridge, routes and packet filter. `dns`: the address of that Service."""
    guard(service_range, dns)
    _load_bridge_filter()
    for link in (BRIDGE, NOWHERE):
        if not exists(link):
            run("ip", "link", "add", link, "type", "bridge")
        run("ip", "link", "set", link, "up")
    for name in ("nf_call_iptables", "nf_call_ip6tables"):
        Path(f"/sys/class/net/{BRIDGE}/bridge/{name}").write_text("1")
    run("ip", "address", "replace", f"{HOST}/{_prefix(POD_RANGE)}", "dev", BRIDGE)
    Path(f"/proc/sys/net/ipv4/conf/{BRIDGE}/forwarding").write_text("1")
    for target in (service_range, POD_RANGE):
        # The bridge's own route to the pods has a better metric; this one remains if the bridge is removed.
        run("ip", "route", "replace", target, "dev", NOWHERE, "src", HOST, "metric", "1000")


def _load_bridge_filter() -> None:
    """Let the packet filter see what passes between two ports of a bridge, as between pods; only of ours.

    The kernel's module applies itself to all bridges of the machine when it is loaded.
    """
    if not _BRIDGE_FILTER.exists():
        run("modprobe", "br_netfilter")
        for setting in _BRIDGE_FILTER.glob("bridge-nf-call-*"):
            setting.write_text("0")


def down() -> None:
    """Remove everything that `up`, kube-proxy and the CNI plugins created, as far as it exists.

    The packet filter goes last: it or the bridge shows that kube-proxy's table is ours.
    """
    guarded = TABLE in tables("inet")
    if is_ours():
        for family, name in _PROXY_TABLES:
            if name in tables(family):
                run("nft", "delete", "table", family, name)
    for link in (*ports(), BRIDGE, NOWHERE):
        if exists(link):
            # A pod's link may vanish with its namespace in the meantime.
            subprocess.run(["ip", "link", "delete", link], capture_output=True, check=False)
    if left := [link for link in (BRIDGE, NOWHERE) if exists(link)]:
        raise DevclusterError(f"cannot be removed: the links {', '.join(left)}")
    if guarded:
        run("nft", "delete", "table", "inet", TABLE)


def is_ours() -> bool:
    """Whether a node of ours is set up on this machine, or what a crash left of it."""
    return exists(BRIDGE) or TABLE in tables("inet")


def conflicts(service_range: str) -> list[str]:
    """Why this machine's network cannot host the node, unless one of our nodes already runs here."""
    found = []
    ranges = [ipaddress.ip_network(text) for text in (service_range, POD_RANGE)]
    for route in json.loads(run("ip", "-json", "-4", "route", "show", "table", "all")):
        target = ipaddress.ip_network("0.0.0.0/0" if route["dst"] == "default" else route["dst"], strict=False)
        if target.prefixlen and any(target.overlaps(mine) for mine in ranges):
            found.append(f"the machine has a route {route['dst']} of its own, which the cluster's addresses would hide")
    if any(name in tables(family) for family, name in _PROXY_TABLES):
        found.append("another kube-proxy keeps its rules on this machine (nftables table kube-proxy)")
    return found


def exists(link: str) -> bool:
    return Path(f"/sys/class/net/{link}").exists()


def ports() -> list[str]:
    """The machine's ends of the links into pods."""
    folder = Path(f"/sys/class/net/{BRIDGE}/brif")
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def tables(family: str) -> list[str]:
    """Names of the nftables tables of a family."""
    found = json.loads(run("nft", "--json", "list", "tables", family))["nftables"]
    return [item["table"]["name"] for item in found if "table" in item]


def cni(addresses: Path) -> dict[str, object]:
    """The network's configuration for CNI plugins, with the folder where they record assigned addresses.

    The plugin `bridge` finds a bridge with its address, so it need not make the machine a router.
    """
    plugin = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": False,
        "hairpinMode": True,  # lets a pod reach itself through its Service
        "ipam": {
            "type": "host-local",
            "dataDir": str(addresses),
            "ranges": [[{"subnet": POD_RANGE, "gateway": HOST}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    return {"cniVersion": "0.4.0", "name": leftovers.NETWORK, "plugins": [plugin]}


def found(program: str) -> str:
    """Full path of a program of the machine."""
    path = shutil.which(program, path=PATH)
    if path is None:
        raise DevclusterError(f"{program} is not on PATH")
    return path


def _prefix(network: str) -> int:
    return ipaddress.ip_network(network).prefixlen


def run(*argv: str, stdin: str | None = None) -> str:
    """Run a program of the machine and return its output. Raises DevclusterError with its error message."""
    command = [found(argv[0]), *argv[1:]]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DevclusterError(f"`{' '.join(argv)}` failed: {done.stderr.strip()}")
    return done.stdout
