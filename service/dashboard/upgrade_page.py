"""How the upgrade of all sessions stands, and the forms that start it, continue it and stop it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from aiohttp import web

from service.domain.names import SessionId
from service.domain.ports import WorkloadCache
from service.domain.rollout import RolloutOptions, RolloutState, Standing
from service.domain.rollouts import RolloutStatus
from service.web.access import caller
from service.web.keys import ApiParts
from service.web.problems import RequestRefused

_HOURS = 90
"""Minutes from which on hours are shown."""
_SHOWN = 20
"""Sessions that are named."""
_MOST = {"canary": 1000, "max_parallel": 64, "max_failures": 1000}
_LEAST = {"canary": 0, "max_parallel": 1, "max_failures": 1}
"""As in the API."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something that can be done to the upgrade of all sessions. `operation` is that of the API."""

    name: str
    operation: str
    label: str
    question: str
    effect: str
    done: str


STEPS: Mapping[str, Step] = {
    each.name: each
    for each in (
        Step(
            name="start", operation="start_upgrade", label="Upgrade", question="Upgrade all sessions?",
            effect="Sessions that sleep are upgraded now, and stay asleep. Those that are awake follow when they sleep,"
            " so nobody who works is interrupted.",
            done="The upgrade is under way. It goes on without this page.",
        ),
        Step(
            name="continue", operation="continue_upgrade", label="Continue", question="Continue with all sessions?",
            effect="The rest is upgraded, although not all of the sessions that went first have become ready.",
            done="The rest is being upgraded.",
        ),
        Step(
            name="stop", operation="stop_upgrade", label="Stop", question="Stop the upgrade?",
            effect="No further session is upgraded. Those in progress are finished, and those that are done keep what"
            " they have got. You can start it again, and it does only what is left.",
            done="The upgrade is stopped.",
        ),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Waiting:
    """A session that gets the upgrade when its user is gone."""

    uuid: SessionId
    user_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradePage:
    """`waiting`: the first of those that are awake and out of date."""

    status: RolloutStatus
    waiting: Sequence[Waiting]
    steps: Sequence[Step]

    @property
    def active(self) -> bool:
        return self.status.rollout is not None and self.status.rollout.active

    @property
    def left(self) -> str:
        """About how long those that are asleep will take, in words; empty while that is unknown."""
        left = self.status.time_left
        if left is None:
            return ""
        minutes = round(left / timedelta(minutes=1))
        if minutes < 2:
            return "a minute"
        return f"{minutes} min" if minutes < _HOURS else f"{round(left / timedelta(hours=1))} h"

    @property
    def elsewhere(self) -> bool:
        """Whether the upgrade installs another revision than this process would: they are of different versions."""
        rollout = self.status.rollout
        return self.active and rollout is not None and rollout.target != self.status.target


async def read(parts: ApiParts, cache: WorkloadCache) -> UpgradePage:
    """Raises RedisUnavailable."""
    status = await parts.rollouts.status()
    awake = [
        Waiting(workload.uuid, workload.user_id or "")
        for workload in map(cache.workload, cache.uuids())
        if workload.replicas and parts.upgrades.standing(workload) is Standing.AWAKE
    ]
    waiting = sorted(awake, key=lambda each: each.user_id)[:_SHOWN]
    page = UpgradePage(status=status, waiting=waiting, steps=())
    return UpgradePage(status=status, waiting=waiting, steps=_offered(page))


def _offered(page: UpgradePage) -> Sequence[Step]:
    """What makes sense now."""
    if not page.active:
        return [STEPS["start"]] if page.status.counts.outdated else []
    rollout = page.status.rollout
    waits = rollout is not None and rollout.state is RolloutState.WAITING_FOR_CANARY
    return [STEPS["continue"], STEPS["stop"]] if waits else [STEPS["stop"]]


async def perform(parts: ApiParts, request: web.Request, step: Step, form: Mapping[str, str]) -> None:
    """Raises RequestRefused for a form that does not fit, and as RolloutControl does."""
    match step.name:
        case "start":
            await parts.rollouts.start(_options(form), by=caller(request).name)
        case "continue":
            await parts.rollouts.continue_()
        case _:
            await parts.rollouts.stop()


def _options(form: Mapping[str, str]) -> RolloutOptions:
    given = {name: _number(name, form[name]) for name in _MOST if name in form}
    return RolloutOptions(only_asleep=form.get("only_asleep") == "yes", **given)


def _number(name: str, given: str) -> int:
    if not (given.isascii() and given.isdigit() and len(given) <= len(str(_MOST[name]))):
        raise RequestRefused("does-not-fit", f"{name} must be a number")
    if not _LEAST[name] <= int(given) <= _MOST[name]:
        raise RequestRefused("does-not-fit", f"{name} must be from {_LEAST[name]} to {_MOST[name]}")
    return int(given)
