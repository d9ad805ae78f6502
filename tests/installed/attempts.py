"""What a user with a shell may try: run by the Python of a pod, with the standard library only.

Reads its plan, JSON, as its one argument, and prints what came of each attempt as JSON: `true` where it succeeded.
"""

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import json
import os
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

_SECONDS = 3
_LIBC = ctypes.CDLL(None, use_errno=True)
_NEW_USER, _NEW_MOUNTS = 0x10000000, 0x00020000
_INIT_MODULE, _BPF = (175, 321) if os.uname().machine == "x86_64" else (105, 280)
_CREDENTIAL = re.compile(r"PASSWORD|SECRET|TOKEN|API_KEY|REDIS_URL|PRIVATE")
_TOKENS = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
_OWN_DEVICES = {"console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin"}
_OWN_DEVICES |= {"stdout", "termination-log", "tty", "urandom", "zero"}


def main() -> None:
    plan: dict[str, Any] = json.loads(sys.argv[1])
    kinds: dict[str, Callable[[Any], Any]] = {
        "tcp": lambda targets: asyncio.run(_each(_tcp, targets)),
        "udp": lambda targets: asyncio.run(_each(_udp, targets)),
        "http": lambda requests: {name: _http(**request) for name, request in requests.items()},
        "local": lambda names: {name: _LOCAL[name]() for name in names},
        "memory": _memory,
        "processes": _processes,
        "busy": _busy,
        "disk": _disk,
        "first": lambda _: json.loads(_FIRST.read_text()),
    }
    json.dump({kind: kinds[kind](value) for kind, value in plan.items()}, sys.stdout)


# --- network ---


async def _each(attempt: Callable[[str, int], Any], targets: dict[str, tuple[str, int]]) -> dict[str, bool]:
    outcomes = await asyncio.gather(*(attempt(host, port) for host, port in targets.values()))
    return dict(zip(targets, outcomes, strict=True))


async def _tcp(host: str, port: int, within: float = _SECONDS) -> bool:
    try:
        async with asyncio.timeout(within):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


_QUESTION = (
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x0akubernetes\x07default\x03svc\x07cluster\x05local\0\0\1\0\1"
)


async def _udp(host: str, port: int) -> bool:
    """Whether anything answers a question for a name."""
    return await asyncio.to_thread(_asked, host, port)


