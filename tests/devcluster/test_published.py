"""Tools from a registry: a real one on loopback, and every way in which it can fail. Then tools are compiled."""

import gzip
import hashlib
import http.server
import io
import json
import socket
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from devcluster import golang, published, publishing, toolchain
from devcluster.errors import DevclusterError
from devcluster.published import Downloads, NotPublished
from devcluster.publishing import Publisher
from devcluster.registry import Registry, RegistryFailed, Timeouts
from tests.devcluster.tiny_tool import TOOLS, write_sources
from tests.registries import Server, serving, wait

SHORT = Timeouts(connect=1, read=0.2, archive=5)


def quiet(_text: str) -> None:
    pass


@pytest.fixture(scope="module")
def program() -> Path:
    return toolchain.ensure({"registry": toolchain.EXTRA["registry"]}).path("registry")


@pytest.fixture(scope="module")
def server(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(program, tmp_path_factory.mktemp("registry")) as server:
        yield server


class Project:
    """A copy of this repository's tools with one tiny tool, and a machine that has compiled nothing yet."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.address = address
        self.sources = write_sources(folder / "sources")
        self.file = self.sources / toolchain.PUBLISHED
        self.file.write_text(json.dumps({"registry": address, "go": "", "tools": {}}))
        self.maintainer = Publisher(tools=TOOLS, sources=self.sources, cache=folder / "maintainer", report=quiet)
        self.cache = folder / "cache"
        self.said: list[str] = []

    @property
    def entry(self) -> str:
        """The tool's name in cache and registry."""
        return next(iter(published.load(self.file).tools))

    @property
    def layer(self) -> str:
        layer = Registry(self.address).layer(published.tag(self.entry, published.platform()))
        assert layer is not None
        return layer

    @property
    def part(self) -> Path:
        """Where a half downloaded archive waits."""
        return self.cache / "downloads" / f"{self.entry}.{self.layer.removeprefix('sha256:')}.part"

    def publish(self) -> None:
        self.maintainer.lock()
        self.maintainer.push(Registry(self.address))

    def replace(self, archive: bytes) -> None:
        """Let the registry have something else under the tool's tag."""
        (other := self.folder / "other.tar.gz").write_bytes(gzip.compress(archive))
        Registry(self.address).push(published.tag(self.entry, published.platform()), other, {})

    def up(self) -> str:
        """Get the tool as `make up` does, and return what it prints."""
        path = toolchain.ensure(TOOLS, cache=self.cache, sources=self.sources, report=self.said.append).path("tiny")
        return subprocess.run([path], capture_output=True, text=True, check=True).stderr

    @property
    def compiled(self) -> bool:
        return any("compiling" in line for line in self.said)


@pytest.fixture
def project(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.delenv(published.SETTING, raising=False)
    return Project(tmp_path, f"{server.host}/example/{tmp_path.name.replace('_', '-').lower()}")


def no_compiler(_cache: Path) -> NoReturn:
    raise AssertionError("nothing has to be compiled")


def test_a_published_tool_is_fetched_and_not_compiled(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.publish()
    monkeypatch.setattr(golang, "find", no_compiler)
    assert project.up() == "tiny\n"
    assert project.said[0] == f"fetching 1 tools from {project.address} (tiny)"
    assert project.said[1].strip().startswith("fetched and verified 1")
    assert list((project.cache / "downloads").iterdir()) == []
    project.said.clear()
    assert project.up() == "tiny\n"
    assert project.said == []


def test_a_tool_that_the_registry_lacks_is_compiled(project: Project) -> None:
    project.maintainer.lock()
    assert project.up() == "tiny\n"
    assert project.compiled
    assert f"not fetched: tiny. {project.address} does not have it" in project.said[1]


def test_other_pins_are_another_tool(project: Project) -> None:
    project.publish()
    with (project.sources / "tiny" / "go.mod").open("a") as file:
        file.write("// another version\n")
    assert project.up() == "tiny\n"
    assert project.said[0] == f"not published for {published.platform()} with these pins: tiny"
    assert project.compiled


def tar(name: str, content: bytes) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(content), 0o755
        archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


@pytest.mark.parametrize(
    "archive",
    [tar("bin/tiny", b"#!/bin/sh\necho evil >&2\n"), tar("bin/tiny", bytes(50_000_000)), tar("../tiny", b""), b""],
    ids=["another-program", "a-bomb", "outside", "empty"],
)
def test_an_archive_with_another_digest_is_refused_and_the_tool_compiled(project: Project, archive: bytes) -> None:
    project.publish()
    project.replace(archive)
    assert project.up() == "tiny\n"
    assert project.compiled
    assert "REFUSED" in project.said[1]
    assert published.load(project.file).tools[project.entry][published.platform()].sha256 in project.said[1]
    assert list((project.cache / "downloads").iterdir()) == []


def test_what_does_not_unpack_safely_is_not_used_in_spite_of_its_digest(project: Project) -> None:
    project.publish()
    bad = tar("../../tiny", b"evil")
    expected = {"sha256": hashlib.sha256(bad).hexdigest(), "bytes": len(bad)}
    text = json.loads(project.file.read_text())
    text["tools"][project.entry] = {published.platform(): expected}
    project.file.write_text(json.dumps(text))
    project.replace(bad)
    assert project.up() == "tiny\n"
    assert "leads out of the archive's folder" in project.said[1]
    assert not list(project.folder.glob("**/tools/tiny"))


def test_a_registry_that_cannot_be_reached_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:  # bound, so that nobody else listens there
        closed.bind(("127.0.0.1", 0))
        project = Project(tmp_path, f"127.0.0.1:{closed.getsockname()[1]}/tools")
        project.maintainer.lock()
        asked: list[str] = []
        layer = Registry.layer

        def counted(self: Registry, tag: str) -> str | None:
            asked.append(tag)
            return layer(self, tag)

        monkeypatch.setattr(Registry, "layer", counted)
        downloads = published.downloads(project.file, tmp_path / "downloads", lambda _name: None)
        assert downloads is not None
        for _ in range(2):
            with pytest.raises(NotPublished, match="cannot be reached"):
                downloads.fetch(project.entry, tmp_path)
        assert len(asked) == 1
        monkeypatch.delenv(published.SETTING, raising=False)
        assert project.up() == "tiny\n"
        assert "DEVCLUSTER_REGISTRY names another registry, or `none`" in project.said[1]


def test_a_registry_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        registry = Registry(f"127.0.0.1:{silent.getsockname()[1]}/tools", timeouts=SHORT)
        publication = published.Publication(
            registry.address, "1", {"tiny-1": {published.platform(): published.Archive("0" * 64, 1)}}
        )
        with pytest.raises(NotPublished, match="cannot be reached"):
            Downloads(publication, registry, tmp_path / "downloads").fetch("tiny-1", tmp_path)


def test_none_is_a_registry_that_is_never_asked(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.publish()
    monkeypatch.setenv(published.SETTING, "none")
    assert project.up() == "tiny\n"
    assert "fetching" not in project.said[0]


def test_another_registry_can_be_chosen(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.publish()
    project.file.write_text(project.file.read_text().replace(project.address, "registry.invalid/tools"))
    monkeypatch.setenv(published.SETTING, project.address)
    monkeypatch.setattr(golang, "find", no_compiler)
    assert project.up() == "tiny\n"


# --- half downloaded ---


class Breaking(http.server.BaseHTTPRequestHandler):
    """A registry whose connection breaks off in the middle of an archive."""

    manifest: bytes
    blob: bytes

    def do_GET(self) -> None:
        content = self.manifest if "/manifests/" in self.path else self.blob
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if content is self.blob else content)

    def log_message(self, *_arguments: object) -> None:
        pass


@contextmanager
def answering(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_broken_off_download_is_not_used_and_continued_next_time(
    project: Project, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.publish()
    whole = tmp_path / "whole"
    Registry(project.address).download(project.layer, whole, 10_000_000)
    Breaking.manifest = json.dumps({"layers": [{"digest": project.layer}]}).encode()
    Breaking.blob = whole.read_bytes()
    with answering(Breaking) as host:
        broken = Registry(f"{host}/tools")
        downloads = Downloads(published.load(project.file), broken, project.cache / "downloads")
        with pytest.raises(NotPublished, match="stopped answering"):
            downloads.fetch(project.entry, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert 0 < project.part.stat().st_size < whole.stat().st_size
    monkeypatch.setattr(golang, "find", no_compiler)
    assert project.up() == "tiny\n"
    wait(lambda: server.answered("GET", f"/v2/{project.address.partition('/')[2]}/blobs/", 206) == 1)


@pytest.mark.parametrize("size", [1000, 10_000_000])
def test_a_part_that_is_not_the_beginning_is_discarded(
    project: Project, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    project.publish()
    project.part.parent.mkdir(parents=True)
    project.part.write_bytes(b"x" * size)
    monkeypatch.setattr(golang, "find", no_compiler)
    assert project.up() == "tiny\n"


def test_a_registry_that_sends_something_else_than_it_promised_is_refused(tmp_path: Path) -> None:
    Breaking.blob = b""
    with answering(Breaking) as host, pytest.raises(RegistryFailed, match="sent sha256:e3b0c442"):
        Registry(f"{host}/tools").download(f"sha256:{'0' * 64}", tmp_path / "blob", 1000)
    assert not (tmp_path / "blob").exists()


@pytest.mark.parametrize(
    ("timeouts", "closed", "told"), [(Timeouts(archive=-1), False, "too slow"), (Timeouts(), True, "interrupted")]
)
def test_a_download_ends_when_it_takes_too_long_or_is_interrupted(
    tmp_path: Path, timeouts: Timeouts, closed: bool, told: str
) -> None:
    Breaking.blob = bytes(1000)
    with answering(Breaking) as host:
        registry = Registry(f"{host}/tools", timeouts=timeouts)
        if closed:
            registry.close()
        with pytest.raises(RegistryFailed, match=told):
            registry.download(f"sha256:{'0' * 64}", tmp_path / "blob", 1000)


def test_an_interrupt_ends_all_downloads_and_leaves_no_tool(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.publish()
    closed: list[bool] = []

    def interrupted(_self: Downloads, _entry: str, target: Path) -> NoReturn:
        (target / "bin").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(Downloads, "fetch", interrupted)
    monkeypatch.setattr(Downloads, "close", lambda _self: closed.append(True))
    with pytest.raises(KeyboardInterrupt):
        project.up()
    assert closed == [True]
    assert [path for path in (project.cache / "tools").iterdir() if path.is_dir()] == []


def test_a_full_disk_is_named(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.publish()

    def full(*_arguments: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("devcluster.archive.unpack", full)
    assert project.up() == "tiny\n"
    assert "No space left on device" in project.said[1]


def test_a_disk_that_is_full_while_downloading_is_not_the_registrys_fault(tmp_path: Path) -> None:
    Breaking.blob = bytes(1000)
    with answering(Breaking) as host, pytest.raises(OSError, match="No space left on device"):
        Registry(f"{host}/tools").download(f"sha256:{'0' * 64}", Path("/dev/full"), 1000)


def test_more_than_an_archive_can_have_is_not_downloaded(tmp_path: Path) -> None:
    Breaking.blob = bytes(10_000_000)
    with answering(Breaking) as host, pytest.raises(RegistryFailed, match="more than 1000 bytes"):
        Registry(f"{host}/tools").download(f"sha256:{'0' * 64}", tmp_path / "blob", 1000)
    assert not (tmp_path / "blob").exists()


def test_a_download_is_limited_by_what_the_archive_can_be_compressed_to(tmp_path: Path) -> None:
    digest = f"sha256:{'a' * 64}"
    Breaking.manifest = json.dumps({"layers": [{"digest": digest}]}).encode()
    Breaking.blob = bytes(10_000_000)
    with answering(Breaking) as host:
        tools = {"tiny-1": {published.platform(): published.Archive("0" * 64, 1)}}
        downloads = Downloads(published.Publication(f"{host}/tools", "1", tools), Registry(f"{host}/tools"), tmp_path)
        with pytest.raises(NotPublished, match="more than"):
            downloads.fetch("tiny-1", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_parts_of_tools_that_exist_or_are_no_longer_wanted_go_and_those_that_are_written_stay(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.maintainer.lock()
    monkeypatch.setenv(published.SETTING, "none")
    (folder := project.cache / "downloads").mkdir(parents=True)
    existing, unwanted, written = (
        folder / f"{entry}.{'a' * 64}.part" for entry in (project.entry, "old-0123456789abcdef", "other-0")
    )
    for part in (existing, unwanted, written):
        part.touch()
    with toolchain.locked(project.cache / "tools" / "other-0"):
        assert project.up() == "tiny\n"
    assert list(folder.iterdir()) == [written]


def test_two_at_once_fetch_once(project: Project, server: Server) -> None:
    project.publish()
    before = project.layer  # the connection for it was counted
    threads = [threading.Thread(target=project.up) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not project.compiled
    path = f"/v2/{project.address.partition('/')[2]}/blobs/{before}"
    wait(lambda: server.answered("GET", path, 200) > 0)
    assert server.answered("GET", path, 200) == 1


class BreakingOff(http.server.BaseHTTPRequestHandler):
    """Promises 500 bytes and sends 5, wherever it is told to."""

    place: str

    def do_GET(self) -> None:
        token = self.path.startswith("/token")
        self.send_response(200 if token or self.place == "manifest" else 401 if self.place == "token" else 500)
        if not token and self.place == "token":
            self.send_header("WWW-Authenticate", f'Bearer realm="http://{self.headers["Host"]}/token"')
        self.send_header("Content-Length", "500")
        self.end_headers()
        self.wfile.write(b"12345")

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.mark.parametrize("place", ["manifest", "token", "error"])
def test_an_answer_that_breaks_off_is_no_answer(place: str, tmp_path: Path) -> None:
    BreakingOff.place = place
    with answering(BreakingOff) as host:
        tools = {"tiny-1": {published.platform(): published.Archive("0" * 64, 1)}}
        downloads = Downloads(published.Publication(f"{host}/tools", "1", tools), Registry(f"{host}/tools"), tmp_path)
        with pytest.raises(NotPublished, match="stopped answering"):
            downloads.fetch("tiny-1", tmp_path / "out")


# --- logins ---


class Tokens(http.server.BaseHTTPRequestHandler):
    """As public registries do it: even a stranger needs a token, which another address gives."""

    asked: list[tuple[str, str]]
    token = b'{"token": "good"}'

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Authorization", "")))
        if self.path.startswith("/token?"):
            self._answer(200, self.token)
        elif self.headers.get("Authorization") == "Bearer good":
            self._answer(200, json.dumps({"layers": [{"digest": f"sha256:{'a' * 64}"}]}).encode())
        else:
            self._answer(401, b"")

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        if status == 401:
            host = self.headers["Host"]
            self.send_header(
                "WWW-Authenticate", f'Bearer realm="http://{host}/token",service="s",scope="repository:tools:pull"'
            )
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.mark.parametrize(("credentials", "sent"), [(None, ""), (("me", "word"), "Basic bWU6d29yZA==")])
def test_a_token_is_asked_for_where_a_registry_demands_one(credentials: tuple[str, str] | None, sent: str) -> None:
    Tokens.asked = []
    with answering(Tokens) as host:
        assert Registry(f"{host}/tools", credentials).layer("tag") == f"sha256:{'a' * 64}"
    (_, token, last) = Tokens.asked
    assert token == ("/token?service=s&scope=repository%3Atools%3Apull", sent)
    assert last[1] == "Bearer good"


@pytest.mark.parametrize("token", [b"[1]", b'{"token": 5}', b'{"token": "a\\nb"}', b"[" * 100_000], ids=range(4))
def test_a_login_that_gives_no_token_leaves_a_stranger(token: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tokens, "token", token)
    Tokens.asked = []
    with answering(Tokens) as host:
        assert Registry(f"{host}/tools").layer("tag") is None


def test_a_push_logs_in_and_a_stranger_compiles(
    program: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("private")
    # "word", as bcrypt.
    (folder / "users").write_text("me:$2b$04$abcdefghijklmnopqrstuuB/GrfUOm5dtrEiT8lcouu5XB5ftbWLi\n")
    login = f'auth: {{htpasswd: {{realm: tests, path: "{folder / "users"}"}}}}\n'
    with serving(program, folder, login) as private:
        project = Project(tmp_path, f"{private.host}/tools")
        project.maintainer.lock()
        with pytest.raises(RegistryFailed, match="401"):
            project.maintainer.push(Registry(project.address))
        monkeypatch.setenv(publishing.USER, "me")
        monkeypatch.setenv(publishing.PASSWORD, "word")
        monkeypatch.delenv(published.SETTING, raising=False)
        (reference,) = project.maintainer.push(Registry(project.address, publishing.credentials()))
        assert reference.startswith(f"{project.address}@sha256:")
        assert project.up() == "tiny\n"
        assert "does not have it" in project.said[1]


@pytest.mark.parametrize("address", ["", "host", "host/Tools", "user:word@host/tools", "https://host/tools"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(DevclusterError, match="is no repository of a registry"):
        Registry(address)


# --- what maintainers do ---


def test_nothing_is_pushed_that_users_would_refuse(project: Project) -> None:
    project.maintainer.lock()
    project.file.write_text(project.file.read_text().replace('"sha256": "', '"sha256": "0'))
    with pytest.raises(DevclusterError, match="Nothing was pushed"):
        project.maintainer.push(Registry(project.address))
    assert Registry(project.address).layer(published.tag(project.entry, published.platform())) is None


def test_another_go_is_not_taken_for_the_one_of_the_digests(project: Project) -> None:
    project.maintainer.lock()
    project.file.write_text(project.file.read_text().replace('"go": "1.', '"go": "1.0.'))
    with pytest.raises(DevclusterError, match=r"was written with Go 1\.0"):
        project.maintainer.push(Registry(project.address))


def test_the_digests_do_not_depend_on_the_place_of_the_sources(tmp_path: Path) -> None:
    one, other = (Project(tmp_path / name, "127.0.0.1/tools") for name in ("one", "a/longer/path"))
    assert one.maintainer.lock() == other.maintainer.lock()


def test_digests_of_other_platforms_stay_and_those_of_old_pins_go(tmp_path: Path) -> None:
    project = Project(tmp_path, "127.0.0.1/tools")
    project.maintainer.lock()
    text = json.loads(project.file.read_text())
    text["tools"][project.entry]["linux/riscv64"] = {"sha256": "0" * 64, "bytes": 1}
    project.file.write_text(json.dumps(text))
    (platforms,) = project.maintainer.lock().tools.values()
    assert set(platforms) == {published.platform(), "linux/riscv64"}
    with (project.sources / "tiny" / "go.mod").open("a") as file:
        file.write("// another version\n")
    (platforms,) = project.maintainer.lock().tools.values()
    assert set(platforms) == {published.platform()}


def test_another_platform_is_compiled_for_itself_and_kept_apart(tmp_path: Path) -> None:
    builder = toolchain.Builder(golang.find(toolchain.cache_folder()), "linux/riscv64")
    assert builder.run(tmp_path, "env", "GOOS", "GOARCH").split() == ["linux", "riscv64"]
    own, other = (publishing.cache_of(platform) for platform in (published.platform(), "linux/riscv64"))
    assert own == toolchain.cache_folder()
    assert other == own / "platforms" / "linux-riscv64"


def test_every_tool_of_the_cluster_is_published_with_its_pins() -> None:
    """If this fails: `.venv/bin/python -m devcluster lock-tools`."""
    publication = published.load(toolchain.SOURCES / toolchain.PUBLISHED)
    entries = {
        toolchain.entry_of(Path(), toolchain.SOURCES / (tool.folder or name), name, tool).name
        for name, tool in {**toolchain.CLUSTER, **toolchain.NODE}.items()
    }
    assert set(publication.tools) == entries
    assert all("linux/amd64" in platforms for platforms in publication.tools.values())
    assert tuple(map(int, publication.go.split("."))) >= golang.MINIMUM
