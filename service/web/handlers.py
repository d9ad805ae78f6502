"""One function per operation: read the request, call the domain, answer."""

import asyncio
import zlib
from datetime import timedelta
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from service import __version__
from service.domain.audit import AuditFilter
from service.domain.diagnosis.finding import session_of
from service.domain.errors import GatewayOff
from service.domain.names import SessionId, parse_session_id
from service.domain.permissions import CallerRole, group_of_create
from service.domain.request_context import current_request_id
from service.web import access, problems
from service.web.caller import SESSION, USER, WOKE
from service.web.keys import API, BODY_SECONDS, EXPOSITION, PROBES, STREAMS
from service.web.models import (
    Action,
    Activity,
    Alive,
    AuditPage,
    AuditQuery,
    CreatedSession,
    CreateSession,
    DeleteQuery,
    Diagnosis,
    Extension,
    Fix,
    Fixed,
    HealthReport,
    History,
    ListQuery,
    Opened,
    OpenQuery,
    ProfileList,
    Revoked,
    SessionList,
    SleepQuery,
    Spared,
    Sparing,
    Status,
    Summary,
    Upgrade,
    UpgradeAll,
    Upgraded,
    UpgradeQuery,
    WhoAmI,
)

M = TypeVar("M", bound=BaseModel)
_CODINGS = frozenset({"identity", "gzip", "deflate"})
"""Content codings of bodies. Others would need more libraries."""


async def create(request: web.Request) -> web.Response:
    body = await _body(request, CreateSession)
    access.user(request, body.user_id)
    caller = access.caller(request)
    group = group_of_create(caller, body.group)
    request.app[API].profiles.check_choice(body.profile, caller.role)
    created = await request.app[API].provisioner.create(
        body.user_id, body.idle.requested(), profile=body.profile, group=group
    )
    request[SESSION], request[USER] = created.uuid, body.user_id
    warning = _warning_of_group(request, created.assignment.group)
    answer = _json(CreatedSession.of(created, body.user_id, warning), 201 if created.fresh else 200)
    answer.headers["Location"] = f"/session/{created.uuid}/status"
    return answer


def _warning_of_group(request: web.Request, group: str | None) -> str | None:
    """For whoever names groups. Which ones have a limit is for operators alone."""
    limits, caller = request.app[API].awake_limits, access.caller(request)
    if caller.user_id is not None or not limits.overlooks(group):
        return None
    known = f"; those with one are {', '.join(limits.groups)}" if caller.role is CallerRole.OPERATOR else ""
    return f"the group {group} has no limit of its own{known}"


async def wake(request: web.Request) -> web.Response:
    uuid = _uuid(request)
    length, request[WOKE] = await request.app[API].activity.wake(uuid, by=access.caller(request).name)
    return _json(Action(uuid=uuid, action="wake", queue_length=length), 202)


async def sleep(request: web.Request) -> web.Response:
    uuid, query = _uuid(request), _query(request, SleepQuery)
    by = access.caller(request).name
    await request.app[API].activity.sleep(uuid, by=by, request=current_request_id(), now=query.now)
    return _json(Action(uuid=uuid, action="sleep"), 202)


async def activity(request: web.Request) -> web.Response:
    uuid, body = _uuid(request), await _body(request, Activity)
    await request.app[API].activity.heartbeat(uuid, body.source)
    return _json(Action(uuid=uuid, action="activity"), 202)


async def extend(request: web.Request) -> web.Response:
    uuid, body = _uuid(request), await _body(request, Extension)
    activity, until = request.app[API].activity, None
    if body.seconds:
        until = await activity.extend(uuid, timedelta(seconds=body.seconds))
    else:
        await activity.end_extension(uuid)
    return _json(Action(uuid=uuid, action="extend", kept_until=until), 202)


async def keep(request: web.Request) -> web.Response:
    uuid, body = _uuid(request), await _body(request, Sparing)
    until = await request.app[API].activity.keep(uuid, timedelta(seconds=body.seconds))
    return _json(Spared(uuid=uuid, action="keep", spared_until=until), 202)


