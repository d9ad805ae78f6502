"""No wake is lost and no session stays awake, in any order of events: hypothesis chooses it, over the fakes.

Covered: wakes through the service and pushes by hand, with and without an expiry; KEDA's polls and late writes; time;
an operator's pauses; pods that get ready early, late or never; parks, unparks and scales of any duration; crashes of
the leader and of the replica that accepted the wake, before and after every call. Not covered: the real parts
(tests/stack/test_hammer.py).
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from service.domain.phase import Phase
from tests.controller.simulation import IDLE_TIMES, UUID, Clock, Keda, Process, asleep, record
from tests.fakes import MemoryCluster, MemoryQueues

POLL, LEASE, COOLDOWN = (part.total_seconds() for part in (IDLE_TIMES.poll, IDLE_TIMES.lease, IDLE_TIMES.cooldown))


class Orders(RuleBasedStateMachine):
    @initialize(parked=st.booleans())
    def begin(self, parked: bool) -> None:
        self.loop = asyncio.new_event_loop()
        self.clock = Clock()
        self.cluster = MemoryCluster()
        self.queues = MemoryQueues(clock=self.clock, index_is_complete=True)
        self.queues.sessions[UUID] = record()
        self.cluster.change(asleep(parked=parked))
        self.keda = Keda(self.cluster, self.queues, self.clock, polling=not parked)
        self.woken_at: datetime | None = None
        self._run(self._start())

    async def _start(self) -> None:
        self.leader = Process(self.cluster, self.queues, self.clock, leading=True)
        self.replica = Process(self.cluster, self.queues, self.clock, leading=False)

    # --- events, in any order ---

    @rule()
    def wake(self) -> None:
        self.woken_at = self.clock()

        async def act() -> None:
            await self.queues.wake(UUID, IDLE_TIMES.lease)
            self.replica.reconciler.on_wake(UUID)

        self._run(act())

    @rule(expiry=st.sampled_from([None, 12.0]))
    def push_by_hand(self, expiry: float | None) -> None:
        self.queues.push_by_hand(UUID, None if expiry is None else self.clock() + IDLE_TIMES.lease)
        self.leader.reconciler.enqueue(UUID)  # as notified; a resync makes up for a lost notification
        self._run()

    @rule(seconds=st.sampled_from([0.3, 1.0, 4.0, 9.0]))
    def pass_time(self, seconds: float) -> None:
        self.clock.pass_(seconds)
        self._run()

    @rule(minutes=st.sampled_from([-30, -1, 0, 1, 30]))
    def the_leaders_clock_jumps(self, minutes: int) -> None:
        self.leader.ahead = timedelta(minutes=minutes)

    @rule()
    def keda_reconciles(self) -> None:
        self.keda.reconcile()

    @rule()
    def keda_polls(self) -> None:
        self.keda.poll()

    @precondition(lambda self: self.keda.seen is not None)
    @rule()
    def keda_scales(self) -> None:
        self.keda.scale()
        self._run()

    @precondition(lambda self: self.cluster.workload(UUID).replicas)
    @rule()
    def the_pod_gets_ready(self) -> None:
        self._change_pod(ready=1, failure=None)

    @precondition(lambda self: self.cluster.workload(UUID).replicas)
    @rule(final=st.booleans())
    def the_pod_fails(self, final: bool) -> None:
        self._change_pod(ready=0, failure="InvalidImageName" if final else "CrashLoopBackOff", final=final)

    @rule(paused=st.booleans())
    def an_operator_pauses_or_ends_the_pause(self, paused: bool) -> None:
        # A park under way may still come: it leaves the operator's annotation as it is.
        words = "an operator has paused the session" if paused else None
        self.cluster.change(replace(self.cluster.workload(UUID), paused=words))
        self._run()

    @precondition(lambda self: self.leader.gates.waiting)
    @rule(index=st.integers(0, 5))
    def the_leader_proceeds(self, index: int) -> None:
        self.leader.gates.let(index)
        self._run()

    @precondition(lambda self: self.replica.gates.waiting)
    @rule(index=st.integers(0, 5))
    def the_replica_proceeds(self, index: int) -> None:
        self.replica.gates.let(index)
        self._run()

    @rule()
    def the_leader_crashes(self) -> None:
        self._run(self._new_leader())

    async def _new_leader(self) -> None:
        await self.leader.crash()
        self.leader = Process(self.cluster, self.queues, self.clock, leading=True)
        self.leader.reconciler.enqueue(UUID)  # a new leader resyncs

    @rule()
    def the_replica_crashes(self) -> None:
        async def act() -> None:
            await self.replica.crash()
            self.replica = Process(self.cluster, self.queues, self.clock, leading=False)

        self._run(act())

    @rule()
    def the_leader_reconciles_pending_wakes(self) -> None:
        self.leader.reconciler.enqueue(UUID)
        self._run()

    # --- invariants ---

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            self._drain()
            if self.cluster.workload(UUID).paused:
                self._is_left_alone_until_the_pause_ends()
            if self._a_wake_is_not_seen():
                assert self.queues.queue(UUID).is_wanted, "a wake that KEDA has not seen is not pending any more"
            if self.queues.queue(UUID).pending_since is not None:
                self._is_given_all_the_time_it_takes()
            if self.queues.queue(UUID).is_wanted:
                self._stays_awake_for_lease_and_cooldown()
            self._falls_asleep_and_is_parked()
        finally:
            self._run(self._end())
            self.loop.close()

    def _a_wake_is_not_seen(self) -> bool:
        """Whether KEDA may not have seen the last wake, going by its own time."""
        last = self.cluster.workload(UUID).last_active
        return self.woken_at is not None and (last is None or last <= self.woken_at)

    def _drain(self) -> None:
        """Let all calls finish, and let KEDA act on its last poll, which includes a late 0."""
        for process in (self.leader, self.replica):
            process.gates.let_all()
        self._run()
        if self.keda.seen is not None:
            self.keda.scale()
        self.leader.reconciler.enqueue(UUID)
        self._run()

    def _is_left_alone_until_the_pause_ends(self) -> None:
        paused, wanted = self.cluster.workload(UUID), self.queues.queue(UUID).pending_since
        for _ in range(int((LEASE + COOLDOWN) / POLL)):
            self._keda_runs()
            self.clock.pass_(POLL)
            self.leader.reconciler.enqueue(UUID)
            self.replica.reconciler.enqueue(UUID)
            self._run()
        assert self.cluster.workload(UUID) == paused, "a step was carried out during an operator's pause"
        assert self.queues.queue(UUID).pending_since == wanted, "a wake was settled during a pause"
        self.an_operator_pauses_or_ends_the_pause(paused=False)

    def _is_given_all_the_time_it_takes(self) -> None:
        """While a pod is starting, which an image or retries may prolong beyond any cooldown."""
        workload = self.cluster.workload(UUID)
        phase = workload.phase(is_wanted=True)
        # A retried failure keeps the wake pending for ten minutes; a clock half an hour ahead settles it at once.
        is_retried = phase is Phase.FAILED and not workload.final and self.leader.ahead < timedelta(minutes=10)
        if phase is Phase.WAKING or is_retried:
            for _ in range(int(2 * (LEASE + COOLDOWN) / POLL)):
                self._keda_runs()
                assert self.cluster.workload(UUID).replicas == 1, "a pod was ended before it was ready"
                self.clock.pass_(POLL)
                self.leader.reconciler.enqueue(UUID)
                self._run()
            self._change_pod(ready=1, failure=None)
            assert self.queues.queue(UUID).is_wanted, "a wake was settled before its pod was ready"

    def _stays_awake_for_lease_and_cooldown(self) -> None:
        assert self.cluster.workload(UUID).replicas == 1, "a wake was lost"
        assert not self.cluster.workload(UUID).parked, "an awake pod is parked"
        passed = 0.0
        while passed < COOLDOWN - POLL:
            self._keda_runs()
            assert self.cluster.workload(UUID).replicas == 1, f"asleep after {passed} s, although just woken"
            self.clock.pass_(POLL)
            passed += POLL
            self.leader.reconciler.enqueue(UUID)
            self._run()

    def _falls_asleep_and_is_parked(self) -> None:
        for _ in range(int((2 * LEASE + COOLDOWN) / POLL) + 4):
            self._keda_runs()
            if (
                self.cluster.workload(UUID).phase(is_wanted=True) is Phase.WAKING
                and self.cluster.workload(UUID).replicas
            ):
                # A late 0 ended the pod, and the service has started another one.
                self._change_pod(ready=1, failure=None)
            self.clock.pass_(POLL)
            self.leader.reconciler.enqueue(UUID)
            self._run()
        workload = self.cluster.workload(UUID)
        assert (workload.replicas, workload.parked) == (0, True), "a session stays awake that nobody wants"

    def _keda_runs(self) -> None:
        self.keda.reconcile()
        self.keda.poll()
        self.keda.scale()
        self._run()

    def _change_pod(self, *, ready: int, failure: str | None, final: bool = False) -> None:
        self.cluster.change(replace(self.cluster.workload(UUID), ready=ready, failure=failure, final=final))
        self._run()

    async def _end(self) -> None:
        await self.leader.crash()
        await self.replica.crash()

    def _run(self, work: Awaitable[Any] | None = None) -> None:
        """Run the loop until every task waits for the test."""

        async def spin() -> None:
            if work is not None:
                await work
            for _ in range(30):
                await asyncio.sleep(0)

        self.loop.run_until_complete(spin())


TestOrders = Orders.TestCase
TestOrders.settings = settings(max_examples=400, stateful_step_count=40, deadline=None, derandomize=True)
