"""Finds and removes what a real node leaves on the machine, by folder and cgroup, so that this works after any crash.

Containers outlive kubelet and containerd by design; mounts, cgroups and sockets outlive containers.
"""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from devcluster.errors import DevclusterError

CGROUP = "devcluster"
NETWORK = "devcluster"
"""Name of the pods' network in CNI plugins."""
_CGROUPS = Path("/sys/fs/cgroup")
_PROGRAMS = ("containerd", "kubelet", "kube-proxy", "kube-router", "runc", "ctr")
_LOG_LINKS = Path("/var/log/containers")
_CNI_RESULTS = Path("/var/lib/cni/results")
_DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")
_SHIMS = Path("/run/containerd/s")
_PATIENCE = 15.0


def processes(folder: Path) -> list[psutil.Process]:
    """The node's own programs that were started for `folder`."""
    found = []
    for process in psutil.process_iter():
        try:
            known = process.name().startswith(_PROGRAMS) and process.status() != psutil.STATUS_ZOMBIE
            if known and any(_names(argument, folder) for argument in process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def contained() -> list[psutil.Process]:
    """Processes in the node's cgroup, which are those of containers."""
    pids = {int(pid) for group in cgroups() for pid in (group / "cgroup.procs").read_text().split()}
    found = []
    for pid in pids:
        try:
            found.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            continue
    return found


def cgroups() -> list[Path]:
    """All cgroups of the node, inner ones first, of every hierarchy."""
    roots = [_CGROUPS / CGROUP, *(path / CGROUP for path in _CGROUPS.glob("*") if not path.is_symlink())]
    return [path for root in roots if root.is_dir() for path in _inner_first(root)]


def make_cgroups() -> None:
    """The cgroup below which kubelet keeps pods, in every hierarchy that the machine has (cgroup v1 has many)."""
    v2 = (_CGROUPS / "cgroup.controllers").exists()
    hierarchies = [_CGROUPS] if v2 else [path for path in _CGROUPS.iterdir() if (path / "cgroup.procs").exists()]
    for hierarchy in hierarchies:
        group = hierarchy / CGROUP
        group.mkdir(exist_ok=True)
        # In cgroup v1, a new cpuset is empty and accepts no process.
        for name in ("cpuset.cpus", "cpuset.mems") if not v2 and (group / "cpuset.cpus").exists() else ():
            (group / name).write_text((hierarchy / name).read_text())


def mounts(folder: Path) -> list[Path]:
    """Mount points below `folder`, latest first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = Path(line.split()[4].replace(r"\040", " "))
        if point.is_relative_to(folder):
            found.append(point)
    return found[::-1]


def sweep(folder: Path) -> None:
    """Remove everything of the node in `folder` except images, logs and configuration. Raises for what remains.

    Call this only for the cluster that has the machine's node: the cgroup has the same name for all clusters.
    """
    _end(folder)
    for point in mounts(folder):
        subprocess.run(["umount", "--lazy", str(point)], capture_output=True, check=False)
    if left := mounts(folder):
        raise DevclusterError(f"cannot be unmounted: {', '.join(map(str, left))}")
    _remove_files(folder)
    _remove_cgroups()


def _remove_files(folder: Path) -> None:
    """Remove files that the programs write to fixed places, and their state, which is void once they have ended."""
    bundles = list(folder.glob("run/io.containerd.runtime.v2.task/*/*"))
    for address in [bundle / "address" for bundle in bundles]:
        if address.exists():
            Path(address.read_text().removeprefix("unix://")).unlink(missing_ok=True)
    results = [*_CNI_RESULTS.glob(f"{NETWORK}-*"), *(r for b in bundles for r in _CNI_RESULTS.glob(f"*-{b.name}-*"))]
    for name in ("run", "runc", "addresses"):
        shutil.rmtree(folder / name, ignore_errors=True)
    links = [link for link in _LOG_LINKS.glob("*.log") if link.is_symlink() and link.readlink().is_relative_to(folder)]
    for path in [*links, *results, *_DEVICE_PLUGINS.glob("kubelet.sock")]:
        path.unlink(missing_ok=True)
    for made in (
        _LOG_LINKS,
        _CNI_RESULTS,
        _CNI_RESULTS.parent,
        _DEVICE_PLUGINS,
        _DEVICE_PLUGINS.parent,
        _SHIMS,
        _SHIMS.parent,
    ):
        with contextlib.suppress(OSError):  # not there, or somebody else has something in it
            made.rmdir()


def _names(argument: str, folder: Path) -> bool:
    """Whether a word of a command line, `--option=` left out, is something in `folder`."""
    return argument.rpartition("=")[2].removeprefix("unix://").startswith(f"{folder}/")


def _end(folder: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    # The programs first, because they would restart containers.
    for process in processes(folder):
        _signal(process, kill=True)
    psutil.wait_procs(processes(folder), timeout=_PATIENCE)
    polite = contained()
    for process in polite:
        _signal(process, kill=False)
    psutil.wait_procs(polite, timeout=1)
    while left := [*processes(folder), *contained()]:
        if time.monotonic() > deadline:
            raise DevclusterError(f"processes that do not end: {', '.join(f'{p.pid} {p.name()}' for p in left)}")
        for process in left:
            _signal(process, kill=True)
        psutil.wait_procs(left, timeout=0.2)


def _signal(process: psutil.Process, *, kill: bool) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill() if kill else process.terminate()


def _remove_cgroups() -> None:
    deadline = time.monotonic() + _PATIENCE
    while left := cgroups():
        for group in left:
            try:
                group.rmdir()
            except OSError:  # its last process is on its way out
                if time.monotonic() > deadline:
                    raise
        time.sleep(0.02)


def _inner_first(root: Path) -> Iterator[Path]:
    for path in root.iterdir():
        if path.is_dir() and not path.is_symlink():
            yield from _inner_first(path)
    yield root
