"""Whether the companion that is said to measure a browser is in fact connected.

A browser's cookie names it, and says that a companion runs there (`measured.py`). That it gets through to the gateway,
the cookie cannot know: something may block its connection, or a page without it may run in the same browser. So each
replica tells the others, by Redis, whose companions it has, and what a browser sends by itself is left out only while
its companion is connected somewhere.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from service.domain.counting import counted
from service.domain.errors import Unavailable
from service.domain.metrics import ActivitySource
from service.domain.names import SessionId
from service.domain.ports import COMPANION_SEEN, Companions, WorkloadCache
from service.gateway.activity.notes import Note
from service.gateway.activity.recorder import ActivityRecorder

log = logging.getLogger(__name__)

CHECK = 10.0
"""Seconds until it is decided what a browser has sent meanwhile: time for a companion to connect, also again."""
_ANNOUNCED = COMPANION_SEEN.total_seconds() / 3
"""Seconds between two announcements."""
_MOST = 10_000
"""Browsers that may be undecided. What others send counts."""

_Browser = tuple[SessionId, str]


class CompanionPresence:
    """The companions at this replica and the others, and what counts because there is none."""

    def __init__(self, companions: Companions, cache: WorkloadCache, recorder: ActivityRecorder) -> None:
        self._companions = companions
        self._cache = cache
        self._recorder = recorder
        self._here: Counter[_Browser] = Counter()
        self._announcing: dict[_Browser, asyncio.Task[None]] = {}
        self._undecided: dict[_Browser, Note] = {}
        """The last activity of each browser, if there is no companion."""
        self._checks: set[asyncio.Task[None]] = set()

    @contextmanager
    def connected(self, uuid: SessionId, browser: str | None) -> Iterator[None]:
        """A companion of that browser is connected. None: its browser has no name."""
        if browser is None:
            yield
            return
        key = uuid, browser
        try:
            with counted(self._here, key):
                if key not in self._announcing:
                    name = f"companion of {uuid}: announce"
                    self._announcing[key] = asyncio.create_task(self._announce(key), name=name)
                yield
        finally:
            if key not in self._here:
                self._announcing.pop(key).cancel()

    def is_here(self, uuid: SessionId, browser: str) -> bool:
        return (uuid, browser) in self._here

    def record(self, uuid: SessionId, browser: str, activity: ActivitySource) -> None:
        """Note activity that only counts if no companion of this browser is connected anywhere. Returns at once."""
        key = uuid, browser
        if key in self._here:
            return
        if key not in self._undecided:
            if len(self._undecided) >= _MOST:
                self._recorder.record(uuid, activity)
                return
            task = asyncio.create_task(self._check(key), name=f"companion of {uuid}: check")
            self._checks.add(task)
            task.add_done_callback(self._checks.discard)
        self._undecided[key] = Note(time.monotonic(), activity)

    async def close(self) -> None:
        tasks = [*self._checks, *self._announcing.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _announce(self, key: _Browser) -> None:
        uuid, browser = key
        while True:
            try:
                if self._cache.workload(uuid).replicas:  # nothing counts while it sleeps
                    await self._companions.seen(uuid, browser)
            except Unavailable as error:
                log.info("other replicas do not hear of a companion: %s", error, extra={"uuid": uuid})
            except Exception:
                log.exception("other replicas do not hear of a companion", extra={"uuid": uuid})
            await asyncio.sleep(_ANNOUNCED)

    async def _check(self, key: _Browser) -> None:
        uuid, browser = key
        measured: bool | None = None
        while measured is None:
            await asyncio.sleep(CHECK)
            try:
                measured = key in self._here or await self._companions.is_seen(uuid, browser)
            except Unavailable as error:
                log.info("cannot tell whether a companion is connected: %s", error, extra={"uuid": uuid})
            except Exception:
                log.exception("cannot tell whether a companion is connected", extra={"uuid": uuid})
        last = self._undecided.pop(key)
        if not measured:
            self._recorder.record(uuid, last.source, time.monotonic() - last.at)
