"""The script of `helm test` by itself, on a real Redis, with the programs that two kinds of images have.

In a pod it runs in tests/workspaces/test_helm_test.py.
"""

import os
import secrets
import shutil
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from devcluster import components
from devcluster.certificates import Authority
from tests.chart.conftest import CHART
from tests.conftest import free_port
from tests.devcluster.test_cluster import wait

SCRIPT = (CHART / "files" / "wake-and-ask.sh").read_text()
PROGRAMS = ("sh", "date", "sleep", "timeout", "wget")
PASSWORD = "the-word-of-redis"
ODD = """p"a'ß$(x) `y` \\ *?"""
"""A password with all that a shell or a protocol could trip over."""


@dataclass
class Pod:
    """The environment and programs of a test's pod."""

    folder: Path
    redis: Any
    env: dict[str, str]

    def has(self, *programs: str) -> None:
        for name in programs:
            found = shutil.which(name if name == "redis-cli" else "busybox")
            if found is None and not os.environ.get("CI"):
                pytest.skip("the Debian packages busybox-static and redis-tools are missing")
            assert found
            (self.folder / name).symlink_to(found)

    def start(self, **env: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [self.folder / "sh", "-c", SCRIPT],
            env={"PATH": str(self.folder), **self.env, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, **env: str) -> tuple[int, str]:
        """The script's exit code, and what it says."""
        with self.start(**env) as process:
            said = process.communicate(timeout=60)[0]
        for password in {self.env["REDISCLI_AUTH"], env.get("REDISCLI_AUTH", "")} - {""}:
            assert password not in said
        assert "\r" not in said
        return process.returncode, said


@contextmanager
def redis_server(program: str, folder: Path, *, tls: Authority | None = None) -> Iterator[Any]:
    """A Redis of these tests' own, as a client of it."""
    port = free_port()
    options = {"bind": "127.0.0.1", "dir": str(folder), "save": "", "tls-port" if tls else "port": str(port)}
    named: dict[str, Any] = {}
    if tls:
        crt, key = tls.issue("redis", user="redis", hosts=("127.0.0.1",))
        files = {"tls-cert-file": crt, "tls-key-file": key, "tls-ca-cert-file": tls.certificate}
        options |= {"port": "0", "tls-auth-clients": "no", **{name: str(path) for name, path in files.items()}}
        named = {"ssl": True, "ssl_ca_certs": str(tls.certificate)}
    argv = [program, *(part for name, value in options.items() for part in (f"--{name}", value))]
    client: Any = redis.Redis(host="127.0.0.1", port=port, decode_responses=True, **named)

    def listens() -> bool:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False

    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as running, client:
        try:
            wait(listens, "Redis does not listen")
            yield client
        finally:
            running.terminate()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with redis_server(str(components.redis_server(None)), tmp_path_factory.mktemp("redis")) as client:
        client.config_set("requirepass", PASSWORD)
        client.auth(PASSWORD)
        client.connection_pool.connection_kwargs["password"] = PASSWORD
        yield client


@pytest.fixture
def pod(server: Any, tmp_path: Path) -> Iterator[Pod]:
    """Without what it needs to talk to Redis."""
    uuid = secrets.token_hex(4)
    env = {
        "UUID": uuid,
        "NAMESPACE": "users",
        "WORKSPACE": f"127.0.0.1:{free_port()}",
        "TIMEOUT": "20",
        "QUEUE": f"queue:{uuid}",
        "LEASE": "15000",
        "BEAT": "1",
        "REDIS": place(server),
        "REDIS_DATABASE": "0",
        "REDIS_USERNAME": "",
        "REDIS_TLS": "",
        "REDIS_INSECURE": "",
        "REDISCLI_AUTH": PASSWORD,
    }
    folder = tmp_path / "bin"
    folder.mkdir()
    found = Pod(folder, server, env)
    found.has(*PROGRAMS)
    yield found
    server.delete(env["QUEUE"])
    server.acl_deluser("pusher", "reader")


def place(server: Any) -> str:
    return f"127.0.0.1:{server.connection_pool.connection_kwargs['port']}"


@pytest.fixture(params=["redis-cli", "nc"])
def equipped(pod: Pod, request: pytest.FixtureRequest) -> Pod:
    pod.has(request.param)
    return pod


@contextmanager
def answering(place: str, status: int = 200) -> Iterator[None]:
    """A workspace that always answers with this status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", "https://nowhere.invalid/")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    host, _, port = place.partition(":")
    with serving(ThreadingHTTPServer((host, int(port)), Handler)):
        yield


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_helm_test_pushes_until_the_workspace_answers(equipped: Pod) -> None:
    queue, secret = equipped.env["QUEUE"], equipped.env["REDISCLI_AUTH"]
    argvs: set[str] = set()

    def pushed(times: int) -> Callable[[], bool]:
        def seen() -> bool:
            for child in psutil.Process(process.pid).children(recursive=True):
                try:
                    argvs.add(" ".join(child.cmdline()))
                except psutil.Error:  # it has ended meanwhile
                    continue
            return int(equipped.redis.llen(queue)) >= times

        return seen

    with equipped.start() as process:
        wait(pushed(1), "nothing was pushed")
        assert 0 < int(equipped.redis.pttl(queue)) <= 15_000
        wait(pushed(3), "it was not pushed again")
        with answering(equipped.env["WORKSPACE"]):
            said = process.communicate(timeout=20)[0]
    assert process.returncode == 0
    assert "Connection refused" in said
    assert said.splitlines()[-1].endswith("PASSED: HTTP status 200")
    assert argvs
    assert secret not in said + " ".join(argvs)


@pytest.mark.parametrize("status", [200, 302, 401, 404])
def test_any_answer_of_the_workspace_itself_counts(equipped: Pod, status: int) -> None:
    with answering(equipped.env["WORKSPACE"], status):
        code, said = equipped.run()
    assert code == 0
    assert f"PASSED: HTTP status {status}" in said
    assert "awake already" in said
    assert equipped.redis.llen(equipped.env["QUEUE"]) == 1


def test_an_answer_of_a_proxy_does_not_count_and_the_log_says_where_to_look(equipped: Pod) -> None:
    with answering(equipped.env["WORKSPACE"], 503):
        code, said = equipped.run(TIMEOUT="2")
    assert code == 1
    assert "FAILED: no answer within 2 s" in said
    assert "HTTP status 503" in said
    assert f"kubectl -n users describe pods -l uuid={equipped.env['UUID']}" in said
    assert "tests.timeout" in said


def test_a_workspace_that_does_not_answer_ends_the_test(equipped: Pod) -> None:
    host, _, port = equipped.env["WORKSPACE"].partition(":")
    began = time.monotonic()
    with socketserver.ThreadingTCPServer((host, int(port)), socketserver.BaseRequestHandler, False) as silent:
        silent.server_bind()
        silent.server_activate()
        code, said = equipped.run(TIMEOUT="2")
    assert code == 1
    assert "no answer within 3 s" in said
    assert time.monotonic() - began < 20


def test_a_failed_name_lookup_names_the_value_that_avoids_dns(equipped: Pod) -> None:
    code, said = equipped.run(WORKSPACE="user-nowhere.invalid", TIMEOUT="0")
    assert code == 1
    assert "tests.serviceLinks=true" in said


@pytest.mark.parametrize(
    ("expiry", "least", "most"), [(60_000, 50_000, 60_000), (5_000, 10_000, 15_000), (None, -1, -1)]
)
def test_helm_test_keeps_a_longer_or_missing_expiry(equipped: Pod, expiry: int | None, least: int, most: int) -> None:
    queue = equipped.env["QUEUE"]
    equipped.redis.rpush(queue, "somebody's")
    if expiry:
        equipped.redis.pexpire(queue, expiry)
    with answering(equipped.env["WORKSPACE"]):
        assert equipped.run()[0] == 0
    assert least <= int(equipped.redis.pttl(queue)) <= most


def test_a_user_and_password_with_special_characters_work(equipped: Pod) -> None:
    equipped.redis.acl_setuser("pusher", enabled=True, passwords=[f"+{ODD}"], keys=["*"], categories=["+@all"])
    with answering(equipped.env["WORKSPACE"]):
        code, said = equipped.run(REDIS_USERNAME="pusher", REDISCLI_AUTH=ODD)
    assert code == 0, said


def test_a_read_only_user_is_reported_with_the_value_to_set(equipped: Pod) -> None:
    equipped.redis.acl_setuser("reader", enabled=True, passwords=["+word-of-reader"], keys=["*"], categories=["+@read"])
    code, said = equipped.run(REDIS_USERNAME="reader", REDISCLI_AUTH="word-of-reader")
    assert code == 1
    assert "NOPERM" in said
    assert "tests.redis.username and tests.redis.passwordSecret" in said


@pytest.mark.parametrize("password", ["", "wrong-word"])
def test_a_wrong_password_is_reported_as_such(equipped: Pod, password: str) -> None:
    code, said = equipped.run(REDISCLI_AUTH=password)
    assert code == 1
    assert "FAILED: Redis rejects the user or password" in said
    assert "redis.passwordSecret" in said


def test_an_unreachable_redis_is_reported_with_possible_causes(equipped: Pod) -> None:
    code, said = equipped.run(REDIS=f"127.0.0.1:{free_port()}")
    assert code == 1
    assert "tests.redis.address" in said
    assert "NetworkPolicy" in said


def test_a_server_that_is_not_redis_cannot_put_the_password_into_the_log(equipped: Pod) -> None:
    class Parrot(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"-ERR what is " + self.request.recv(10_000) + b"\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Parrot) as server, serving(server):
        code, said = equipped.run(REDIS=f"127.0.0.1:{server.server_address[1]}")
    assert code == 1
    assert "ERR what is" in said


def test_other_shells_work_and_missing_programs_are_named(equipped: Pod) -> None:
    shell, wget = equipped.folder / "sh", equipped.folder / "wget"
    shell.unlink()
    shell.symlink_to("/bin/sh")
    with answering(equipped.env["WORKSPACE"]):
        code, said = equipped.run()
    assert code == 0, said
    wget.unlink()
    code, said = equipped.run()
    assert code == 1
    assert "the image of this test lacks wget" in said
    assert "tests.image" in said


def test_tls_without_redis_cli_is_refused_with_the_value_to_change(pod: Pod) -> None:
    pod.has("nc")
    code, said = pod.run(REDIS_TLS="yes")
    assert code == 1
    assert "lacks redis-cli" in said
    assert "tests.image" in said


def test_tls_works_and_rejects_unknown_certificates_unless_configured(pod: Pod, tmp_path: Path) -> None:
    pod.has("redis-cli")
    program = shutil.which("redis-server")
    if program is None and not os.environ.get("CI"):
        pytest.skip("the Debian package redis-server is missing, and the wheel's speaks no TLS")
    assert program
    authority = Authority(tmp_path / "ca")
    with redis_server(program, tmp_path, tls=authority) as client, answering(pod.env["WORKSPACE"]):
        there = {"REDIS": place(client), "REDIS_TLS": "yes", "REDISCLI_AUTH": ""}
        code, said = pod.run(**there)
        assert code == 1
        assert "certificate" in said
        assert "redis.tls" in said
        for more in ({"REDIS_INSECURE": "yes"}, {"SSL_CERT_FILE": str(authority.certificate)}):
            code, said = pod.run(**there, **more)
            assert code == 0, said
