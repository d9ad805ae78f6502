"""Compiles the pinned tools once, into a cache whose keys are their go.mod and go.sum.

`tools/<name>/go.mod` is the only place that names a version. A tool's cache entry appears by a rename when it is
complete, so an interrupted build leaves nothing that could be taken for a tool; a lock file per entry makes two
processes that want the same tool build it once.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from devcluster import golang
from devcluster.errors import BuildFailed, DevclusterError

SOURCES = Path(__file__).parent / "tools"
_FLAGS = ("-trimpath", "-buildvcs=false", "-mod=readonly")


@dataclass(frozen=True, kw_only=True)
class Tool:
    """One folder of tools/: what to compile, and which files of its modules are needed at runtime."""

    module: str
    packages: Mapping[str, str]
    """Program name -> package below `module` ("" is the module itself), or "." for a main.go beside its go.mod."""
    version_flags: tuple[str, ...] = ()
    """Linker variables to set; {version}, {major}, {minor} and {kube_minor} (of client-go) come from go.mod."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Name in the cache entry -> folder or file in the module."""
    minutes: float = 0.2
    """Cold compile time on two cores, for the progress display."""
    folder: str = field(default="", repr=False)
    """Folder of tools/ with its pins, if it differs from the name: two tools may come from one module."""


_KUBERNETES = "k8s.io/kubernetes"
_KUBERNETES_VERSION = (
    "k8s.io/component-base/version.gitVersion={version}",
    "k8s.io/component-base/version.gitMajor={major}",
    "k8s.io/component-base/version.gitMinor={minor}",
)

CLUSTER: Mapping[str, Tool] = {
    "etcd": Tool(module="go.etcd.io/etcd/server/v3", packages={"etcd": ""}, minutes=0.6),
    "kubernetes": Tool(
        module=_KUBERNETES,
        packages={
            name: f"cmd/{name}" for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
        },
        version_flags=_KUBERNETES_VERSION,
        minutes=4.5,
    ),
    "kwok": Tool(
        module="sigs.k8s.io/kwok",
        packages={"kwok": "cmd/kwok"},
        files={"stages": "kustomize/stage"},
        minutes=1,
    ),
    "helm": Tool(
        module="helm.sh/helm/v4",
        packages={"helm": "cmd/helm"},
        version_flags=("helm.sh/helm/v4/internal/version.version={version}",),
        minutes=1.5,
    ),
    "keda": Tool(
        module="github.com/kedacore/keda/v2",
        packages={"keda": "cmd/operator"},
        version_flags=("github.com/kedacore/keda/v2/version.Version={version}",),
        files={"crds": "config/crd/bases"},
        minutes=4.5,
    ),
}
"""Programs that a running cluster needs, and helm."""

NODE: Mapping[str, Tool] = {
    "kubernetes-node": Tool(
        module=_KUBERNETES,
        packages={name: f"cmd/{name}" for name in ("kubelet", "kube-proxy")},
        version_flags=_KUBERNETES_VERSION,
        minutes=1,
        folder="kubernetes",
    ),
    "kube-router": Tool(
        module="github.com/cloudnativelabs/kube-router/v2",
        packages={"kube-router": "cmd/kube-router"},
        version_flags=("github.com/cloudnativelabs/kube-router/v2/pkg/version.Version={version}",),
        minutes=3,
    ),
    "coredns": Tool(module="github.com/coredns/coredns", packages={"coredns": "."}, minutes=1),
}
"""Additional programs that a real node needs."""

EXTRA: Mapping[str, Tool] = {
    "helm3": Tool(
        module="helm.sh/helm/v3",
        packages={"helm3": "cmd/helm"},
        version_flags=(
            "helm.sh/helm/v3/internal/version.version={version}",
            # The cluster version that `helm template` assumes; the default is 1.20.
            "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1",
            "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor={kube_minor}",
        ),
        minutes=0.8,
    ),
    "helmfile": Tool(
        module="github.com/helmfile/helmfile",
        packages={"helmfile": ""},
        version_flags=("go.szostok.io/version.version={version}",),
        minutes=3,
    ),
    "helm-docs": Tool(module="github.com/norwoodj/helm-docs", packages={"helm-docs": "cmd/helm-docs"}),
    "kubeconform": Tool(module="github.com/yannh/kubeconform", packages={"kubeconform": "cmd/kubeconform"}),
    "actionlint": Tool(module="github.com/rhysd/actionlint", packages={"actionlint": "cmd/actionlint"}),
}
"""Programs that only the tests need."""

Report = Callable[[str], None]


