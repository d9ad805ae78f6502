"""The Releases port by pyhelm3. The only module that imports it, and the only one that parses helm's output.

pyhelm3 runs helm through a shell, which swallows the signal of a cancellation. `_Helm` starts helm directly, ends it at
its timeout, and gives it a session of its own: a Ctrl-C in the service's terminal must not hit an install.
"""

import asyncio
import logging
import re
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyhelm3
import pyhelm3.errors
from pyhelm3.command import Command

from service.adapters.helm.chart_revision import revision_of, target_of
from service.adapters.helm.reasons import conflicts_of, reason_of
from service.adapters.helm.values import own_values, session_values
from service.domain.errors import (
    ChartInvalid,
    ClusterUnavailable,
    HelmTimeout,
    HelmUnavailable,
    InstallFailed,
    SessionBusy,
    SessionError,
    UpgradeConflict,
    UpgradeFailed,
)
from service.domain.hand_edits import undo_command
from service.domain.idle_times import IdleTimes
from service.domain.names import SessionId, release_name
from service.domain.profiles import NO_PROFILES, Profile, Profiles
from service.domain.workload import UNASSIGNED, Assignment, Workload

log = logging.getLogger(__name__)

_HISTORY = 2
"""Revisions kept per release: the current one, and the one to roll back to."""
_KILL_AFTER = 5
"""Seconds between SIGTERM and SIGKILL."""

