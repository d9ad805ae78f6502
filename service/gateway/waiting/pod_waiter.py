"""Wakes sleeping workspaces, and holds requests until their pod responds."""

import asyncio
import contextlib
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

from service.domain.activity import SessionActivity
from service.domain.backoff import Backoff
from service.domain.counting import counted
from service.domain.errors import Unavailable
from service.domain.metrics import ActivitySource, RequestOutcome
from service.domain.names import SessionId
from service.domain.phase import Phase
from service.domain.ports import WorkloadCache
from service.domain.queries import SessionQueries
from service.domain.wake_cause import VISIT
from service.gateway.activity.recorder import ActivityRecorder
from service.gateway.errors import GatewayError, PageKind
from service.gateway.limits import GatewayLimits
from service.gateway.proxy.pods import CannotStart, Pods, Upstream
from service.gateway.request_outcome import OutcomeRecorder
from service.gateway.waiting.delays import Delay, Delays

CHECK_INTERVAL = 1.0
"""Seconds between two checks whether it still makes sense to wait."""
MANY = 10
"""So many sessions wait before people are told their position."""
_WAKE_AGAIN = 3
"""Checks that find a sleeping pod before it is woken again: somebody has put it to sleep since."""
_MAX_ATTEMPTS = 6
"""Attempts at a request whose pod is ready and goes away before it responds."""

_NO_POD = "It is taking longer than expected. Try again in a moment."
_NO_PROGRAM = "Its pod is running, but the program in it does not answer yet. Try again in a moment."
_FINAL = "(This is not retried automatically. Open the workspace again once the cause is fixed.)"
_ASLEEP = "The workspace is asleep. Open or reload its page to wake it."
_CLOSES = "It closes every connection without an answer. Try again in a moment. If this persists, restart its program."