async def open_(request: web.Request) -> web.Response:
    uuid, query, entry = _uuid(request), _query(request, OpenQuery), request.app[API].access
    if entry is None:
        raise GatewayOff
    await request.app[API].queries.check_usable(uuid)
    link = await entry.issue_link(uuid, query.to)
    answer = _json(Opened(uuid=uuid, url=link.url, expires_at=link.until), 201)
    answer.headers["Cache-Control"] = "no-store"
    return answer


async def revoke(request: web.Request) -> web.Response:
    uuid = _uuid(request)
    at = await request.app[API].revocation.revoke(uuid, by=access.caller(request).name)
    return _json(Revoked(uuid=uuid, action="revoke", revoked_at=at), 202)


async def status(request: web.Request) -> web.Response:
    queries = request.app[API].queries
    session = await queries.status(_uuid(request))
    return _json(Status.of(session, queries.behind(), outdated=request.app[API].upgrades.is_outdated(session.workload)))


async def events(request: web.Request) -> web.StreamResponse:
    return await request.app[STREAMS].respond(request, await request.app[API].queries.status(_uuid(request)))


async def history(request: web.Request) -> web.Response:
    uuid = _uuid(request)
    return _json(History.of(uuid, await request.app[API].queries.history(uuid)))


async def list_sessions(request: web.Request) -> web.Response:
    query = _query(request, ListQuery)
    page = await request.app[API].queries.page(
        cursor=query.cursor,
        limit=query.limit,
        user_id=access.user(request, query.user_id),
        phase=query.phase,
        awake=bool(query.awake),
    )
    return _json(SessionList.of(page, request.app[API].queries.behind(), request.app[API].upgrades.is_outdated))


async def summary(request: web.Request) -> web.Response:
    parts = request.app[API]
    counts, hour = await parts.counter.recent(), (await parts.wake_times.recent()).hour
    return _json(
        Summary.of(
            counts,
            wakes=hour.wakes + hour.unfinished,
            limits=parts.awake_limits,
            capacity=await parts.capacity.read(),
            namespace=parts.users_namespace,
            behind=parts.queries.behind(),
        )
    )


async def delete(request: web.Request) -> web.Response:
    query = _query(request, DeleteQuery)
    request[USER] = await request.app[API].provisioner.delete(_uuid(request), keep_data=query.keep_data)
    return web.Response(status=204)


async def profiles(request: web.Request) -> web.Response:
    known = request.app[API].profiles
    return _json(ProfileList.of(known.choosable(access.caller(request).role), known.default))


async def upgrade(request: web.Request) -> web.Response:
    uuid, query, upgrades = _uuid(request), _query(request, UpgradeQuery), request.app[API].upgrades
    done = await upgrades.upgrade(uuid, by=access.caller(request).name, restart=query.restart)
    return _json(Upgraded(uuid=uuid, action="upgrade", changed=done.changed, revision=done.revision))


async def start_upgrade(request: web.Request) -> web.Response:
    body = await _body(request, UpgradeAll)
    return _json(Upgrade.of(await request.app[API].rollouts.start(body.options(), by=access.caller(request).name)), 202)


async def show_upgrade(request: web.Request) -> web.Response:
    """Cheap enough to be asked every second: see `RolloutControl.status`."""
    return _json(Upgrade.of(await request.app[API].rollouts.status()))


async def continue_upgrade(request: web.Request) -> web.Response:
    return _json(Upgrade.of(await request.app[API].rollouts.continue_()), 202)


async def stop_upgrade(request: web.Request) -> web.Response:
    return _json(Upgrade.of(await request.app[API].rollouts.stop()), 202)


async def health(request: web.Request) -> web.Response:
    verdict = await request.app[PROBES].health.verdict()
    parts = {name: wrong or "ok" for name, wrong in verdict.parts.items()}
    state = "unhealthy" if verdict.failing else "healthy"
    return _json(
        HealthReport(status=state, failing=verdict.failing, parts=parts, remarks=dict(verdict.remarks)),
        503 if verdict.failing else 200,
    )


