"""Fetches or compiles the pinned tools once, into a cache whose keys are their go.mod and go.sum.

`tools/<name>/go.mod` is the only place that names a version. A tool's cache entry appears by a rename when it is
complete, so an interrupted build leaves nothing that could be taken for a tool; a lock file per entry makes two
processes that want the same tool get it once.
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
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from devcluster import golang, published
from devcluster.errors import BuildFailed, DevclusterError

SOURCES = Path(__file__).parent / "tools"
PUBLISHED = "published.json"
"""File of the sources with the digests of compiled tools."""
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
    "registry": Tool(module="github.com/distribution/distribution/v3", packages={"registry": "."}, minutes=1),
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
    fetch: bool = True,
    platform: str = "",
) -> Tools:
    """Fetch missing tools from a registry that has them (published.py), and compile the others, two at a time.

    Returns at once if none is missing. `platform` compiles for another one, for example ``linux/arm64``; give it a
    cache of its own. Raises BuildFailed with the compiler's last lines.
    """
    cache = cache or cache_folder()
    entries = {name: entry_of(cache, sources / (tool.folder or name), name, tool) for name, tool in wanted.items()}
    missing = [name for name, entry in entries.items() if not entry.exists()]
    began = bool(missing)
    if missing and fetch:
        missing = _fetch_all({name: entries[name] for name in missing}, cache, sources, report)
    if missing:
        tools = {name: wanted[name] for name in missing}
        _compile_all(tools, entries=entries, cache=cache, sources=sources, report=report, platform=platform)
    if began:
        _remove_parts(cache, sources)
    return Tools(entries)


def _remove_parts(cache: Path, sources: Path) -> None:
    """Remove what was half downloaded of tools that exist by now, or that have other pins now."""
    published_now = published.load(sources / PUBLISHED).tools if (sources / PUBLISHED).exists() else {}
    for part in (cache / "downloads").glob("*.part"):
        entry = cache / "tools" / part.name.partition(".")[0]
        if entry.exists() or entry.name not in published_now:
            with suppress(BlockingIOError), locked(entry, wait=False):  # else another process downloads it
                part.unlink(missing_ok=True)


def _fetch_all(missing: Mapping[str, Path], cache: Path, sources: Path, report: Report) -> list[str]:
    """Fetch what is published, and return the names of what has to be compiled."""
    source = published.downloads(sources / PUBLISHED, cache / "downloads")
    if source is None:
        return list(missing)
    known = [name for name, entry in missing.items() if source.expected(entry.name)]
    if unknown := [name for name in missing if name not in known]:
        report(f"not published for {published.platform()} with these pins: {', '.join(unknown)}")
    if known:
        report(f"fetching {len(known)} tools from {source.address} ({', '.join(known)})")
    started = time.monotonic()
    with ThreadPoolExecutor(max_workers=3) as pool:
        try:
            reasons = dict(zip(known, pool.map(lambda name: _fetch(source, missing[name]), known), strict=True))
        except BaseException:
            source.close()  # else Ctrl-C would wait for megabytes
            raise
    if fetched := [name for name in known if not reasons[name]]:
        report(f"  fetched and verified {len(fetched)} in {time.monotonic() - started:.0f} s")
    for reason in dict.fromkeys(filter(None, reasons.values())):
        names = ", ".join(name for name in known if reasons[name] == reason)
        report(f"  not fetched: {names}. {reason}. {published.SETTING} names another registry, or `none`.")
    return [name for name in missing if reasons.get(name, "unpublished")]


def _fetch(source: published.Downloads, entry: Path) -> str:
    """Returns why there is no entry; empty if there is one."""
    with locked(entry):
        if not entry.exists():
            try:
                with _filling(entry) as partial:
                    source.fetch(entry.name, partial)
            except published.NotPublished as error:
                return str(error)
    return ""


def _compile_all(
    missing: Mapping[str, Tool],
    *,
    entries: Mapping[str, Path],
    cache: Path,
    sources: Path,
    report: Report,
    platform: str,
) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    builder = Builder(golang.find(cache), platform or published.platform())
    places = {name: sources / (tool.folder or name) for name, tool in missing.items()}
    names = sorted(missing, key=lambda name: -missing[name].minutes)
    minutes = sum(tool.minutes for tool in missing.values())
    report(f"compiling {len(missing)} tools, once ({', '.join(names)}); about {minutes:.0f} min on two cores")
    progress = _Progress(len(missing), report)

    def build(place: Path) -> None:
        # Tools of one module one after another: in parallel, each would compile the shared packages.
        for name in names:
            if places[name] == place:
                _build(builder, place, missing[name], entries[name], progress)

    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(build, dict.fromkeys(places[name] for name in names)))


@dataclass(frozen=True)
class Builder:
    """A Go, and the platform that it compiles for."""

    go: Path
    platform: str

    def run(self, source: Path, *arguments: str) -> str:
        system, architecture = self.platform.split("/")
        env = golang.environment(self.go) | {"GOOS": system, "GOARCH": architecture}
        done = subprocess.run([self.go, *arguments], cwd=source, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            tail = "\n".join(done.stderr.splitlines()[-25:])
            raise BuildFailed(f"{source.name}: `go {arguments[0]}` failed:\n{tail}")
        return done.stdout


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


def entry_of(cache: Path, source: Path, name: str, tool: Tool) -> Path:
    """Where the cache has a tool. The last part of the path changes with its pins."""
    digest = hashlib.sha256()
    for path in (source / "go.mod", source / "go.sum", *sorted(source.glob("*.go"))):
        digest.update(path.read_bytes())
    digest.update(repr((tool, _FLAGS)).encode())
    return cache / "tools" / f"{name}-{digest.hexdigest()[:16]}"


def _build(builder: Builder, source: Path, tool: Tool, entry: Path, progress: _Progress) -> None:
    with locked(entry):
        if not entry.exists():
            with progress.step(entry.name.rpartition("-")[0], tool.minutes), _filling(entry) as partial:
                _compile(builder, source, tool, partial)


@contextmanager
def _filling(entry: Path) -> Iterator[Path]:
    """A folder that becomes the entry when it is complete, and disappears if that fails."""
    partial = Path(tempfile.mkdtemp(prefix=f"{entry.name}.part.", dir=entry.parent))
    try:
        yield partial
        partial.chmod(0o755)
        partial.rename(entry)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _compile(builder: Builder, source: Path, tool: Tool, target: Path) -> None:
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
        builder.run(source, "build", *_FLAGS, "-ldflags", ldflags, "-o", str(target / "bin" / program), path)
    if tool.files:
        folder = Path(builder.run(source, "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", tool.module).strip())
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


@contextmanager
def locked(entry: Path, *, wait: bool = True) -> Iterator[None]:
    """Only one process at a time creates this entry of the cache. Raises BlockingIOError instead of waiting."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    with entry.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


def search_path(tools: Tools, others: Iterable[Path] = ()) -> str:
    """A PATH with the tools first."""
    return os.pathsep.join([*map(str, tools.bins), *map(str, others), os.environ.get("PATH", "")])