def _asked(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(_SECONDS)
        try:
            asking.connect((host, port))
            asking.send(_QUESTION)
            return asking.recv(512)[:2] == _QUESTION[:2]
        except OSError:
            return False


def _http(url: str, headers: dict[str, str], body: str | None = None) -> int:
    """The status. Redirects are not followed."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), Stay)
    request = urllib.request.Request(url, data=None if body is None else body.encode(), headers=headers)  # noqa: S310 - of the plan
    try:
        with opener.open(request, timeout=15) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


# --- the container's walls ---


def _call(name: str, *arguments: Any) -> int:
    """The errno of a call of the C library, 0 if it succeeded."""
    ctypes.set_errno(0)
    return 0 if getattr(_LIBC, name)(*arguments) >= 0 else ctypes.get_errno()


def _in_a_child(attempt: Callable[[], bool]) -> bool:
    """In a process of its own, so that what succeeds ends with it."""
    child = os.fork()
    if child == 0:
        succeeded = False
        try:
            succeeded = attempt()
        finally:
            os._exit(0 if succeeded else 1)
    return os.waitpid(child, 0)[1] == 0


def _credential_in_environment() -> bool:
    return any(_CREDENTIAL.search(name) for name in os.environ)


def _token_mounted() -> bool:
    mounts = Path("/proc/self/mounts").read_text()
    return _TOKENS.exists() or re.search(r"^\S+ \S*(secrets?|tokens?)[/ ]", mounts, re.MULTILINE) is not None


def _root_by_setuid() -> bool:
    """Whether a program with the setuid bit runs as root: seen in /proc while it waits for a password."""
    user = os.geteuid() or 1000
    with subprocess.Popen(
        ["su", "root", "-c", "true"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        user=user,
    ) as program:  # fmt: skip
        uids = ""
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            status = Path(f"/proc/{program.pid}/status").read_text()
            if status.startswith("Name:\tsu\n"):
                uids = next(line for line in status.splitlines() if line.startswith("Uid:"))
                break
        program.kill()
    if not uids:
        raise RuntimeError("su did not run")
    return uids.split()[2] == "0"


def _root_by_setuid_call() -> bool:
    return _in_a_child(lambda: _call("setresuid", 0, 0, 0) == 0 and os.geteuid() == 0)


def _accounts_written() -> bool:
    return _opens("/etc/passwd") or _opens("/etc/shadow")


def _opens(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND))
    except OSError:
        return False
    return True


def _mounted() -> bool:
    return _call("mount", b"none", b"/mnt", b"tmpfs", 0, None) == 0


def _mount() -> bool:
    return _in_a_child(lambda: (os.geteuid() != 0 or _call("unshare", _NEW_MOUNTS) == 0) and _mounted())


def _mount_in_a_user_namespace() -> bool:
    return _in_a_child(lambda: _call("unshare", _NEW_USER | _NEW_MOUNTS) == 0 and _mounted())


def _foreign_processes() -> bool:
    """Whether any process of the node is seen. Its own is, or the look proves nothing."""
    names = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            names[int(path.name)] = (path / "comm").read_text().strip()
        except OSError:
            continue
    if os.getpid() not in names:
        raise RuntimeError("its own process is not seen")
    return bool({"kubelet", "containerd", "kube-apiserver", "etcd", "tiny"} & set(names.values()))


def _written_folders() -> list[str]:
    """Folders, two levels deep, in which a file can be made, and those of the mounts."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    folders = {"/", *mounts, *(str(path) for pattern in ("*", "*/*") for path in Path("/").glob(pattern))}
    made = []
    for folder in sorted(folders):
        if folder.startswith("/proc/") or not Path(folder).is_dir() or Path(folder).is_symlink():
            continue
        try:
            tempfile.TemporaryFile(dir=folder).close()
        except OSError:
            continue
        made.append(folder)
    return made


def _written_outside_home() -> bool:
    """Outside of its home, /tmp, and what is memory of its own."""
    own = ("/home/coder", "/tmp", "/dev/shm", "/dev/mqueue")
    return bool([folder for folder in _written_folders() if not (folder + "/").startswith(tuple(f"{o}/" for o in own))])


def _device_made() -> bool:
    path = Path("/tmp/device")
    try:
        os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(7, 0))
    except OSError:
        return False
    path.unlink()
    return True


def _devices_of_the_node() -> bool:
    return bool({path.name for path in Path("/dev").iterdir()} - _OWN_DEVICES)


def _control_groups_written() -> bool:
    for mount in (line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines() if "cgroup" in line):
        made = Path(mount) / f"attempt-{os.getpid()}"
        try:
            made.mkdir()
        except OSError:
            continue
        made.rmdir()
        return True
    return False


def _kernel_settings_written() -> bool:
    return any(_opens(path) for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger"))


def _permitted(number: int, *arguments: Any) -> bool:
    """Whether a system call, with arguments that can do nothing, gets further than the question who asks."""
    return _call("syscall", number, *arguments) not in (errno.EPERM, errno.EACCES)


def _module_loaded() -> bool:
    return _permitted(_INIT_MODULE, None, 0, b"")


def _bpf() -> bool:
    return _permitted(_BPF, -1, None, 0)


def _kernel_log() -> bool:
    return _call("klogctl", 10, None, 0) == 0


def _raw_packets() -> bool:
    for family, kind in ((socket.AF_PACKET, socket.SOCK_RAW), (socket.AF_INET, socket.SOCK_RAW)):
        try:
            socket.socket(family, kind, socket.IPPROTO_ICMP).close()
        except OSError:
            continue
        return True
    return False


_LOCAL: dict[str, Callable[[], bool]] = {
    "find a service account's token": _token_mounted,
    "find a credential in the environment": _credential_in_environment,
    "run a setuid program as root": _root_by_setuid,
    "set the user id 0": _root_by_setuid_call,
    "write /etc/passwd": _accounts_written,
    "mount": _mount,
    "mount in a user namespace": _mount_in_a_user_namespace,
    "see processes of the node": _foreign_processes,
    "write outside of the home folder": _written_outside_home,
    "find devices of the node": _devices_of_the_node,
    "make a device": _device_made,
    "write control groups": _control_groups_written,
    "write kernel settings": _kernel_settings_written,
    "load a kernel module": _module_loaded,
    "load a BPF program": _bpf,
    "read the kernel's log": _kernel_log,
    "send raw packets": _raw_packets,
}


# --- limits ---


def _memory(megabytes: int) -> int:
    """Take that much, in a child. Returns the signal that ended it, or 0."""
    child = os.fork()
    if child == 0:
        taken = bytearray(megabytes << 20)
        for at in range(0, len(taken), 4096):
            taken[at] = 1
        os._exit(0)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


_CHILDREN = 256


def _processes(most: int) -> int:
    """Fork, then start threads, which count as much and cost less, until the kernel refuses or `most` are there.

    All of them end again. Returns how many there were.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    threading.stack_size(1 << 16)
    children: list[int] = []
    threads: list[threading.Thread] = []
    over = threading.Event()
    try:
        while len(children) < min(most, _CHILDREN):
            child = os.fork()
            if child == 0:
                signal.alarm(60)
                signal.pause()
                os._exit(0)
            children.append(child)
        while len(children) + len(threads) < most:
            thread = threading.Thread(target=over.wait)
            thread.start()
            threads.append(thread)
    except RuntimeError:  # a thread that the kernel refuses
        with contextlib.suppress(BlockingIOError):
            children.append(os.fork())
            if children[-1] == 0:
                os._exit(0)
            return most  # it still forks
    finally:
        over.set()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
    return len(children) + len(threads)


def _busy(seconds: float) -> int:
    """Compute with two threads' worth of processes. Returns how often the kernel held the container back."""

    def throttled() -> int:
        for path in ("/sys/fs/cgroup/cpu.stat", "/sys/fs/cgroup/cpu/cpu.stat", "/sys/fs/cgroup/cpu,cpuacct/cpu.stat"):
            if Path(path).exists():
                return int(re.findall(r"^nr_throttled (\d+)", Path(path).read_text(), re.MULTILINE)[0])
        raise RuntimeError("no cpu.stat")

    before, end = throttled(), time.monotonic() + seconds
    child = os.fork()
    while time.monotonic() < end:
        pass
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return throttled() - before


def _disk(megabytes: int) -> bool:
    with Path("/tmp/filled").open("wb") as file:
        for _ in range(megabytes):
            file.write(b"x" * (1 << 20))
    return True


# --- what answers the attempts, in another pod ---


def serve(addresses: list[str]) -> None:
    """Accept TCP at 80, 8080, and answer UDP at 53, also under these addresses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for number, address in enumerate(addresses):
            name = f"lo:{number}".encode()
            request = struct.pack("16sH2x4s8x", name, socket.AF_INET, socket.inet_aton(address))
            fcntl.ioctl(control, 0x8916, request)  # SIOCSIFADDR
    for port in (80, 8080):
        server = socket.create_server(("", port))
        threading.Thread(target=_accept, args=(server,), daemon=True).start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as names:
        names.bind(("", 53))
        while True:
            question, asker = names.recvfrom(512)
            names.sendto(question, asker)


def _accept(server: socket.socket) -> None:
    while True:
        server.accept()[0].close()


# --- from a pod's first moment ---


_FIRST = Path("/tmp/first.json")


async def _tried(targets: dict[str, tuple[str, int]]) -> dict[str, float]:
    """Try all of them again and again, until 2 s after the allowed one was reached.

    Returns the seconds at which each was reached for the first time.
    """
    began, reached = time.monotonic(), dict[str, float]()
    while time.monotonic() < min(began + 30, began + 2 + reached.get("allowed", 30)):
        came = await asyncio.gather(*(_tcp(host, port, 0.2) for host, port in targets.values()))
        for name in (name for name, there in zip(targets, came, strict=True) if there):
            reached.setdefault(name, round(time.monotonic() - began, 2))
        await asyncio.sleep(0.01)
    return reached


def first(targets: dict[str, tuple[str, int]]) -> None:
    """What a pod's first program does; then it is a web server."""
    _FIRST.write_text(json.dumps(asyncio.run(_tried(targets))))
    os.execvp("python3", ["python3", "-m", "http.server", "8080"])  # noqa: S606 - it has no arguments from outside


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2:])
    elif sys.argv[1] == "first":
        first(json.loads(sys.argv[2]))
    else:
        main()
