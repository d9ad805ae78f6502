"""Makes an interrupted start stop everything that it started."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import psutil

from devcluster.cluster import Cluster

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Interrupted(BaseException):
    """SIGINT or SIGTERM has arrived."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def undone_when_interrupted(cluster: Cluster) -> Iterator[None]:
    """On SIGINT or SIGTERM, stop what was started inside the context, and exit with the signal's usual code.

    Earlier processes keep running.
    """
    before = {name for name, alive in cluster.status().items() if alive}
    previous = {number: signal.signal(number, _interrupt) for number in _SIGNALS}
    try:
        yield
    except _Interrupted as interrupted:
        print("interrupted; stopping what was started", file=sys.stderr, flush=True)
        stopped = cluster.down(keep=before)
        print(f"stopped {', '.join(stopped)}" if stopped else "nothing had been started", file=sys.stderr)
        raise SystemExit(128 + interrupted.number) from None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)  # a second signal must not cut off the stop
    # Compilers and image builders would go on, and be waited for. The cluster's processes are in sessions of their own.
    for child in psutil.Process().children(recursive=True):
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(child.pid) == os.getpgrp():
                child.send_signal(number)
    raise _Interrupted(number)
