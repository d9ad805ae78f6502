"""Releases by pyhelm3: the only module that imports it, and the only one that reads what helm prints.

pyhelm3 runs helm through a shell, which swallows the signal of a cancellation; `_Helm` starts it directly, in a session
of its own (a Ctrl-C in the service's terminal must not hit an install), and ends it at its deadline.
"""

import asyncio
import logging
import re
import signal
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyhelm3
import pyhelm3.errors
import yaml
from pyhelm3.command import Command

from service.domain.errors import (
    ChartInvalid,
    ClusterUnavailable,
    HelmTimeout,
    HelmUnavailable,
    InstallFailed,
    SessionBusy,
    Unavailable,
)
from service.domain.names import SessionId, release_name
from service.domain.session import IdleTimes

log = logging.getLogger(__name__)

_HISTORY = 2
"""Revisions kept per release: the one that runs and the one to roll back to."""
_KILL_AFTER = 5
"""Seconds between the polite end of a helm that is over its deadline and the kill."""

# Each pattern is held to the real program's words by tests/adapters/test_helm.py; the first match counts.
_MEANING: tuple[tuple[re.Pattern[str], type[Unavailable]], ...] = (
    (
        re.compile(
            r"cluster unreachable|connection refused|connection reset|no such host|i/o timeout|tls handshake timeout"
            r"|context deadline exceeded|etcdserver|service unavailable|unauthorized|\bEOF\b",
            re.IGNORECASE,
        ),
        ClusterUnavailable,
    ),
    (
        re.compile(
            r"don't meet the specifications of the schema|execution error at|parse error|failed to parse"
            r"|error converting yaml|chart\.yaml file is missing|no such file or directory|path .* not found"
            r"|unable to build kubernetes objects|template: |executing \".*\" at <",
            re.IGNORECASE,
        ),
        ChartInvalid,
    ),
)
_BUSY = re.compile(r"another operation \(install/upgrade/rollback\) is in progress", re.IGNORECASE)
_NOT_FOUND = re.compile(r"release: not found", re.IGNORECASE)


class _Helm(Command):
    """pyhelm3's command runner without the shell, with a deadline, and with our errors."""

    deadline: float

    async def run(self, command: list[Any], input: bytes | None = None) -> bytes:  # noqa: A002 - pyhelm3's name
        argv = [self._executable, *map(str, command)]
        if self._kubeconfig:
            argv += ["--kubeconfig", str(self._kubeconfig)]
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE if input is not None else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise HelmUnavailable from error
        try:
            async with asyncio.timeout(self.deadline):
                stdout, stderr = await process.communicate(input)
        except TimeoutError as error:
            raise HelmTimeout from error
        finally:
            await _end(process)
        if process.returncode:
            raise _meaning(process.returncode, stdout, stderr)
        return stdout


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a helm that still runs: politely, so that it can mark its release as failed, then by force."""
    for requested in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        process.send_signal(requested)
        try:
            await asyncio.wait_for(process.wait(), _KILL_AFTER)
        except TimeoutError:
            log.warning("helm did not end when asked to", extra={"pid": process.pid})


def _meaning(code: int, stdout: bytes, stderr: bytes) -> Exception:
    """Our error for helm's words, with pyhelm3's as the cause, so that the log has them and no caller does."""
    words = stderr.decode(errors="replace")
    cause = pyhelm3.errors.Error(code, stdout, stderr)
    if _NOT_FOUND.search(words):
        return pyhelm3.errors.ReleaseNotFoundError(code, stdout, stderr)
    error: Exception = InstallFailed()
    if _BUSY.search(words):
        error = SessionBusy(retry_after=5)
    else:
        for pattern, kind in _MEANING:
            if pattern.search(words):
                error = kind()
                break
    error.__cause__ = cause
    return error


class HelmReleases:
    """See `service.domain.ports.Releases`. `values` go to every release, below what the session adds."""

    def __init__(
        self,
        *,
        helm: str,
        chart: Path,
        values: Mapping[str, Any],
        namespace: str,
        kubeconfig: Path | None,
        deadline: timedelta,
    ) -> None:
        self._helm = helm
        self._chart_path = chart
        self._values = values
        self._namespace = namespace
        self._command = _Helm(executable=helm, kubeconfig=kubeconfig, history_max_revisions=_HISTORY)
        self._command.deadline = deadline.total_seconds()
        self._client: pyhelm3.Client | None = None
        self._chart: pyhelm3.Chart | None = None

    async def install(self, uuid: SessionId, user_id: str, idle_times: IdleTimes) -> None:
        client, chart = await self._ready()
        await client.install_or_upgrade_release(
            release_name(uuid),
            chart,
            dict(self._values),
            {"uuid": uuid, "user": {"id": user_id}, "autoscaling": _times(idle_times)},
            namespace=self._namespace,
            create_namespace=False,
            # Only helm 4 knows of conflicts: the one there is, is with our own reservation's image.
            force_conflicts=client.version.major >= 4,
        )

    async def uninstall(self, uuid: SessionId) -> None:
        client, _ = await self._ready()
        await client.uninstall_release(release_name(uuid), namespace=self._namespace)

    async def check(self) -> None:
        """Render the chart for an id that nobody has: this runs helm, reads the chart and judges the values."""
        probe = {"uuid": "00000000", "user": {"id": "health"}}
        await self._command.template(
            release_name(SessionId("00000000")),
            self._chart_path,
            {**self._values, **probe},
            namespace=self._namespace,
        )

    async def _ready(self) -> tuple[pyhelm3.Client, pyhelm3.Chart]:
        """Client and chart, made at the first use and again after a failure: helm may come back at any time.

        pyhelm3's constructor runs helm and blocks, hence the thread; the chart's metadata is read once, so that a
        create costs one process.
        """
        if self._client is None or self._chart is None:
            try:
                self._client = await asyncio.to_thread(pyhelm3.Client, self._command, executable=self._helm)
            except Exception as error:
                raise HelmUnavailable from error
            self._chart = await self._client.get_chart(self._chart_path)
        return self._client, self._chart


def _times(idle_times: IdleTimes) -> dict[str, float | int]:
    """The chart's values for falling asleep."""
    return {
        "pollingInterval": int(idle_times.poll.total_seconds()),
        "cooldownPeriod": int(idle_times.cooldown.total_seconds()),
        "lease": idle_times.lease.total_seconds(),
    }


def read_values(path: Path) -> dict[str, Any]:
    """The operator's values file. Raises ValueError with what is wrong."""
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} does not hold a mapping of values")  # noqa: TRY004 - it is the file that is wrong
    return values
