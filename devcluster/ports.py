"""Free ports on 127.0.0.1 that two clusters never share, even if they start at the same moment."""

import fcntl
import json
import random
import socket
from collections.abc import Collection, Sequence
from pathlib import Path

_RANGE = range(20_000, 32_000)
"""Below the range from which the kernel takes the ports of outgoing connections."""


def allocate(state: Path, names: Sequence[str], registry: Path) -> dict[str, int]:
    """Ports for `names`, the same for the same state folder every time.

    `registry` is a folder shared by all clusters of this user: a file per port names the state folder that has it.
    """
    file = state / "ports.json"
    known: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    if set(names) <= known.keys():
        return known
    registry.mkdir(parents=True, exist_ok=True)
    with (registry / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in names:
            if name not in known:
                known[name] = _free(state, registry, known.values())
        file.write_text(json.dumps(known, indent=2))
    return known


def _free(state: Path, registry: Path, own: Collection[int]) -> int:
    for port in random.sample(_RANGE, len(_RANGE)):
        owner = registry / str(port)
        # The state's file comes last: until then, nothing else tells that a port is its own.
        if port in own or (owner.exists() and Path(owner.read_text()).exists()):
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        owner.write_text(str(state / "ports.json"))
        return port
    raise OSError("no free port on 127.0.0.1")
