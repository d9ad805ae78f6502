"""A frontend in one file: sign in, open a workspace, watch it wake, and see when it will sleep.

    SERVICE_URL=http://127.0.0.1:8080 SERVICE_TOKEN=<key> python -m examples.frontend     # on http://127.0.0.1:8000

The browser talks to this server alone. The server holds the service's key and makes every call of the API, so no CORS
is needed and no key reaches a browser. Replace `login` before you use it: here everybody is who they say they are. Set
FRONTEND_HTTPS=1 where browsers reach it by https.
"""

import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlencode, urlsplit

from aiohttp import ClientSession, ClientTimeout, web

SERVICE = web.AppKey("service", ClientSession)
USERS = web.AppKey("users", dict[str, str])
"""Sign-in cookie -> user. In memory: a restart signs everybody out."""
COOKIE = web.AppKey("cookie", str)
"""The name of the sign-in cookie. With `__Host-`, a page of a workspace on the same domain cannot set it."""
_HEADERS = {"Content-Security-Policy": "default-src 'self' 'unsafe-inline'; frame-ancestors 'none'"}

_LOGIN = """<!doctype html><html lang="en"><title>Sign in</title>
<form method="post"><label>E-mail <input name="user" type="email" required></label><button>Sign in</button></form>"""

_HOME = """<!doctype html><html lang="en"><title>Your workspace</title>
<p><a href="/workspace" target="_blank">Open my workspace</a> <button id="stay">I am still here</button></p>
<p>It is <b id="phase">…</b>. <span id="left"></span></p><ul id="events"></ul>
<script>
"use strict";
const by = (id) => document.getElementById(id);
let sleepsAt = null;
async function refresh() {
  const answer = await fetch("/status"), status = await answer.json();
  const skew = Date.now() - new Date(answer.headers.get("Date"));  // how far this computer's clock is ahead
  by("phase").textContent = status.phase;
  sleepsAt = status.sleeps_at && new Date(status.sleeps_at).getTime() + skew;
}
setInterval(refresh, 5000);
setInterval(() => {
  const left = Math.max(0, Math.round((sleepsAt - Date.now()) / 1000));
  by("left").textContent = sleepsAt ? `It sleeps in ${left} s unless you use it.` : "";
}, 1000);
let source;
function follow() {
  source?.close();
  source = new EventSource("/events");
  for (const stage of ["accepted", "scheduled", "pulled", "started", "ready", "warning", "failed", "asleep"])
    source.addEventListener(stage, (event) => {
      const { seconds, reason, final } = JSON.parse(event.data);
      if (final || ["ready", "asleep"].includes(stage)) source.close();  // or the browser would connect again
      by("events").append(Object.assign(document.createElement("li"),
        { textContent: [stage, seconds?.toFixed(2), reason].filter(Boolean).join(" ") }));
      if (stage === "ready") refresh();
    });
}
by("stay").onclick = async () => {
  await fetch("/active", { method: "POST" });
  by("events").replaceChildren();
  follow();
};
refresh(); follow();
</script>"""


async def login(request: web.Request) -> web.Response:
    """Here your identity provider comes in: whatever it vouches for is the `user_id`."""
    if request.method == "GET":
        return web.Response(text=_LOGIN, content_type="text/html", headers=_HEADERS)
    user = str((await request.post()).get("user", ""))
    cookie = secrets.token_urlsafe()
    request.app[USERS][cookie] = user
    target = request.query.get("next", "/")
    own = target in ("/", "/workspace") or target.startswith("/workspace?")
    found = web.HTTPSeeOther(target if own else "/")
    name = request.app[COOKIE]
    found.set_cookie(name, cookie, httponly=True, samesite="Lax", secure=name.startswith("__Host-"))
    raise found


async def home(request: web.Request) -> web.Response:
    await _session(request)
    return web.Response(text=_HOME, content_type="text/html", headers=_HEADERS)