async def audit(request: web.Request) -> web.Response:
    query = _query(request, AuditQuery)
    page = await request.app[API].audit.page(
        cursor=query.cursor,
        limit=query.limit,
        chosen=AuditFilter(uuid=query.uuid, caller=query.caller, user_id=query.user_id),
    )
    return _json(AuditPage.of(page))


async def diagnosis(request: web.Request) -> web.Response:
    api = request.app[API]
    return _json(Diagnosis.of(await api.doctor.diagnosis(), version=__version__, workspace_url=api.example_url))


async def fix(request: web.Request) -> web.Response:
    body = await _body(request, Fix)
    uuid = session_of(body.check, body.subject)
    if uuid is not None:
        request[SESSION] = uuid
    return _json(Fixed.of(body, await request.app[API].doctor.mend(body.check, body.subject)))


async def whoami(request: web.Request) -> web.Response:
    caller = access.caller(request)
    return _json(
        WhoAmI(
            name=caller.person or caller.name,
            role=caller.role,
            user_id=caller.user_id,
            key_required=caller is not access.LOCAL,
        )
    )


async def metrics(request: web.Request) -> web.Response:
    page, content_type = await request.app[EXPOSITION](request.headers.get("Accept", ""))
    return web.Response(body=page, headers={"Content-Type": content_type})


async def livez(request: web.Request) -> web.Response:
    if dead := request.app[PROBES].supervisor.dead():
        why = f"these parts of the process do not recover: {', '.join(dead)}; restart the process"
        raise problems.RequestRefused("not-alive", why, part=dead[0])
    return _json(Alive())


async def readyz(request: web.Request) -> web.Response:
    if not request.app[PROBES].readiness.is_ready():
        raise problems.RequestRefused("not-ready", "this process is starting or shutting down")
    return _json(Alive())


def _uuid(request: web.Request) -> SessionId:
    return parse_session_id(request.match_info["uuid"])


async def _body(request: web.Request, model: type[M]) -> M:
    if request.content_type != "application/json":
        raise problems.RequestRefused("unsupported-media-type", "send the body as application/json")
    text = await _text(request)
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise problems.of_validation(error, source="body") from error


async def _text(request: web.Request) -> bytes:
    """The body, decompressed."""
    coding = request.headers.get("Content-Encoding", "identity")
    if coding.lower() not in _CODINGS:
        raise problems.RequestRefused("unsupported-media-type", "send the body uncompressed, or with gzip or deflate")
    try:
        async with asyncio.timeout(request.app[BODY_SECONDS]):
            sent = await request.read()
    except TimeoutError:
        raise problems.RequestRefused("request-timeout", "the body took too long to arrive") from None
    except web.RequestPayloadError:
        raise problems.RequestRefused("bad-request", "the body is incomplete or does not match its headers") from None
    except ConnectionError:
        raise problems.RequestRefused("bad-request", "the caller went away") from None
    return sent if coding.lower() == "identity" else _decompress(sent, coding.lower(), request.client_max_size)


def _decompress(sent: bytes, coding: str, most: int) -> bytes:
    """At most `most` bytes. aiohttp would decompress any body without a limit, even for callers without a key."""
    # Some clients send raw deflate (RFC 1951), without the zlib header that HTTP requires.
    bare = coding == "deflate" and sent[:1] and sent[0] & 0x0F != zlib.DEFLATED
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS if bare else zlib.MAX_WBITS | (16 if coding == "gzip" else 0))
    try:
        body = unpacker.decompress(sent, most + 1)
    except zlib.error:
        body = b""
    if len(body) > most:
        raise web.HTTPRequestEntityTooLarge(most, len(body))
    if not unpacker.eof or unpacker.unused_data:
        raise problems.RequestRefused("bad-request", "the body is incomplete or does not match its headers")
    return body


def _query(request: web.Request, model: type[M]) -> M:
    for name in request.query:
        if len(request.query.getall(name)) > 1:
            raise problems.RequestRefused("does-not-fit", "a query parameter is given twice")
    try:
        return model.model_validate(dict(request.query))
    except ValidationError as error:
        raise problems.of_validation(error, source="query") from error


def _json(body: BaseModel, status: int = 200) -> web.Response:
    return web.Response(status=status, text=body.model_dump_json(), content_type="application/json")
