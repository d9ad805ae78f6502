"""The smallest frontend: it signs users in and leads them into their workspace. Set GATEWAY_HOME_URL to its address.

    SERVICE_URL=http://127.0.0.1:8080 SERVICE_TOKEN=<key> python -m examples.home     # on http://127.0.0.1:8000/

The gateway sends every browser without access here, with `return_to`: the workspace's URL that it asked for. Replace
`sign_in` before you use it: here everybody is who they say they are. Set HOME_HTTPS=1 where browsers reach it by https.
"""

import os
import secrets
from urllib.parse import urlsplit

from aiohttp import ClientSession, web

USERS: dict[str, str] = {}
"""Sign-in cookie -> user. In memory: a restart signs everybody out."""
SERVICE = web.AppKey("service", ClientSession)
COOKIE = web.AppKey("cookie", str)
"""The name of the sign-in cookie.

With `__Host-`, browsers take it from this very host only. Otherwise a page of a workspace on the same domain could set
it, and so sign its visitor in as somebody else. But browsers refuse such a cookie by http. A proxy that ends TLS may
hide from `request` which one it is, so the operator says it.
"""
FORM = """<!doctype html><html lang="en"><title>Sign in</title>
<form method="post"><label>E-mail <input name="user" type="email" required></label><button>Sign in</button></form>"""


async def home(request: web.Request) -> web.Response:
    """Lead a signed-in user into their own workspace, to the page in `return_to` if that is one of its pages."""
    user = USERS.get(request.cookies.get(request.app[COOKIE], ""))
    if user is None:
        return web.Response(text=FORM, content_type="text/html")
    service = request.app[SERVICE]
    async with service.post("/session/create", json={"user_id": user}) as answer:
        uuid = (await answer.json())["uuid"]
    try:
        asked = urlsplit(request.query.get("return_to", ""))
    except ValueError:
        asked = urlsplit("")  # it is no URL
    own = (asked.hostname or "").startswith(f"vs-code-{uuid}.")  # the ticket opens no other workspace in any case
    to = "/" + asked._replace(scheme="", netloc="").geturl().lstrip("/") if own else "/"
    async with service.post(f"/session/{uuid}/open", params={"to": to}) as answer:
        raise web.HTTPSeeOther((await answer.json())["url"])


async def sign_in(request: web.Request) -> web.Response:
    """Here your identity provider comes in: whatever it vouches for is the `user_id`."""
    if request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        raise web.HTTPForbidden  # a page of a workspace must not sign its user in as somebody else
    cookie = secrets.token_urlsafe()
    USERS[cookie] = str((await request.post())["user"])
    found = web.HTTPSeeOther(str(request.rel_url))
    name = request.app[COOKIE]
    found.set_cookie(name, cookie, httponly=True, samesite="Lax", secure=name.startswith("__Host-"))
    raise found


def make_app(service: ClientSession, *, https: bool = False) -> web.Application:
    app = web.Application()
    app[SERVICE] = service
    app[COOKIE] = "__Host-home" if https else "home"
    app.add_routes([web.get("/", home), web.post("/", sign_in)])
    return app


async def main() -> web.Application:
    key = {"Authorization": f"Bearer {os.environ.get('SERVICE_TOKEN', '')}"}
    url = os.environ.get("SERVICE_URL", "http://127.0.0.1:8080")
    service = ClientSession(url, headers=key, raise_for_status=True)
    return make_app(service, https=os.environ.get("HOME_HTTPS") == "1")


if __name__ == "__main__":
    web.run_app(main(), host="127.0.0.1", port=8000)
