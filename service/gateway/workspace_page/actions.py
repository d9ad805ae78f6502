"""What the page's buttons do. Each is a form, so they work without JavaScript."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import parse_qsl

from aiohttp import web

from service.domain.activity import SessionActivity
from service.domain.names import SessionId
from service.domain.request_context import current_request_id
from service.domain.wake_cause import VISIT
from service.gateway.access.home import is_local_path
from service.gateway.action_audit import ActionAudit
from service.gateway.action_rate import ActionRate
from service.gateway.errors import GatewayError

_BODY_LIMIT = 8000
"""Bytes of a form. One that wakes contains a path, in which each byte may take three."""
_BODY_TIMEOUT = 10.0
"""Seconds within which a form must arrive."""
_LONGEST = 366 * 24 * 3600
"""Seconds that fit into a time. What the operator allows is far less."""


class Action(StrEnum):
    STAY = "stay"
    """Keep it awake for `seconds`."""
    KEEP = "keep"
    """Keep it from deletion, for as long as the operator allows."""
    SLEEP = "sleep"
    RESTART = "restart"
    WAKE = "wake"
    """Wake it, and lead to the path `to`."""


_OPERATIONS = {
    Action.STAY: "extend",
    Action.KEEP: "keep",
    Action.SLEEP: "sleep",
    Action.RESTART: "restart",
    Action.WAKE: "wake",
}
"""What the audit calls them: as the API does, where it has them too."""


class Done(NamedTuple):
    action: Action
    to: str
    """The path to lead to, when it is not the page itself."""


class Actions:
    """Does what is asked for, also when the tab that asks closes meanwhile: half a restart would be a sleep."""

    def __init__(self, activity: SessionActivity, rate: ActionRate, audit: ActionAudit) -> None:
        self._activity = activity
        self._rate = rate
        self._audit = audit
        self._tasks: set[asyncio.Task[None]] = set()

    async def perform(self, request: web.BaseRequest, uuid: SessionId) -> Done:
        """Do what the posted form says. Raises GatewayError for another form, or as the action does."""
        form = await _read(request)
        try:
            action = Action(form.get("action", ""))
        except ValueError:
            raise GatewayError(400, "Bad request", "The form names no action of this page.") from None
        self._rate.take(uuid)
        task = asyncio.create_task(self._do(action, uuid, form), name=f"{action} of {uuid}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)
        to = form.get("to", "/")
        return Done(action, to if is_local_path(to) else "/")

    async def close(self) -> None:
        """Finish what has begun."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _do(self, action: Action, uuid: SessionId, form: Mapping[str, str]) -> None:
        seconds = _duration(form.get("seconds", "")) if action is Action.STAY else timedelta(0)
        with self._audit.entering(_OPERATIONS[action], uuid) as entering:
            entering.woke = await self._change(action, uuid, seconds)

    async def _change(self, action: Action, uuid: SessionId, seconds: timedelta) -> bool:
        """Returns whether that has woken a sleeping session."""
        match action:
            case Action.STAY:
                await self._activity.extend(uuid, seconds)
            case Action.KEEP:
                await self._activity.keep(uuid, self._activity.longest_sparing)
            case Action.SLEEP:
                await self._activity.sleep(uuid, by=VISIT, request=current_request_id())
            case Action.RESTART:
                await self._activity.restart(uuid, by=VISIT, request=current_request_id())
            case Action.WAKE:
                return (await self._activity.wake(uuid, by=VISIT)).woke
        return False


async def _read(request: web.BaseRequest) -> Mapping[str, str]:
    if request.content_length is None or request.content_length > _BODY_LIMIT:
        raise GatewayError(413, "Too large", f"A form of this page has a length, of up to {_BODY_LIMIT} bytes.")
    try:
        async with asyncio.timeout(_BODY_TIMEOUT):
            body = await request.read()
    except TimeoutError:
        raise GatewayError(408, "Too slow", "The form stopped arriving.") from None
    return dict(parse_qsl(body.decode("ascii", "replace"), max_num_fields=10))


def _duration(seconds: str) -> timedelta:
    if not (seconds.isascii() and seconds.isdigit() and 0 < int(seconds[:10]) <= _LONGEST and len(seconds) <= 10):
        raise GatewayError(400, "Bad request", "The form's `seconds` must be a whole number above 0.")
    return timedelta(seconds=int(seconds))
