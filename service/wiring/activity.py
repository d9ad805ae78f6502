"""Wakes: the use cases that accept them, and the tracker that follows them."""

from collections.abc import Mapping, Sequence
from functools import partial

from service.controller.journal_writer import JournalWriter
from service.controller.progress_writer import ProgressWriter
from service.controller.wake_timer import WakeTimer
from service.controller.wake_tracker import WakeTracker
from service.domain.activity import SessionActivity
from service.domain.awake_quota import AwakeQuota
from service.domain.observers import WakeObserver
from service.domain.supervisor import Work
from service.wiring.core import Core
from service.wiring.kubernetes import when_synced


def build_tracking(core: Core) -> tuple[WakeTracker, Mapping[str, Work]]:
    """The tracker, and the tasks of it and its parts, by name."""
    cache, redis = core.kubernetes.cache, core.redis
    progress = ProgressWriter(progress=redis.progress, queues=redis.queues, cache=cache)
    transitions = JournalWriter(
        store=redis.store,
        history=redis.history,
        metrics=core.metrics,
        journal=core.journal,
        idle_times=core.config.idle_times,
        leadership=core.leadership,
    )
    tracker = WakeTracker(
        cache=cache,
        pod_events=core.kubernetes.pod_events,
        leadership=core.leadership,
        timer=WakeTimer(core.metrics, core.wake_times),
        progress=progress,
        transitions=transitions,
    )
    return tracker, {
        "wake tracker": partial(when_synced, cache, tracker.run),
        "progress writer": partial(when_synced, cache, progress.run),
        "journal writer": transitions.run,
        "wake times": core.wake_times.run,
    }


def build_activity(core: Core, observers: Sequence[WakeObserver]) -> SessionActivity:
    return SessionActivity(
        queries=core.queries,
        queues=core.redis.queues,
        progress=core.redis.progress,
        cluster=core.kubernetes.cluster,
        cache=core.kubernetes.cache,
        companions=core.redis.companions,
        limits=core.config.limits,
        observers=observers,
        journal=core.journal,
        quota=AwakeQuota(core.kubernetes.cache, limits=limits) if (limits := core.config.limits_on_awake) else None,
    )
