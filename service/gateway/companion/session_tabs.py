"""The tabs of one session, and what they are told: its state when it changes, and the progress of a wake."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from service.domain.activity import SessionActivity
from service.domain.errors import SessionError, SessionNotFound, Unavailable
from service.domain.history import Kind
from service.domain.idle_times import IdleTimes
from service.domain.metrics import ActivitySource, RequestOutcome
from service.domain.names import SessionId
from service.domain.phase import Phase
from service.domain.ports import Progress, WorkloadCache
from service.domain.progress import Stage, events_after
from service.domain.queries import SessionQueries
from service.domain.session import Session
from service.domain.sleep_cause import was_interrupted
from service.gateway.action_audit import ActionAudit
from service.gateway.action_rate import ActionRate
from service.gateway.activity import notes
from service.gateway.activity.presence import CompanionPresence
from service.gateway.activity.recorder import ActivityRecorder
from service.gateway.companion import messages
from service.gateway.companion.messages import Message, State
from service.gateway.companion.tab import Tab
from service.gateway.errors import GatewayError, of_session_error
from service.gateway.waiting.delays import Delay
from service.gateway.waiting.pod_waiter import PodWaiter

log = logging.getLogger(__name__)

WAKE_TIMEOUT = 3600.0
"""Seconds that a wake is followed at most."""
NOTICE_INTERVAL = 1.0
"""Seconds between two reads while the notice is due: another replica's tab may show that the user is there."""
SAVE_TIME = timedelta(seconds=5)
"""How long before a sleep pages save what they have."""
LONGEST_INTERVAL = 60.0
"""The same at other times, should an expected change not come. What comes is heard at once."""
UNKNOWN_INTERVAL = 10.0
"""The same while nobody knows when the session sleeps."""
_STEP = timedelta(seconds=0.5)
"""A time of sleep that changes by less is the same."""
_CHECK_INTERVAL = 1.0
_FELL_ASLEEP = frozenset({Phase.ASLEEP, Phase.RELEASED, Phase.DELETING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the tabs of every session use. `notice`: how long before a sleep; `stay`: what "Stay awake" gives."""

    activity: SessionActivity
    queries: SessionQueries
    progress: Progress
    cache: WorkloadCache
    waiter: PodWaiter
    recorder: ActivityRecorder
    rate: ActionRate
    audit: ActionAudit
    presence: CompanionPresence
    notice: timedelta
    stay: timedelta


class SessionTabs:
    """Runs while at least one tab is open at this replica: `open` before the first, `close` after the last."""

    def __init__(self, uuid: SessionId, surroundings: Surroundings) -> None:
        self._uuid = uuid
        self._with = surroundings
        self._tabs: set[Tab] = set()
        self._joining = 0
        """Tabs that have not been told the state yet."""
        self._changed = asyncio.Event()
        self._state: State | None = None
        """As all tabs know it."""
        self._idle_times = IdleTimes()
        self._warned = False
        """The notice is due, and nobody has moved since."""
        self._moved_at: datetime | None = None
        """The latest input in one of these tabs. It may be noted some seconds later."""
        self._slept = False
        """A pod that tabs were opened with is gone: they wait for another one."""
        self._watching: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None
        self._wakes = False
        """What is followed is a wake that a tab asked for."""
        self._staying: asyncio.Task[None] | None = None
        self._refused_until = 0.0
        """Until when the tabs know that something was asked for too often."""
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_empty(self) -> bool:
        return not self._tabs and not self._joining

    async def close(self) -> None:
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def join(self, tab: Tab, texts: dict[str, str]) -> None:
        """Tell a new tab how things are, and from now on what changes."""
        self._joining += 1
        try:
            read = self._state or await self._read()
        finally:
            self._joining -= 1
        state = self._state = self._state or read  # it may have changed meanwhile
        notice = self._notice.total_seconds() if self._with.notice else 0
        tab.send(messages.hello(texts, notice, round(self._with.stay.total_seconds() / 60)))
        tab.send(state.message(datetime.now(UTC)))
        self._tabs.add(tab)
        self._slept |= state.phase in _FELL_ASLEEP
        if self._watching is None:
            self._watching = self._spawn(self._watch(), "watch")
            self._listening = self._spawn(self._listen(), "listen")
        self._changed.set()  # it may be older than the tab's page

    def leave(self, tab: Tab) -> None:
        self._tabs.discard(tab)

    def on_workload_change(self) -> None:
        """The session's workload has changed. A pod that is gone is told at once, whatever Redis does."""
        workload, state = self._with.cache.workload(self._uuid), self._state
        if state is not None and state.pod is not None and workload.replicas == 0:
            self._publish(State(Phase.ASLEEP, asleep_since=datetime.now(UTC)))
        self._changed.set()

    def on_message(self, message: Message) -> None:
        match message.type:
            case "input":
                self._with.recorder.record(self._uuid, ActivitySource.INPUT, message.ago)
                at = datetime.now(UTC) - timedelta(seconds=message.ago)
                self._moved_at = max(at, self._moved_at or at)  # a page repeats what it may not have been heard to say
                self._withdraw_notice()
            case "wake":
                if not (self._wakes and _runs(self._following)) and self._is_allowed():
                    self._follow(wakes=True)
            case "stay":
                if not _runs(self._staying) and self._is_allowed():
                    self._staying = self._spawn(self._stay(), "stay")
            case _:
                pass

    def _is_allowed(self) -> bool:
        try:
            self._with.rate.take(self._uuid)
        except GatewayError as refusal:
            if time.monotonic() >= self._refused_until:  # not as often as a hostile page asks
                self._refused_until = time.monotonic() + (refusal.retry_after or 1)
                self._send(messages.failed(refusal.title, refusal.detail))
            return False
        return True

    # --- the state ---

    @property
    def _notice(self) -> timedelta:
        """A session that sleeps soon anyway is not warned all the time. Pages save before it, shown or not."""
        return min(max(self._with.notice, SAVE_TIME), self._shortest_idle / 2)

    @property
    def _shortest_idle(self) -> timedelta:
        """From the last input to the sleep, at least."""
        return self._idle_times.lease - self._idle_times.poll + self._idle_times.cooldown

    async def _watch(self) -> None:
        while True:
            self._changed.clear()
            state = await self._read()
            self._publish(state)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._seconds_to_next_read(state)):
                    await self._changed.wait()

    async def _listen(self) -> None:
        """Hear from other replicas that there is news."""
        with self._with.progress.following(self._uuid) as told:
            while True:
                await told.wait()
                told.clear()
                self._changed.set()

    async def _read(self) -> State:
        workload = self._with.cache.workload(self._uuid)
        self._idle_times = workload.idle_times or self._idle_times
        pod = workload.pod.uid if workload.pod is not None and workload.replicas else None
        try:
            session = await self._with.queries.status(self._uuid)
        except SessionNotFound:
            return State(Phase.RELEASED)
        except SessionError:
            return replace(self._state or State(workload.phase(is_wanted=False)), sleeps_at=None)
        self._idle_times = workload.idle_times or session.idle_times
        since = await self._asleep_since() if session.phase is Phase.ASLEEP else None
        interrupted = since is not None and was_interrupted(session.record, since)
        return State(session.phase, pod, self._sleeps_at(session), since, interrupted, session.record.sleep_due)

    def _sleeps_at(self, session: Session) -> datetime | None:
        """Input that is not noted yet counts already: a notice that it withdrew must not come back for a moment."""
        is_pending = self._moved_at is not None and datetime.now(UTC) - self._moved_at < _note_takes()
        if session.sleeps_at is None or self._moved_at is None or not is_pending:
            return session.sleeps_at
        return max(session.sleeps_at, self._moved_at + self._shortest_idle)

    async def _asleep_since(self) -> datetime | None:
        if self._state is not None and self._state.phase == Phase.ASLEEP and self._state.asleep_since is not None:
            return self._state.asleep_since
        with contextlib.suppress(SessionError):
            for entry in await self._with.queries.history(self._uuid):
                if entry.kind is Kind.SLEEP:
                    return entry.at
        return None

    def _seconds_to_next_read(self, state: State) -> float:
        if state.sleeps_at is None:
            return LONGEST_INTERVAL if state.phase in _FELL_ASLEEP else UNKNOWN_INTERVAL
        until_notice = (state.sleeps_at - self._notice - datetime.now(UTC)).total_seconds()
        return NOTICE_INTERVAL if until_notice <= 0 else min(until_notice + 0.01, LONGEST_INTERVAL)

    def _publish(self, state: State) -> None:
        """Tell the tabs, if it is news to them."""
        before, now = self._state, datetime.now(UTC)
        self._state = state
        warned = state.sleeps_at is not None and state.sleeps_at - self._notice <= now
        news = before is None or _shown(before) != _shown(state) or warned != self._warned
        moved = warned and before is not None and not _same_time(before.sleeps_at, state.sleeps_at)
        self._warned = warned
        if state.phase in _FELL_ASLEEP or (before is not None and before.pod not in (None, state.pod)):
            self._slept = True
        if news or moved:
            self._send(state.message(now))
        due = state.sleep_due
        if due is not None and due > now and (before is None or before.sleep_due != due):
            self._send(messages.save((due - now).total_seconds()))
        if self._slept and state.phase not in _FELL_ASLEEP and state.phase != Phase.FAILED:
            self._follow(wakes=False)

    def _withdraw_notice(self) -> None:
        """Somebody has moved: take the notice from every tab now, and see later when the session sleeps instead."""
        if not self._warned or self._state is None:
            return
        self._warned = False
        self._state = replace(self._state, sleeps_at=None)
        self._send(self._state.message(datetime.now(UTC)))

    def _send(self, message: str) -> None:
        for tab in self._tabs:
            tab.send(message)

    # --- waking, staying awake ---

    def _follow(self, *, wakes: bool) -> None:
        if self._following is not None and not self._following.done():
            if self._wakes or not wakes:
                return
            self._following.cancel()
        self._wakes = wakes
        self._following = self._spawn(self._follow_wake(wakes=wakes), "wake")

    async def _follow_wake(self, *, wakes: bool) -> None:
        """Tell the tabs how a wake gets on, and when its pod responds."""
        try:
            with self._with.waiter.place(self._uuid):
                if wakes:
                    await self._with.waiter.wake(self._uuid)
                deadline = time.monotonic() + WAKE_TIMEOUT
                async with self._with.waiter.waiting_for(self._uuid, deadline, wakes=wakes, keeps_awake=wakes) as pod:
                    await self._tell_progress(pod)
                    await pod
        except GatewayError as error:
            if error.outcome is not RequestOutcome.ASLEEP:  # the state says so by itself
                self._send(messages.failed(error.title, error.detail))
        except SessionError as error:
            refusal = of_session_error(error)
            self._send(messages.failed(refusal.title, refusal.detail))
        else:
            self._slept = False
            self._send(messages.ready())
            self._changed.set()

    async def _tell_progress(self, pod: "asyncio.Task[Any]") -> None:
        last_id: str | None = None
        told: Delay | None = None
        with self._with.progress.following(self._uuid) as changed:
            while not pod.done():
                changed.clear()
                last_id = await self._tell_stages(last_id)
                delay = self._with.waiter.delay(self._uuid)
                if delay != told:
                    self._send(messages.progress("delayed", delay.reason if delay else ""))
                    told = delay
                await _first(pod, changed)

    async def _tell_stages(self, last_id: str | None) -> str | None:
        try:
            events = events_after(await self._with.progress.events(self._uuid), last_id)
        except Unavailable:
            return last_id
        for event in events:
            last_id = event.id
            if event.stage not in (Stage.WARNING, Stage.FAILED, Stage.ASLEEP):
                self._send(messages.progress(event.stage, None))
        return last_id

    async def _stay(self) -> None:
        try:
            with self._with.audit.entering("extend", self._uuid):
                until = await self._with.activity.extend(self._uuid, self._with.stay)
        except SessionError as error:
            log.info("cannot keep the session awake: %s", error, extra={"uuid": self._uuid})
            refusal = of_session_error(error)
            self._send(messages.failed(refusal.title, refusal.detail))
            return
        self._withdraw_notice()
        self._send(messages.stayed(until))
        self._changed.set()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(_logged(work, self._uuid), name=f"companion of {self._uuid}: {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _note_takes() -> timedelta:
    """How long after input it is noted at the latest, if Redis works."""
    return timedelta(seconds=notes.INTERVAL + 1)


def _runs(task: "asyncio.Task[None] | None") -> bool:
    return task is not None and not task.done()


def _shown(state: State) -> tuple[str, str | None, bool]:
    """What a tab has to hear of at once."""
    return state.phase, state.pod, state.interrupted


def _same_time(one: datetime | None, other: datetime | None) -> bool:
    return one is other or (one is not None and other is not None and abs(one - other) < _STEP)


async def _first(pod: "asyncio.Task[Any]", changed: asyncio.Event) -> None:
    """Wait for either, or for a moment."""
    change = asyncio.create_task(changed.wait(), name="progress of a wake")
    try:
        await asyncio.wait((pod, change), timeout=_CHECK_INTERVAL, return_when=asyncio.FIRST_COMPLETED)
    finally:
        change.cancel()


async def _logged(work: Coroutine[Any, Any, None], uuid: SessionId) -> None:
    try:
        await work
    except Exception:
        log.exception("the companion's pages hear nothing", extra={"uuid": uuid})