def say(text: str) -> None:
    """The default report: on standard error, unbuffered, so that it is visible in pipes and in CI."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Tools:
    """Compiled tools: where their programs and files are."""

    entries: Mapping[str, Path]

    def path(self, program: str) -> Path:
        """The full path of a program, for example ``helm`` or ``kube-apiserver``."""
        for entry in self.entries.values():
            candidate = entry / "bin" / program
            if candidate.exists():
                return candidate
        raise DevclusterError(f"{program} is not among the tools {', '.join(self.entries)}")

    def files(self, tool: str, name: str) -> Path:
        return self.entries[tool] / name

    @property
    def bins(self) -> list[Path]:
        """Folders for PATH."""
        return [entry / "bin" for entry in self.entries.values()]


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/user-pods`, by default below ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "user-pods"


def ensure(
    wanted: Mapping[str, Tool] = CLUSTER,
    *,
    report: Report = say,
    cache: Path | None = None,
    sources: Path = SOURCES,
) -> Tools:
    """Compile missing tools, two at a time, longest first. Returns at once if there are none.

    Raises BuildFailed with the compiler's last lines.
    """
    cache = cache or cache_folder()
    places = {name: sources / (tool.folder or name) for name, tool in wanted.items()}
    entries = {name: _entry(cache, places[name], name, tool) for name, tool in wanted.items()}
    missing = sorted(
        (name for name, entry in entries.items() if not entry.exists()), key=lambda name: -wanted[name].minutes
    )
    if missing:
        cache.mkdir(parents=True, exist_ok=True)
        go = golang.find(cache)
        minutes = sum(wanted[name].minutes for name in missing)
        report(f"compiling {len(missing)} tools, once ({', '.join(missing)}); about {minutes:.0f} min on two cores")
        progress = _Progress(len(missing), report)

        def build(place: Path) -> None:
            # Tools of one module one after another: in parallel, each would compile the shared packages.
            for name in missing:
                if places[name] == place:
                    _build(go, place, wanted[name], entries[name], progress)

        with ThreadPoolExecutor(max_workers=2) as pool:
            list(pool.map(build, dict.fromkeys(places[name] for name in missing)))
    return Tools(entries)


class _Progress:
    """Reports a line when a tool starts and one when it is done, with its number and the elapsed time."""

    def __init__(self, total: int, report: Report) -> None:
        self._total = total
        self._report = report
        self._done = 0
        self._since = time.monotonic()

    @contextmanager
    def step(self, name: str, minutes: float) -> Iterator[None]:
        self._report(f"  {name}: compiling (about {minutes:.1f} min cold)")
        started = time.monotonic()
        yield
        self._done += 1
        now = time.monotonic()
        self._report(
            f"  {name}: done in {now - started:.0f} s ({self._done} of {self._total}, {now - self._since:.0f} s in all)"
        )


def _entry(cache: Path, source: Path, name: str, tool: Tool) -> Path:
    digest = hashlib.sha256()
    for path in (source / "go.mod", source / "go.sum", *sorted(source.glob("*.go"))):
        digest.update(path.read_bytes())
    digest.update(repr((tool, _FLAGS)).encode())
    return cache / "tools" / f"{name}-{digest.hexdigest()[:16]}"


def _build(go: Path, source: Path, tool: Tool, entry: Path, progress: _Progress) -> None:
    with locked(entry):
        if entry.exists():
            return
        with progress.step(entry.name.rpartition("-")[0], tool.minutes):
            partial = Path(tempfile.mkdtemp(prefix=f"{entry.name}.part.", dir=entry.parent))
            try:
                _compile(go, source, tool, partial)
                partial.chmod(0o755)
                partial.rename(entry)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise


def _compile(go: Path, source: Path, tool: Tool, target: Path) -> None:
    version = _version(source, tool.module)
    major, minor = version.removeprefix("v").split(".")[:2]
    values = [
        flag.format(version=version, major=major, minor=minor, kube_minor=_kube_minor(source))
        for flag in tool.version_flags
    ]
    ldflags = " ".join(["-s", "-w", *(f"-X {value}" for value in values)])
    (target / "bin").mkdir()
    for program, package in tool.packages.items():
        path = package if package == "." else "/".join(filter(None, (tool.module, package)))
        _go(go, source, "build", *_FLAGS, "-ldflags", ldflags, "-o", str(target / "bin" / program), path)
    if tool.files:
        folder = Path(_go(go, source, "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", tool.module).strip())
        for name, inside in tool.files.items():
            # The module cache is read-only; what is copied must be removable.
            shutil.copytree(folder / inside, target / name, copy_function=shutil.copyfile)
            for path_ in [target / name, *(target / name).rglob("*")]:
                path_.chmod(0o755 if path_.is_dir() else 0o644)


def _version(source: Path, module: str) -> str:
    found = re.search(rf"^(?:require )?\s*{re.escape(module)} (v\S+)", (source / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise DevclusterError(f"{source / 'go.mod'} does not require {module}")
    return found.group(1)


def _kube_minor(source: Path) -> str:
    found = re.search(r"^\s*k8s\.io/client-go v0\.(\d+)", (source / "go.mod").read_text(), re.MULTILINE)
    return found.group(1) if found else ""


def _go(go: Path, source: Path, *arguments: str) -> str:
    done = subprocess.run(
        [go, *arguments], cwd=source, env=golang.environment(go), capture_output=True, text=True, check=False
    )
    if done.returncode:
        tail = "\n".join(done.stderr.splitlines()[-25:])
        raise BuildFailed(f"{source.name}: `go {arguments[0]}` failed:\n{tail}")
    return done.stdout


@contextmanager
def locked(entry: Path) -> Iterator[None]:
    """Only one process at a time creates this entry of the cache."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    with entry.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def search_path(tools: Tools, others: Iterable[Path] = ()) -> str:
    """A PATH with the tools first."""
    return os.pathsep.join([*map(str, tools.bins), *map(str, others), os.environ.get("PATH", "")])
