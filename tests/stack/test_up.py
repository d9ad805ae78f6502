"""`make up` without a real node, a second time, and interrupted in the middle."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from devcluster.cluster import Cluster
from devcluster.processes import Processes
from devcluster.toolchain import Tools
from stack.stack import ROOT
from tests.conftest import free_port
from tests.devcluster.test_cluster import wait

pytestmark = pytest.mark.cluster


def command(state: Path) -> list[str]:
    argv = [sys.executable, "-m", "stack", "up", "--no-node", "--state", str(state)]
    return [*argv, "--port", str(free_port()), "--gateway-port", str(free_port())]


def test_up_without_a_node_says_that_no_workspace_can_be_opened(tools: Tools, tmp_path: Path) -> None:
    cluster, argv = Cluster(tmp_path, tools=tools), command(tmp_path)
    try:
        first, again = (subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True) for _ in range(2))
    finally:
        cluster.down()
    assert "All pods are simulated" in first.stdout
    assert "everything is running already; nothing was changed" in again.stdout
    assert "All pods are simulated" in again.stdout


def test_an_interrupted_up_stops_what_it_started(tools: Tools, tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    with subprocess.Popen(command(tmp_path), cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True) as up:
        wait(lambda: processes.alive("kube-apiserver"), "the API server was not started", 60)
        started = {name: processes.process(name) for name in processes.recorded()}
        os.killpg(up.pid, signal.SIGTERM)
        _, errors = up.communicate(timeout=60)
    assert (up.returncode, "kube-apiserver" in errors) == (128 + signal.SIGTERM, True), errors
    assert Cluster(tmp_path, tools=tools).status() == {}
    assert {"etcd", "kube-apiserver"} <= set(started)
    assert [name for name, process in started.items() if process is not None and process.is_running()] == []


def test_an_interrupted_up_leaves_earlier_processes_running(tools: Tools, tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, tools=tools)
    processes = Processes(tmp_path)
    code = f"""
import signal, sys
from pathlib import Path
from devcluster.cluster import Cluster
from devcluster.processes import Processes, Program, environment
from stack.interruption import undone_when_interrupted

def sleeper(name):
    return Program(name, [sys.executable, "-c", "import time; time.sleep(300)"], environment(), lambda: True)

state = Path({str(tmp_path)!r})
processes = Processes(state)
processes.start(sleeper("before"))
with undone_when_interrupted(Cluster(state)):
    processes.start(sleeper("inside"))
    signal.raise_signal(signal.SIGINT)
"""
    try:
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, "stopped inside" in done.stderr) == (128 + signal.SIGINT, True), done.stderr
        assert (processes.alive("before"), processes.alive("inside")) == (True, False)
        assert psutil.pid_exists(cluster.pid("before"))
    finally:
        cluster.down()
