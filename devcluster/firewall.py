"""Enforces NetworkPolicies on the real node: kube-router's firewall, and the removal of its rules.

kube-router has chains and IP sets of its own, but writes back the machine's whole filter table and all IP sets, as it
read them a moment earlier, over what other programs changed since. So it finds two scripts on its PATH that let only
its own chains and sets through. The first of them also tells our packet filter which pods have rules now
(`network.KNOWN`). Its `--cleanup-config` (v2.1.0) removes none of its rules, but everybody's virtual
servers of IPVS. So the removal is ours, too.
"""

import os
import re
import shlex
import shutil
from pathlib import Path

from devcluster import components, network
from devcluster.components import SERVICE_RANGE, Site
from devcluster.errors import DevclusterError
from devcluster.processes import Program, environment
from devcluster.toolchain import Tools

NAME = "kube-router"
_CHAIN = "KUBE-(ROUTER|POD-FW|NWPLCY)-[A-Z0-9]+"
_SET = "(KUBE-(SRC|DST)|TMP)-[A-Z0-9]+"
_SYNCED = re.compile(rb"^kube_router_controller_iptables_sync_time_count [1-9]", re.MULTILINE)


def program(site: Site, tools: Tools, *, folder: Path, node: str, runtime: str) -> Program:
    """The firewall of a node that is registered already; `folder` is for its scripts."""
    metrics = site.ports["kube-router-metrics"]
    argv = [
        str(tools.path(NAME)),
        "--run-firewall=true",
        "--run-router=false",
        "--run-service-proxy=false",
        f"--kubeconfig={site.kubeconfig(NAME, user=NAME, group='system:masters')}",
        f"--hostname-override={node}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        # The machine's own ports in this range are open to all pods. For kube-proxy they need not be.
        "--service-node-port-range=1-2",
        f"--runtime-endpoint={runtime}",  # not used by the firewall, but shows whose process this is
        "--metrics-addr=127.0.0.1",
        f"--metrics-port={metrics}",
        "--health-port=0",  # it would be open to all addresses
    ]
    read = components.reads(site, f"http://127.0.0.1:{metrics}/metrics")

    def ready() -> bool:
        # A sync that failed is counted, too, but leaves the chain empty.
        return _SYNCED.search(read() or b"") is not None and "-A KUBE-ROUTER-FORWARD " in _saved()

    env = environment(PATH=f"{scripts(folder)}{os.pathsep}{network.PATH}")
    return Program(NAME, argv, env, ready, port=metrics)


def conflicts() -> list[str]:
    """Why this machine's packet filter cannot host the firewall, unless one of our nodes already runs here."""
    try:
        saved, sets = _saved(), _sets()
    except DevclusterError as error:
        return [str(error)]
    found = []
    if "is incompatible" in saved:
        found.append("the machine's nftables table `ip filter` has rules that iptables cannot read")
    if _chains(saved) or sets:
        found.append("another kube-router keeps its rules on this machine (chains KUBE-ROUTER-*, IP sets)")
    return found


def remove() -> None:
    """Remove all chains and sets, and the filter table unless it holds anything else."""
    if shutil.which("ipset", path=network.PATH) is None:
        return  # so kube-router has never run here
    saved = _saved()
    if chains := _chains(saved):
        jumps = [line for line in saved.splitlines() if re.fullmatch(rf"-A (?!KUBE-)\S+ .*-j {_CHAIN}", line)]
        lines = [
            "*filter",
            *(f":{chain} - [0:0]" for chain in chains),
            *(line.replace("-A", "-D", 1) for line in jumps),
            *(f"-X {chain}" for chain in chains),
            "COMMIT",
        ]
        network.run("iptables-restore", "--noflush", "--wait", stdin="\n".join([*lines, ""]))
        _remove_empty_table()
    for name in _sets():
        network.run("ipset", "destroy", name)


def _remove_empty_table() -> None:
    """iptables creates the table when it needs it. (iptables-legacy does not have it in nftables.)"""
    empty = re.compile(r"|#.*|\*filter|COMMIT|:\w+ ACCEPT .*")
    if "filter" in network.tables("ip") and all(map(empty.fullmatch, _saved().splitlines())):
        network.run("nft", "delete", "table", "ip", "filter")


def _saved() -> str:
    return network.run("iptables-save", "-t", "filter")


def _chains(saved: str) -> list[str]:
    return [found[1] for found in re.finditer(rf"^:({_CHAIN}) ", saved, re.MULTILINE)]


def _sets() -> list[str]:
    return [name for name in network.run("ipset", "list", "-name").split() if re.fullmatch(_SET, name)]


def scripts(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    known = f"inet {network.TABLE} {network.KNOWN}"
    for name, text in {"iptables-restore": _RESTORE, "ipset": _IPSET}.items():
        path = folder / name
        filled = text.replace("@program@", shlex.quote(network.found(name))).replace("@chain@", _CHAIN)
        filled = filled.replace("@known@", known).replace("@nft@", shlex.quote(network.found("nft")))
        path.write_text(filled.replace("@set@", _SET))
        path.chmod(0o755)
    return folder


# Of the given table, writes the firewall's chains only, and removes those of them that are no longer in it.
_RESTORE = """\
#!/bin/sh
case "$*" in *--help*) exec @program@ --help ;; esac
given=$(cat)
{ iptables-save -t filter; echo GIVEN; printf '%s\\n' "$given"; } | awk '
    /^GIVEN$/ { given = 1 }
    !/^(:|-[AI] )@chain@/ { next }
    !given { if (/^:/) old[substr($1, 2)]; next }
    /^:/ { delete old[substr($1, 2)]; $0 = $1 " - [0:0]" }
    { line[++count] = $0 }
    END {
        print "*filter"
        for (chain in old) print ":" chain " - [0:0]"
        for (i = 1; i <= count; i++) print line[i]
        for (chain in old) print "-X " chain
        print "COMMIT"
    }
' | @program@ --noflush "$@" || exit
printf '%s\\n' "$given" | awk '
    BEGIN { print "flush set @known@" }
    /^-A KUBE-ROUTER-FORWARD .*-s [0-9.]+(\\/32)? .*-j KUBE-POD-FW-/ {
        sub(/.* -s /, ""); sub(/[\\/ ].*/, "")
        print "add element @known@ { " $0 " }"
    }
' | @nft@ -f -
"""

# Shows none of other programs' sets.
_IPSET = """\
#!/bin/sh
case "$*" in save) ;; *) exec @program@ "$@" ;; esac
sets=$(@program@ save) || exit
printf '%s\\n' "$sets" | grep -E '^(create|add) @set@ ' || true
"""