class PodWaiter:
    """Bounds how many requests and pages wait at the same time."""

    def __init__(
        self,
        *,
        activity: SessionActivity,
        queries: SessionQueries,
        cache: WorkloadCache,
        pods: Pods,
        recorder: ActivityRecorder,
        limits: GatewayLimits,
    ) -> None:
        self._activity = activity
        self._queries = queries
        self._cache = cache
        self._pods = pods
        self._recorder = recorder
        self._limits = limits
        self._waiting: Counter[SessionId] = Counter()
        """In the order in which the sessions began to wait."""
        self._positions: Mapping[SessionId, int] = {}
        self._positions_at = -math.inf
        self._delays = Delays()

    @property
    def waiting(self) -> int:
        """How many requests and pages wait, of all sessions."""
        return self._waiting.total()

    def reason(self, uuid: SessionId) -> str | None:
        """What delays the pod, for people; None when nothing is known."""
        workload = self._cache.workload(uuid)
        if workload.phase(is_wanted=True) is Phase.READY:
            return None
        if workload.failure:
            return workload.failure if workload.final else f"Kubernetes keeps retrying. {workload.failure}"
        return workload.paused or workload.blocker or workload.warning

    def delay(self, uuid: SessionId) -> Delay | None:
        """What delays the pod, if it lasts or needs somebody to act."""
        return self._delays.lasting(self._cache.workload(uuid), self.reason(uuid))

    def unanswered(self, uuid: SessionId) -> str:
        """Why nothing responds yet, for people, when Kubernetes gives no reason."""
        return _NO_POD if self._pods.current(uuid) is None else _NO_PROGRAM

    def position(self, uuid: SessionId) -> tuple[int, int] | None:
        """The session's position among those that wait in this process, and their number. None unless many do."""
        if len(self._waiting) < MANY:
            return None
        if time.monotonic() - self._positions_at > CHECK_INTERVAL:
            self._positions = {each: number for number, each in enumerate(self._waiting, 1)}
            self._positions_at = time.monotonic()
        number = self._positions.get(uuid)
        return (number, len(self._positions)) if number is not None else None

    async def wake(self, uuid: SessionId) -> None:
        await self._activity.wake(uuid, by=VISIT)

    async def check_wanted(self, uuid: SessionId) -> None:
        """Raises GatewayError if the pod sleeps, and nobody has asked for it."""
        if self._cache.workload(uuid).replicas == 0 and not (await self._queries.status(uuid)).awake:
            raise _asleep()

    async def hold(self, uuid: SessionId, *, outcome: OutcomeRecorder, deadline: float, wakes: bool) -> Upstream:
        """Hold the request until the pod responds, waking it if `wakes`.

        Raises GatewayError when too many wait, when waiting makes no sense, or at the deadline.
        """
        if not wakes and self._cache.workload(uuid).replicas == 0:
            raise _asleep()
        outcome.on_hold()
        with self.place(uuid):
            if wakes:
                await self.wake(uuid)
            async with self.waiting_for(uuid, deadline, wakes=wakes, keeps_awake=wakes) as pod:
                upstream = await pod
                outcome.on_pod_available()
                return upstream

    async def pause(
        self, uuid: SessionId, upstream: Upstream, attempts: Backoff, *, outcome: OutcomeRecorder, deadline: float
    ) -> None:
        """Pause before another attempt at a request. Raises GatewayError when another makes no sense."""
        outcome.on_hold()
        if upstream.ready and attempts.failures >= _MAX_ATTEMPTS:
            raise GatewayError(502, "The workspace does not answer", _CLOSES, retry_after=2, page=PageKind.STOPPED)
        if not upstream.ready and time.monotonic() >= deadline:
            detail = self.reason(uuid) or _NO_PROGRAM
            raise GatewayError(504, "The workspace is not ready", detail, retry_after=5, page=PageKind.SLOW)
        with self.place(uuid):
            await asyncio.sleep(attempts.next())
        outcome.on_pod_available()

    @contextmanager
    def place(self, uuid: SessionId) -> Iterator[None]:
        """Count one more that waits. Raises GatewayError when too many do."""
        limits, total = self._limits, self._waiting.total()
        # Half of the places is there for pages of many requests; the other half is shared out.
        of_session = limits.session_requests if total < limits.held // 2 else limits.held_per_session
        if total >= limits.held or self._waiting[uuid] >= of_session:
            detail = "Too many requests are waiting for workspaces to wake."
            raise GatewayError(
                503, "Too many wait", detail, retry_after=2, outcome=RequestOutcome.BUSY, page=PageKind.BUSY
            )
        with counted(self._waiting, uuid):
            yield

    @asynccontextmanager
    async def waiting_for(
        self, uuid: SessionId, deadline: float, *, wakes: bool, keeps_awake: bool
    ) -> AsyncIterator["asyncio.Task[Upstream]"]:
        """A task that ends when the pod responds. It raises GatewayError, as `hold` does.

        `wakes`: wake the pod whenever it sleeps. `keeps_awake`: keep it awake until it responds.
        """
        task = asyncio.create_task(self._wait(uuid, deadline, wakes, keeps_awake), name=f"waiting for {uuid}")
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _wait(self, uuid: SessionId, deadline: float, wakes: bool, keeps_awake: bool) -> Upstream:
        responding = asyncio.create_task(self._pods.responding(uuid), name=f"pod of {uuid}")
        try:
            checks = 0
            while time.monotonic() < deadline:
                done, _ = await asyncio.wait({responding}, timeout=CHECK_INTERVAL)
                if done:
                    return responding.result()
                checks += 1
                self._pods.check_startable(uuid)
                if keeps_awake and self._cache.workload(uuid).replicas:
                    # While Kubernetes keeps trying to start the pod, it must not be put to sleep.
                    self._recorder.record(uuid, ActivitySource.VISIT)
                elif checks % _WAKE_AGAIN == 0:
                    await self._wake_again(uuid, wakes)
        except CannotStart as error:
            raise GatewayError(
                503, "The workspace could not be started", f"{error} {_FINAL}", page=PageKind.FAILED
            ) from None
        finally:
            responding.cancel()
        detail = self.reason(uuid) or self.unanswered(uuid)
        raise GatewayError(504, "The workspace did not wake in time", detail, retry_after=5, page=PageKind.SLOW)

    async def _wake_again(self, uuid: SessionId, wakes: bool) -> None:
        """Wake a pod that sleeps, or refuse to wait for it. While Redis is unavailable, neither is urgent."""
        if self._cache.workload(uuid).replicas:
            return
        with contextlib.suppress(Unavailable):
            await (self.wake(uuid) if wakes else self.check_wanted(uuid))


def _asleep() -> GatewayError:
    return GatewayError(503, "Asleep", _ASLEEP, outcome=RequestOutcome.ASLEEP, page=PageKind.ASLEEP)
