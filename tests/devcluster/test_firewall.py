"""The firewall's rules beside those of other programs, in a network namespace of the test's own."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster import dns, firewall, network, node
from devcluster.components import SERVICE_RANGE

OTHERS = "-A FORWARD -s 192.0.2.1/32 -j DROP"
CHAINS = """\
*filter
:INPUT ACCEPT [0:0] - [0:0]
:KUBE-ROUTER-FORWARD - [0:0] - [0:0]
:KUBE-NWPLCY-DEFAULT - [0:0] - [0:0]
:{pod} - [0:0]
-A KUBE-ROUTER-FORWARD -s 10.112.0.2 -j {pod}
-I {pod} 1 -m comment --comment "run through nw policy x" -j KUBE-NWPLCY-DEFAULT
COMMIT
"""


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A network without rules, in which everything runs."""
    if lacks := node.missing():
        if os.environ.get("CI"):
            pytest.fail(f"a real node needs {', '.join(lacks)}")
        pytest.skip(f"a real node needs {', '.join(lacks)}")
    run, name = network.run, f"dc-test-{os.getpid()}"
    run("ip", "netns", "add", name)

    def run_apart(*argv: str, stdin: str | None = None) -> str:
        return run("ip", "netns", "exec", name, *argv, stdin=stdin)

    try:
        with monkeypatch.context() as patch:
            patch.setattr(network, "run", run_apart)
            network.guard(SERVICE_RANGE, dns.ADDRESS)
            yield
    finally:
        run("ip", "netns", "delete", name)


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    return firewall.scripts(tmp_path / "scripts")


def iptables(*arguments: str) -> str:
    return network.run("iptables", *arguments)


def rules() -> list[str]:
    return [line for line in network.run("iptables-save", "-t", "filter").splitlines() if line.startswith("-A")]


def enter() -> None:
    """What kube-router does first, by plain iptables."""
    iptables("-N", "KUBE-ROUTER-FORWARD")
    iptables("-I", "FORWARD", "-m", "comment", "--comment", "kube-router netpol - X", "-j", "KUBE-ROUTER-FORWARD")


def restore(scripts: Path, text: str) -> None:
    network.run(str(scripts / "iptables-restore"), "--wait", "-T", "filter", stdin=text)


def test_kube_router_replaces_its_own_chains_and_no_rule_of_others(scripts: Path) -> None:
    iptables(*OTHERS.split())
    enter()
    restore(scripts, CHAINS.format(pod="KUBE-POD-FW-OLD"))
    # After kube-router has read the table, another program adds a rule; kube-router writes without it.
    iptables("-A", "INPUT", "-s", "192.0.2.2/32", "-j", "DROP")
    restore(scripts, CHAINS.format(pod="KUBE-POD-FW-NEW"))
    assert rules() == [
        "-A INPUT -s 192.0.2.2/32 -j DROP",
        '-A FORWARD -m comment --comment "kube-router netpol - X" -j KUBE-ROUTER-FORWARD',
        OTHERS,
        '-A KUBE-POD-FW-NEW -m comment --comment "run through nw policy x" -j KUBE-NWPLCY-DEFAULT',
        "-A KUBE-ROUTER-FORWARD -s 10.112.0.2/32 -j KUBE-POD-FW-NEW",
    ]
    assert "KUBE-POD-FW-OLD" not in iptables("-S")


def known() -> set[str]:
    found = json.loads(network.run("nft", "--json", "list", "set", "inet", network.TABLE, network.KNOWN))["nftables"]
    return {element for each in found for element in each.get("set", {}).get("elem", [])}


def test_a_pod_is_known_as_long_as_it_has_rules(scripts: Path) -> None:
    enter()
    assert known() == set()
    restore(scripts, CHAINS.format(pod="KUBE-POD-FW-AAAA"))
    assert known() == {"10.112.0.2"}
    network.guard(SERVICE_RANGE, dns.ADDRESS)
    assert known() == {"10.112.0.2"}, "a second `up` of a running node"
    restore(scripts, CHAINS.format(pod="KUBE-POD-FW-AAAA").replace("0.2 -j", "0.3/32 -j"))
    assert known() == {"10.112.0.3"}
    restore(scripts, "*filter\n:KUBE-ROUTER-FORWARD - [0:0]\nCOMMIT\n")
    assert known() == set()


def test_kube_router_sees_no_ip_set_of_others(scripts: Path) -> None:
    program = str(scripts / "ipset")
    assert network.run(program, "save").strip() == ""
    for name in ("blocked", "KUBE-SRC-AAAA"):
        network.run("ipset", "create", name, "hash:ip")
        network.run("ipset", "add", name, "192.0.2.1")
    assert [line.split()[:2] for line in network.run(program, "save").splitlines()] == [
        ["create", "KUBE-SRC-AAAA"],
        ["add", "KUBE-SRC-AAAA"],
    ]
    network.run(program, "destroy", "KUBE-SRC-AAAA")
    assert network.run("ipset", "list", "-name").split() == ["blocked"]


def test_removal_leaves_the_rules_and_sets_of_others(scripts: Path) -> None:
    iptables(*OTHERS.split())
    enter()
    restore(scripts, CHAINS.format(pod="KUBE-POD-FW-AAAA"))
    for name in ("blocked", "KUBE-DST-AAAA", "TMP-AAAA"):
        network.run("ipset", "create", name, "hash:ip")
    iptables(*["-A", "KUBE-NWPLCY-DEFAULT", "-m", "set", "--match-set", "KUBE-DST-AAAA", "dst", "-j", "RETURN"])
    for _ in range(2):
        firewall.remove()
        assert rules() == [OTHERS]
        assert "KUBE" not in iptables("-S")
        assert network.run("ipset", "list", "-name").split() == ["blocked"]


def test_removal_leaves_no_empty_table() -> None:
    enter()
    firewall.remove()
    assert network.tables("ip") == []


@pytest.mark.parametrize("command", ["iptables -N KUBE-ROUTER-INPUT", "ipset create KUBE-SRC-AAAA hash:ip"])
def test_a_machine_with_another_kube_router_gets_no_node(command: str) -> None:
    assert firewall.conflicts() == []
    network.run(*command.split())
    assert "another kube-router" in "; ".join(firewall.conflicts())


def test_a_machine_whose_filter_table_iptables_cannot_read_gets_no_node() -> None:
    network.run("nft", "-f", "-", stdin="table ip filter {\n chain x {\n meta mark set numgen random mod 2\n }\n}\n")
    assert "that iptables cannot read" in "; ".join(firewall.conflicts())
