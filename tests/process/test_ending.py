"""The process always ends: by a signal at any time, by a port in use, or by force when something hangs."""

import asyncio
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from service.edge.ports import PortUnusable, bind
from service.process import Life
from stack.stack import ROOT
from tests.process.conftest import Service

Make = Callable[..., Service]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_at_any_moment_of_the_start_ends_it_quickly(service: Make, number: signal.Signals) -> None:
    begun = time.monotonic()
    measured = service().start()
    measured.lives()
    start = time.monotonic() - begun
    measured.signal(number)
    measured.ended(20)
    late = 0
    for share in (0.3, 0.8, 0.95):
        each = service().start()
        time.sleep(start * share)
        each.signal(number)
        each.ended(20)
        late += "forcing it to exit" in each.log
    assert not late


def test_a_signal_as_the_port_opens_ends_it_quickly_and_cleanly(service: Make) -> None:
    each = service().start()
    each.until(lambda: "listens on" in each.log)
    each.signal()
    assert each.ended(20) == 0


@pytest.mark.parametrize("name", ["PORT", "METRICS_PORT", "GATEWAY_PORT"])
def test_a_port_in_use_ends_the_start_with_advice(service: Make, taken: int, name: str) -> None:
    each = service(**{"GATEWAY_DOMAIN": "localhost", "GATEWAY_PORT": "0", name: str(taken)}).start()
    assert each.ended(60) == 1
    assert f"USER_PODS_{name}: port {taken} of 127.0.0.1 is taken" in each.log
    assert "Traceback" not in each.log


def test_a_second_signal_ends_it_at_once(service: Make) -> None:
    each = service(DRAIN_SECONDS="60").start()
    each.lives()
    each.signal()
    each.until(lambda: "draining" in each.log)
    each.signal(signal.SIGINT)
    assert each.ended(5) == 1
    assert "again: exiting at once" in each.log


def test_a_draining_process_reports_it_and_serves_everything(service: Make) -> None:
    each = service(DRAIN_SECONDS="4").start()
    each.lives()
    each.signal()
    each.until(lambda: "draining" in each.log)
    assert (each.status("/readyz"), each.status("/livez"), each.status("/docs")) == (503, 200, 200)
    with socket.create_connection(("127.0.0.1", each.port)) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"connection: close" in connection.recv(4096).lower(), "a kept connection would be lost with the process"
    assert each.ended(20) == 0
    assert each.status("/livez") == 0


async def test_a_shutdown_that_hangs_is_forced_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    exits: list[int] = []
    forced = threading.Event()

    def leave(code: int) -> None:
        exits.append(code)
        forced.set()

    monkeypatch.setattr("service.process.os._exit", leave)
    monkeypatch.setattr("service.process._LAST_STEPS", 0.05)
    life, release = Life(seconds=0, timeout=0), asyncio.Event()

    async def main(life: Life) -> None:
        await life.serve()
        life.enter("finishing creates and deletes")
        await release.wait()

    running = asyncio.create_task(life.run(main))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    life._signalled(signal.SIGTERM)
    await asyncio.to_thread(forced.wait, 5)
    assert exits == [1]
    told = next(record for record in caplog.records if "forcing it to exit" in record.message)
    assert vars(told)["was"] == "finishing creates and deletes"
    assert "main" in vars(told)["under_way"]
    release.set()
    await running


async def test_a_start_that_swallows_a_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.process._CANCEL_AGAIN", 0.01)
    monkeypatch.setattr("service.process.Life._end_within", lambda *_: None)
    life, lost = Life(seconds=0, timeout=0), 0

    async def main(_: Life) -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
                if lost == 3:
                    raise

    running = asyncio.create_task(life.run(main))
    await asyncio.sleep(0.01)
    life._signalled(signal.SIGTERM)
    await asyncio.wait_for(running, 5)
    assert lost == 3


def test_a_bind_address_of_another_machine_is_named(taken: int) -> None:
    with pytest.raises(PortUnusable, match=r"X: 203\.0\.113\.1 is not an address of this machine"):
        bind("X", "203.0.113.1", taken)
    with pytest.raises(PortUnusable, match="has no address"):
        bind("X", "no.such.host.invalid", taken)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_start_is_not_lost(number: signal.Signals) -> None:
    code = (
        "import sys; sys.argv.append('serve'); import service.early, signal, weakref\n"
        "class Any: pass\n"
        f"lost = weakref.ref(any := Any(), lambda _: signal.raise_signal({int(number)}))\n"
        "del any"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 128 + number