# tests/adapters/test_helm.py checks each pattern against the output of the real program. The first match counts.
_PATTERNS: tuple[tuple[re.Pattern[str], Callable[[], SessionError]], ...] = (
    (
        re.compile(r"another operation \(install/upgrade/rollback\) is in progress", re.IGNORECASE),
        partial(SessionBusy, retry_after=5),
    ),
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
_NOT_FOUND = re.compile(r"release: not found", re.IGNORECASE)


class _Helm(Command):
    """pyhelm3's command runner, but without the shell, with a timeout in seconds, and with the domain's errors."""

    timeout: float

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
            async with asyncio.timeout(self.timeout):
                stdout, stderr = await process.communicate(input)
        except TimeoutError as error:
            raise HelmTimeout from error
        finally:
            await _end(process)
        if process.returncode:
            raise _error_for(process.returncode, stdout, stderr)
        return stdout


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a helm that still runs: with SIGTERM first, so that it can mark its release as failed, then with SIGKILL."""
    for requested in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        process.send_signal(requested)
        try:
            await asyncio.wait_for(process.wait(), _KILL_AFTER)
        except TimeoutError:
            log.warning("helm did not end after a signal", extra={"pid": process.pid, "signal": requested.name})


def _error_for(code: int, stdout: bytes, stderr: bytes) -> Exception:
    """The domain's error for helm's output. Its cause is pyhelm3's: the output is logged, but not shown to callers."""
    output = stderr.decode(errors="replace")
    if _NOT_FOUND.search(output):
        return pyhelm3.errors.ReleaseNotFoundError(code, stdout, stderr)
    error = next((make() for pattern, make in _PATTERNS if pattern.search(output)), InstallFailed())
    error.__cause__ = pyhelm3.errors.Error(code, stdout, stderr)
    return error


@contextmanager
def _upgrade_errors(what: str, undo: str) -> Iterator[None]:
    """Give operators helm's reason, which other callers only find in the log. `undo` takes changes by hand back."""
    try:
        yield
    except (InstallFailed, ChartInvalid) as error:
        if conflicts := conflicts_of(error.__cause__):
            raise UpgradeConflict(
                f"{what}, because {'; '.join(map(str, conflicts))}",
                managers=frozenset(each.manager for each in conflicts),
                step=f"Put the change into the values of every session, or undo it by `{undo}`; then upgrade again",
            ) from error
        raise UpgradeFailed(f"{what}: {reason_of(error.__cause__)}") from error
    except pyhelm3.errors.ReleaseNotFoundError as error:
        raise UpgradeFailed(f"{what}: {reason_of(error)}") from error


class HelmReleases:
    """See `service.domain.ports.Releases`. `values` are common to all releases; `session_values` adds the rest."""

    def __init__(
        self,
        *,
        helm: str,
        chart: Path,
        values: Mapping[str, Any],
        namespace: str,
        kubeconfig: Path | None,
        timeout: timedelta,
        profiles: Profiles = NO_PROFILES,
    ) -> None:
        self._helm = helm
        self._chart_path = chart
        self._values = values
        self._profiles = profiles
        self._namespace = namespace
        self._command = _Helm(executable=helm, kubeconfig=kubeconfig, history_max_revisions=_HISTORY)
        self._command.timeout = timeout.total_seconds()
        merged = {None: values} | {each.name: session_values(values, each, {}) for each in profiles}
        self._revisions = {name: revision_of(chart, each) for name, each in merged.items()}
        self._target = target_of(self._revisions)
        self._client: pyhelm3.Client | None = None
        self._chart: pyhelm3.Chart | None = None

    async def install(
        self, uuid: SessionId, user_id: str, idle_times: IdleTimes, assignment: Assignment = UNASSIGNED
    ) -> None:
        profile = self._profiles.find(assignment.profile)
        client, chart = await self._prepare()
        await client.install_or_upgrade_release(
            release_name(uuid),
            chart,
            self._session_values(profile, own_values(uuid, user_id, idle_times, assignment)),
            namespace=self._namespace,
            create_namespace=False,
            # Only helm 4 detects conflicts. The expected one is about the image of our own reservation.
            force_conflicts=client.version.major >= 4,
        )

    @property
    def target(self) -> str:
        return self._target

    def revision(self, assignment: Assignment) -> str | None:
        return self._revisions.get(assignment.profile)

    async def upgrade(self, workload: Workload) -> None:
        if workload.user_id is None or workload.idle_times is None:
            raise UpgradeFailed("the release has no user or no ScaledObject, so its values are not known")
        profile = self._profiles.find(workload.assignment.profile)
        own = own_values(workload.uuid, workload.user_id, workload.idle_times, workload.assignment)
        client, chart = await self._prepare()
        with _upgrade_errors("helm could not upgrade the release", self._undo(workload.uuid)):
            # Without force: helm 4 then refuses to overwrite what somebody has changed by hand.
            await client.install_or_upgrade_release(
                release_name(workload.uuid),
                chart,
                self._session_values(profile, own),
                namespace=self._namespace,
                create_namespace=False,
            )

    async def rollback(self, uuid: SessionId, number: int) -> None:
        with _upgrade_errors("helm could not roll the release back", self._undo(uuid)):
            await self._command.rollback(release_name(uuid), number, namespace=self._namespace)

    def _undo(self, uuid: SessionId) -> str:
        return undo_command(self._namespace, uuid)

    async def uninstall(self, uuid: SessionId) -> None:
        client, _ = await self._prepare()
        await client.uninstall_release(release_name(uuid), namespace=self._namespace)

    def _session_values(self, profile: Profile | None, own: Mapping[str, Any]) -> dict[str, Any]:
        revision = self._revisions[profile.name if profile else None]
        return session_values(self._values, profile, {**own, "revision": revision})

    async def check(self) -> None:
        """Render the chart with the default profile: this runs helm, reads the chart and validates the values."""
        await self._template(self._profiles.find(self._profiles.default))

    async def check_profile(self, profile: Profile) -> None:
        """The same with the values of a profile. Raises ChartInvalid, whose cause has helm's words."""
        await self._template(profile)

    async def rendered(self) -> Mapping[str | None, Sequence[Mapping[str, Any]]]:
        return {
            profile.name if profile else None: [
                each for each in await self._template(profile) if isinstance(each, dict)
            ]
            for profile in (None, *self._profiles)
        }

    async def _template(self, profile: Profile | None) -> Iterable[Any]:
        """What the chart renders for an unused id, which is parsed as it is read."""
        uuid = SessionId("00000000")
        assignment = Assignment(profile=profile.name if profile else None)
        values = self._session_values(profile, own_values(uuid, "health", IdleTimes(), assignment))
        return await self._command.template(release_name(uuid), self._chart_path, values, namespace=self._namespace)

    async def _prepare(self) -> tuple[pyhelm3.Client, pyhelm3.Chart]:
        """The client and the chart, made at the first use and again after a failure, since helm may come back.

        pyhelm3's constructor runs helm and blocks, hence the thread. The chart's metadata is read once, so that a
        create takes one helm process.
        """
        if self._client is None or self._chart is None:
            try:
                self._client = await asyncio.to_thread(pyhelm3.Client, self._command, executable=self._helm)
            except Exception as error:
                raise HelmUnavailable from error
            self._chart = await self._client.get_chart(self._chart_path)
        return self._client, self._chart
