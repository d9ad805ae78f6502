"""Whether each part behind the service does its work, found out by using it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from service.domain.errors import SessionError, causes

log = logging.getLogger(__name__)

_PATIENCE = 10.0
"""Seconds for one check; a part that is slower counts as failing."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with each part, None when nothing is; only sentences of ours, never a cause's text."""

    parts: Mapping[str, str | None]
    remarks: Mapping[str, str] = field(default_factory=dict)
    """What works less well than it could; nothing fails by it."""

    @property
    def failing(self) -> list[str]:
        return [name for name, wrong in self.parts.items() if wrong]


class Health:
    """All checks at once, one run shared by all who ask, its verdict good for `seconds`."""

    def __init__(
        self,
        checks: Mapping[str, Callable[[], Awaitable[None]]],
        *,
        seconds: float,
        remarks: Mapping[str, Callable[[], str | None]] | None = None,
        parts: Callable[[], Mapping[str, str | None]] = dict,
    ) -> None:
        """`parts`: of the process's own parts what is wrong with each, known without a check."""
        self._checks = checks
        self._parts = parts
        self._remarks = remarks or {}
        self._seconds = seconds
        self._run: asyncio.Task[Verdict] | None = None
        self._until = 0.0

    async def verdict(self) -> Verdict:
        now = asyncio.get_running_loop().time()
        if self._run is None or (self._run.done() and now >= self._until):
            self._run = asyncio.create_task(self._all())
        return await asyncio.shield(self._run)

    async def _all(self) -> Verdict:
        wrong = await asyncio.gather(*(self._one(name, check) for name, check in self._checks.items()))
        self._until = asyncio.get_running_loop().time() + self._seconds
        remarks = {name: text for name, remark in self._remarks.items() if (text := remark())}
        return Verdict({**dict(zip(self._checks, wrong, strict=True)), **self._parts()}, remarks)

    async def _one(self, name: str, check: Callable[[], Awaitable[None]]) -> str | None:
        try:
            async with asyncio.timeout(_PATIENCE):
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
