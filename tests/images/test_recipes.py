"""The image cache, on a recipe that needs neither root nor buildah, and the errors on machines that lack them."""

import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from devcluster.errors import BuildFailed
from images import __main__ as command_line
from images import base, entry, programs, recipes
from images.programs import CannotBuild
from images.recipes import Name


@pytest.fixture(autouse=True)
def recipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A recipe for tiny whose archive contains its own name, and a list of what was built."""
    made: list[str] = []

    def make(work: recipes._Work) -> None:
        (work.folder / "left over").mkdir()
        work.archive.write_text(work.reference)
        made.append(work.reference)

    recipe = recipes._Recipe(make=make, programs=(), pins="1", minutes=0.1)
    monkeypatch.setattr(recipes, "_RECIPES", {Name.TINY: recipe})
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return made


def entries(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "user-pods" / "images").iterdir() if path.is_dir())


def test_an_image_is_built_once_and_its_progress_is_reported(tmp_path: Path, recipe: list[str]) -> None:
    lines: list[str] = []
    image = recipes.build(Name.TINY, report=lines.append)
    assert image.archive.read_text() == image.reference
    assert image.reference.startswith("localhost/user-pods/tiny:")
    assert ("about 6 s" in lines[0], "done in" in lines[1]) == (True, True)
    assert recipes.build(Name.TINY, report=lines.append) == image == recipes.located(Name.TINY)
    assert (len(recipe), len(lines)) == (1, 2)
    assert entries(tmp_path) == [image.archive.parent.name], "nothing else is left"


def test_changed_inputs_make_another_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "main.go").write_text("package main\n")
    monkeypatch.setattr(recipes, "SOURCES", tmp_path)
    before = recipes.located(Name.TINY)
    assert recipes.located(Name.TINY) == before
    (tmp_path / "tiny" / "main.go").write_text("package main // changed\n")
    after = recipes.located(Name.TINY)
    assert after.reference != before.reference
    assert after.archive != before.archive


def test_a_failed_or_killed_build_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: list[str]
) -> None:
    def fail(_: recipes._Work) -> None:
        raise BuildFailed("no")

    with monkeypatch.context() as patch:
        broken = recipes._Recipe(make=fail, programs=(), pins="1", minutes=0.1)
        patch.setattr(recipes, "_RECIPES", {Name.TINY: broken})
        with pytest.raises(BuildFailed):
            recipes.build(Name.TINY)
    assert entries(tmp_path) == []
    entry = recipes.located(Name.TINY).archive.parent
    entry.with_name(f"{entry.name}.part.killed").mkdir()
    recipes.build(Name.TINY)
    assert entries(tmp_path) == [entry.name]


def test_two_concurrent_builds_run_once(recipe: list[str]) -> None:
    threads = [threading.Thread(target=recipes.build, args=(Name.TINY,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(recipe) == 1


HOLD = (
    "import sys, pathlib; from images import entry; entry._use(pathlib.Path(sys.argv[1])); print(flush=True); input()"
)


def test_the_latest_two_versions_stay_and_those_that_are_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(number: int) -> Path:
        recipe = replace(recipes._RECIPES[Name.TINY], pins=str(number))
        monkeypatch.setattr(recipes, "_RECIPES", {Name.TINY: recipe})
        lines: list[str] = []
        folder = recipes.build(Name.TINY, report=lines.append).archive.parent
        removed.extend(line for line in lines if "removed" in line)
        os.close(entry._in_use.pop(folder))  # as if a process each had built them, and has ended
        os.utime(folder, (long_ago + number, long_ago + number))
        return folder

    removed: list[str] = []
    long_ago = time.time() - 100_000
    other = tmp_path / "user-pods" / "images" / "tiny-looking-0123456789abcdef"
    other.mkdir(parents=True)
    os.utime(other, (0, 0))
    first = version(1)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(first)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as user:
        assert user.stdout is not None
        user.stdout.readline()
        os.utime(first, (long_ago + 1, long_ago + 1))
        second, third = version(2), version(3)
        os.utime(second)  # somebody has just used it
        fourth = version(4)
        os.utime(fourth)
        fifth = version(5)
        left = [each.name for each in (first, second, fourth, fifth, other)]
        assert entries(tmp_path) == sorted(left), "others stay"
        assert [third.name in line for line in removed] == [True]
        user.communicate(b"\n")
    for folder in (second, fourth):
        os.utime(folder, (long_ago, long_ago))
    sixth = version(6)
    assert entries(tmp_path) == sorted(each.name for each in (fifth, sixth, other))


def test_a_version_that_was_removed_is_built_again(tmp_path: Path, recipe: list[str]) -> None:
    image = recipes.build(Name.TINY)
    shutil.rmtree(image.archive.parent)
    assert recipes.build(Name.TINY).archive.exists()
    assert len(recipe) == 2


def test_the_command_writes_the_archive_to_the_given_path(tmp_path: Path) -> None:
    output = tmp_path / "out" / "tiny.tar"
    for _ in range(2):
        done = CliRunner().invoke(command_line.app, ["build", "tiny", "--output", str(output)])
        assert done.exit_code == 0, done.output
        assert done.stdout.split() == [recipes.located(Name.TINY).reference, str(output)]
    assert output.read_text() == recipes.located(Name.TINY).reference


def test_without_a_name_the_command_builds_what_this_machine_can_and_says_what_it_leaves_out(
    monkeypatch: pytest.MonkeyPatch, recipe: list[str]
) -> None:
    lacking = replace(recipes._RECIPES[Name.TINY], programs=("no-such-program",))
    monkeypatch.setattr(programs, "PACKAGES", {"no-such-program": "no-such-package"})
    monkeypatch.setattr(recipes, "_RECIPES", dict.fromkeys(Name, lacking) | {Name.TINY: recipes._RECIPES[Name.TINY]})
    done = CliRunner().invoke(command_line.app, ["build"])
    assert done.exit_code == 0, done.output
    assert done.stdout.split() == list(map(str, recipes.located(Name.TINY)))
    left = done.stderr.splitlines()
    assert len([line for line in left if "no-such-package" in line]) == len(Name) - 1
    done = CliRunner().invoke(command_line.app, ["build", "redis"])
    assert "no-such-package" in str(done.exception)
    assert len(recipe) == 1


def test_only_one_image_is_copied(tmp_path: Path) -> None:
    done = CliRunner().invoke(command_line.app, ["build", "tiny", "redis", "--output", str(tmp_path / "image.tar")])
    assert done.exit_code == 2
    assert "one image" in done.stderr


def test_missing_programs_are_named_with_their_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(programs, "_PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(CannotBuild, match="missing: root, the Debian package buildah, the Debian package debootstrap"):
        programs.demand("the image workspace", base.PROGRAMS)


def test_a_program_that_fails_is_reported_with_its_last_output() -> None:
    with pytest.raises(BuildFailed, match=r"(?s)`sh -c` failed.*first.*second"):
        programs.run(["sh", "-c", "echo first; echo second >&2; exit 3"])


def test_the_base_gets_security_updates_from_the_same_mirror() -> None:
    sources = base._with_updates("deb http://mirror.invalid/debian bookworm main\n")
    assert sources.splitlines() == [
        "deb http://mirror.invalid/debian bookworm main",
        "deb http://mirror.invalid/debian-security bookworm-security main",
        "deb http://mirror.invalid/debian bookworm-updates main",
    ]