async def workspace(request: web.Request) -> web.Response:
    """The address to bookmark: it creates what is missing, and sends the browser to the workspace, signed in.

    With GATEWAY_HOME_URL, the gateway sends browsers without access here. `return_to` is the URL that they asked for.
    """
    uuid = await _session(request)
    to = _own_path(request.query.get("return_to", ""), uuid) or "/?folder=/home/coder"
    opened = await _call(request, "POST", f"/session/{uuid}/open", params={"to": to})
    raise web.HTTPSeeOther(opened["url"])


async def active(request: web.Request) -> web.Response:
    """Call it on every message of the user: it wakes, and it keeps awake."""
    uuid = await _session(request)
    return web.json_response(await _call(request, "POST", f"/session/{uuid}/wake"))


async def status(request: web.Request) -> web.Response:
    uuid = await _session(request)
    found = await _call(request, "GET", f"/session/{uuid}/status")
    return web.json_response({name: found[name] for name in ("phase", "reason", "sleeps_at", "kept_awake_by")})


async def events(request: web.Request) -> web.StreamResponse:
    """Passes the stream on: an EventSource of a browser cannot send a key."""
    uuid = await _session(request)
    resume = {name: request.headers[name] for name in ("Last-Event-ID",) if name in request.headers}
    stream = request.app[SERVICE].get(f"/session/{uuid}/events", headers=resume, timeout=ClientTimeout(sock_read=60))
    async with stream as source:
        answer = web.StreamResponse(status=source.status, headers={"Cache-Control": "no-store"})
        answer.content_type = source.content_type
        await answer.prepare(request)
        async for chunk in source.content.iter_any():
            await answer.write(chunk)
    return answer


def _own_path(url: str, uuid: str) -> str | None:
    """The path of a page of the user's own workspace; None for any other URL."""
    try:
        asked = urlsplit(url)
    except ValueError:
        return None
    own = (asked.hostname or "").startswith(f"vs-code-{uuid}.")
    return asked._replace(scheme="", netloc="").geturl() if own else None


async def _session(request: web.Request) -> str:
    """The uuid of the user's session, created if need be. Sends whoever is not signed in to do so."""
    user = request.app[USERS].get(request.cookies.get(request.app[COOKIE], ""))
    if user is None:
        raise web.HTTPSeeOther(f"/login?{urlencode({'next': request.path_qs})}")
    created = await _call(request, "POST", "/session/create", json={"user_id": user})
    return str(created["uuid"])


async def _call(request: web.Request, method: str, path: str, **more: Any) -> Any:
    """Call the service. Errors are problem documents; `detail` is a sentence that users may see."""
    async with request.app[SERVICE].request(method, path, **more) as answer:
        document = await answer.json(content_type=None)
        if answer.ok:
            return document
        retry = {name: answer.headers[name] for name in ("Retry-After",) if name in answer.headers}
        kind = web.HTTPServiceUnavailable if answer.status in (429, 503) else web.HTTPBadGateway
        raise kind(text=document["detail"], headers=retry)


@web.middleware
async def own_pages_only(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Workspaces below your domain are the same site to a browser, so SameSite alone keeps their pages from nothing."""
    if request.method == "POST" and request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        raise web.HTTPForbidden
    return await handler(request)


def make_app(service_url: str, key: str = "", *, https: bool = False) -> web.Application:
    async def service(app: web.Application) -> AsyncIterator[None]:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with ClientSession(service_url, headers=headers, timeout=ClientTimeout(total=90)) as session:
            app[SERVICE] = session
            yield

    app = web.Application(middlewares=[own_pages_only])
    app[USERS] = {}
    app[COOKIE] = "__Host-frontend" if https else "frontend"
    app.cleanup_ctx.append(service)
    app.add_routes(
        [
            web.get("/", home),
            web.get("/login", login),
            web.post("/login", login),
            web.get("/workspace", workspace),
            web.post("/active", active),
            web.get("/status", status),
            web.get("/events", events),
        ]
    )
    return app


if __name__ == "__main__":
    url = os.environ.get("SERVICE_URL", "http://127.0.0.1:8080")
    https = os.environ.get("FRONTEND_HTTPS") == "1"
    web.run_app(make_app(url, os.environ.get("SERVICE_TOKEN", ""), https=https), host="127.0.0.1", port=8000)
