"""Whether each dependency works, found out by using it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from service.domain.errors import SessionError, causes

log = logging.getLogger(__name__)

_TIMEOUT = 10.0
"""Seconds for one check; a slower dependency counts as failing."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with each part, or None. The sentences are the service's own, never the text of an exception."""

    parts: Mapping[str, str | None]
    remarks: Mapping[str, str] = field(default_factory=dict)
    """What is degraded without failing."""

    @property
    def failing(self) -> list[str]:
        return [name for name, wrong in self.parts.items() if wrong]


class Health:
    """Runs all checks concurrently. Concurrent callers share one run, and its result is cached for `seconds`."""

    def __init__(
        self,
        checks: Mapping[str, Callable[[], Awaitable[None]]],
        *,
        seconds: float,
        remarks: Mapping[str, Callable[[], str | None]] | None = None,
        parts: Callable[[], Mapping[str, str | None]] = dict,
    ) -> None:
        """`parts` returns what is wrong with the process's own tasks, which need no check."""
        self._checks = checks
        self._parts = parts
        self._remarks = remarks or {}
        self._seconds = seconds
        self._run: asyncio.Task[Verdict] | None = None
        self._until = 0.0

    async def verdict(self) -> Verdict:
        now = asyncio.get_running_loop().time()
        if self._run is None or (self._run.done() and now >= self._until):
            self._run = asyncio.create_task(self._check_all(), name="health checks")
        return await asyncio.shield(self._run)

    async def _check_all(self) -> Verdict:
        wrong = await asyncio.gather(*(self._check(name, check) for name, check in self._checks.items()))
        self._until = asyncio.get_running_loop().time() + self._seconds
        remarks = {name: text for name, remark in self._remarks.items() if (text := remark())}
        return Verdict({**dict(zip(self._checks, wrong, strict=True)), **self._parts()}, remarks)

    async def _check(self, name: str, check: Callable[[], Awaitable[None]]) -> str | None:
        try:
            async with asyncio.timeout(_TIMEOUT):
                await check()
        except TimeoutError:
            return "it does not answer in time"
        except SessionError as error:
            log.warning("health check failed: %s", error, extra={"part": name, "cause": causes(error)})
            return str(error)
        except Exception:
            log.exception("health check failed", extra={"part": name})
            return "the check itself failed"
        return None
