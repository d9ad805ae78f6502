"""What can be done to a session: each action has a page that confirms it, and a form that carries it out."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from aiohttp import web

from service.domain.errors import GatewayOff
from service.domain.names import SessionId
from service.domain.phase import Phase
from service.domain.request_context import current_request_id
from service.domain.session import Session
from service.web.access import caller
from service.web.caller import USER, WOKE
from service.web.keys import ApiParts
from service.web.problems import RequestRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """`name` is that of the API's operation. `effect` says what it means, `done` that it was done."""

    name: str
    label: str
    question: str
    effect: str
    done: str
    awake_only: bool = False
    asleep_only: bool = False
    warned_only: bool = False
    """Only while its user is warned of a deletion by the service."""
    grave: bool = False
    """Something is lost for good, or somebody is thrown out."""


ACTIONS: Mapping[str, Action] = {
    each.name: each
    for each in (
        Action(
            name="wake", label="Wake", question="Wake this session?", asleep_only=True,
            effect="Its pod is started. It goes to sleep again when nobody uses it.",
            done="The wake was accepted. The state follows by itself.",
        ),
        Action(
            name="open", label="Open", question="Open this workspace?",
            effect="This browser is signed in to the workspace, as its user. A sleeping one wakes up.",
            done="",
        ),
        Action(
            name="extend", label="Keep awake", question="Keep this session awake?", awake_only=True,
            effect="It does not go to sleep before that time, whether somebody uses it or not.",
            done="It stays awake for that time.",
        ),
        Action(
            name="keep", label="Keep", question="Keep this session?", warned_only=True,
            effect="The service does not delete it for now, whatever its age and however long it sleeps. It wakes"
            " nothing.",
            done="It is not deleted for now.",
        ),
        Action(
            name="sleep", label="Send to sleep", question="Send this session to sleep?", awake_only=True,
            effect="Its pod is stopped within two seconds, even if somebody is using it. Programs in it end, and what"
            " is not saved by then is lost. Files on its volume stay.",
            done="It was sent to sleep. The state follows by itself.",
        ),
        Action(
            name="restart", label="Restart", question="Restart this session?", awake_only=True,
            effect="Its pod is stopped within two seconds, and another one is started. Programs in it end, and what"
            " is not saved by then is lost. Files on its volume stay.",
            done="The restart was accepted. The state follows by itself.",
        ),
        Action(
            name="revoke", label="Revoke sign-ins", question="Revoke all sign-ins to this workspace?", grave=True,
            effect="Every browser that is signed in to the workspace is thrown out within seconds. First stop whatever"
            " would sign the wrong person in again.",
            done="All sign-ins are being refused.",
        ),
        Action(
            name="delete", label="Delete", question="Delete this session?", grave=True,
            effect="Its pod, release and history are removed at once, even if somebody is using it.",
            done="The session was deleted.",
        ),
    )
}  # fmt: skip
_HOURS = (1, 4, 8)
_GONE = frozenset({Phase.RELEASED, Phase.DELETING})


def offered(session: Session, *, opens: bool) -> tuple[Action, ...]:
    """What makes sense for the session as it is; whether the visitor may do it is for the page. `opens`: there is a
    gateway, so workspaces can be opened.
    """
    phase = session.phase
    if phase is Phase.DELETING:
        return ()
    return tuple(
        action
        for action in ACTIONS.values()
        if (session.awake or not action.awake_only)
        and (phase is Phase.ASLEEP or not action.asleep_only)
        and (session.deletion_warned or not action.warned_only)
        and (phase not in _GONE or action.name == "delete")
        and (opens or action.name != "open")
    )


def hours(longest: timedelta) -> tuple[int, ...]:
    """For how many hours a session may be kept awake, of what the page offers."""
    return tuple(each for each in _HOURS if timedelta(hours=each) <= longest)


async def perform(
    parts: ApiParts, request: web.Request, action: Action, uuid: SessionId, form: Mapping[str, str]
) -> str | None:
    """Do it. Returns the link that opens the workspace, if that is what was asked for.

    Raises RequestRefused for a form that does not fit, and as the operations of the API do.
    """
    by = caller(request).name
    match action.name:
        case "wake":
            request[WOKE] = (await parts.activity.wake(uuid, by=by)).woke
        case "sleep":
            await parts.activity.sleep(uuid, by=by, request=current_request_id())
        case "restart":
            await parts.activity.restart(uuid, by=by, request=current_request_id())
        case "extend":
            await parts.activity.extend(uuid, _duration(form.get("hours", "")))
        case "keep":
            await parts.activity.keep(uuid, parts.activity.longest_sparing)
        case "revoke":
            await parts.revocation.revoke(uuid, by=by)
        case "delete":
            request[USER] = await parts.provisioner.delete(uuid, keep_data=form.get("volume") != "delete")
        case _:
            return await _link(parts, uuid)
    return None


async def _link(parts: ApiParts, uuid: SessionId) -> str:
    if parts.access is None:
        raise GatewayOff
    await parts.queries.check_usable(uuid)
    return (await parts.access.issue_link(uuid)).url


def _duration(given: str) -> timedelta:
    if given not in {str(each) for each in _HOURS}:
        raise RequestRefused("does-not-fit", "choose for how long the session should stay awake")
    return timedelta(hours=int(given))
