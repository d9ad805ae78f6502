"""`user-pods-keep-awake` in a workspace: a program in a pod keeps its own pod awake, without a credential.

The pod is recognised by the address of the connection, which has to be that of exactly one session's pod; headers that
name other addresses are not read. The program also says which session it takes itself for, so that an address that
means another pod by now is refused (docs/decisions/0031-keep-awake.md).
"""

import asyncio
import logging
import re
from datetime import UTC, timedelta
from urllib.parse import parse_qs

from aiohttp import hdrs, web

from service.domain.activity import SessionActivity
from service.domain.errors import SessionError
from service.domain.names import SessionId
from service.domain.ports import WorkloadCache
from service.edge import addresses
from service.gateway.action_audit import IN_THE_POD, ActionAudit
from service.gateway.action_rate import ActionRate
from service.gateway.errors import OWN_HEADERS, GatewayError, of_session_error
from service.gateway.proxy.headers import OWN_PATHS

log = logging.getLogger(__name__)

KEEP_AWAKE = f"{OWN_PATHS}keep-awake"
_DURATION = re.compile(r"([0-9]{1,6})(s|m|h)")
_UNITS = {"s": 1, "m": 60, "h": 3600}
_OFF = "off"
_BODY_LIMIT = 200
_BODY_TIMEOUT = 5.0


class _Refused(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class KeepAwake:
    """Answers in plain text, for a shell script: until when the pod stays awake, or a sentence that says why not."""

    def __init__(self, activity: SessionActivity, cache: WorkloadCache, rate: ActionRate, audit: ActionAudit) -> None:
        self._activity = activity
        self._cache = cache
        self._rate = rate
        self._audit = audit

    async def respond(self, request: web.BaseRequest) -> web.Response:
        """The request is to a host that is no workspace's. Never raises."""
        try:
            return _text(200, await self._keep_awake(request))
        except _Refused as refused:
            return _text(refused.status, str(refused))
        except GatewayError as error:
            response = _text(error.status, f"{error.title}. {error.detail}")
            response.headers[hdrs.RETRY_AFTER] = str(error.retry_after)
            return response
        except SessionError as error:
            refusal = of_session_error(error)
            return _text(refusal.status, refusal.detail)

    async def _keep_awake(self, request: web.BaseRequest) -> str:
        if request.method != "POST":
            raise _Refused(405, "Use POST.")
        uuid = self._session(request)
        claimed, duration = await _form(request)
        if claimed != uuid:
            raise _Refused(403, "This address belongs to another workspace now. Try again in a few seconds.")
        self._rate.take(uuid)
        if duration == _OFF:
            with self._audit.entering("end_extension", uuid, IN_THE_POD):
                await self._activity.end_extension(uuid)
            log.info("a program in the pod no longer keeps it awake", extra={"uuid": uuid})
            return _OFF
        by = _parse(duration)
        with self._audit.entering("extend", uuid, IN_THE_POD):
            until = await self._activity.extend(uuid, by)
        log.info("a program in the pod keeps it awake", extra={"uuid": uuid, "until": until.isoformat()})
        return until.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _session(self, request: web.BaseRequest) -> SessionId:
        """The session whose pod the connection comes from."""
        peer = request.transport.get_extra_info("peername") if request.transport is not None else None
        address = addresses.parse(str(peer[0])) if isinstance(peer, tuple) else None
        uuid = self._cache.session_at(str(address)) if address is not None else None
        if uuid is None:
            raise _Refused(
                403,
                "Only a workspace's own pod can be kept awake from here, and this request does not come from the"
                " address of one. The cluster's network may hide it; ask your operator.",
            )
        return uuid


async def _form(request: web.BaseRequest) -> tuple[str, str]:
    """The members `uuid` and `for` of a short form."""
    if (request.content_length or _BODY_LIMIT + 1) > _BODY_LIMIT:
        raise _Refused(413, "Send a short form with its length: uuid and for.")
    try:
        async with asyncio.timeout(_BODY_TIMEOUT):
            form = parse_qs((await request.read()).decode("ascii", "replace"), max_num_fields=4)
    except (TimeoutError, ValueError):
        raise _Refused(400, "Send a short form: uuid and for.") from None
    return form.get("uuid", [""])[0], form.get("for", [""])[0]


def _parse(duration: str) -> timedelta:
    found = _DURATION.fullmatch(duration)
    by = timedelta(seconds=int(found[1]) * _UNITS[found[2]]) if found else timedelta(0)
    if by <= timedelta(0):
        raise _Refused(422, "Give a time such as 30m or 2h, or off.")
    return by


def _text(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n", headers=OWN_HEADERS)
