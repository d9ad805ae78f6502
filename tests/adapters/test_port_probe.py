"""The TcpPortProbe among firewalls, in a network of its own."""

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from devcluster import node
from service.adapters.network.port_probe import TcpPortProbe
from service.domain.diagnosis.ports import Reply
from tests.conftest import free_port

_NEEDS = ("root", "nftables", "iproute2")
_LACKS = [each for each in node.missing() if any(need in each for need in _NEEDS)]
_RULES = """
table inet firewall {
 chain input {
  type filter hook input priority 0
  tcp dport 20 drop
  tcp dport 21 reject
  tcp dport 22 reject with tcp reset
  tcp dport 23 reject with icmpx admin-prohibited
  tcp dport 24 reject with icmpx host-unreachable
 }
}
"""
_PROGRAM = """
import asyncio, json, socket, sys
from service.adapters.network.port_probe import TcpPortProbe

async def main():
    probe, found = TcpPortProbe(seconds=0.5), {}
    for address in ("127.0.0.1", "::1"):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.create_server((address, 8080), family=family):
            found[address] = {port: (await probe.reply(address, port)).name for port in (8080, 9, 20, 21, 22, 23, 24)}
    found["nowhere"] = [(await probe.reply(address, 9)).name for address in ("192.0.2.1", "2001:db8::1")]
    print(json.dumps(found))

if sys.argv[1] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


@pytest.mark.skipif(bool(_LACKS), reason=f"a network with a firewall of its own needs {', '.join(_LACKS)}")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_it_tells_what_a_firewall_stops_from_what_the_other_side_refuses(loop: str, tmp_path: Path) -> None:
    rules = tmp_path / "rules.nft"
    rules.write_text(_RULES)
    script = 'ip link set lo up && nft -f "$1" && exec "$2" -c "$3" "$4"'
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script, "sh", str(rules), sys.executable, _PROGRAM, loop],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("nowhere") == [Reply.UNREACHABLE.name] * 2
    expected = {
        "8080": Reply.ACCEPTED,
        "9": Reply.RESET,
        "20": Reply.NONE,
        "21": Reply.REJECTED,
        "22": Reply.RESET,
        "23": Reply.REJECTED,
        "24": Reply.REJECTED,
    }
    for address in ("127.0.0.1", "::1"):
        assert found[address] == {port: reply.name for port, reply in expected.items()}


@pytest.mark.parametrize(("release", "reply"), [("5.8.0", Reply.RESET), ("6.18.44-fc", Reply.RESET),
    ("4.18.0-553.el8_10.x86_64", Reply.REFUSED), ("5.7.19", Reply.REFUSED), ("odd", Reply.REFUSED)])  # fmt: skip
async def test_a_kernel_that_keeps_no_icmp_errors_leaves_open_who_refuses(
    monkeypatch: pytest.MonkeyPatch, release: str, reply: Reply
) -> None:
    monkeypatch.setattr(platform, "release", lambda: release)
    assert await TcpPortProbe().reply("127.0.0.1", free_port()) is reply
