"""`examples/home.py` keeps its users signed in by a cookie that no page of a workspace can set, by https."""

import pytest
from aiohttp import ClientSession, DummyCookieJar
from aiohttp.test_utils import TestClient, TestServer

from examples import home


@pytest.mark.parametrize(("https", "name"), [(True, "__Host-home"), (False, "home")])
async def test_its_cookie_is_bound_to_its_host_by_https_and_works_by_http(https: bool, name: str) -> None:
    async with ClientSession() as service:
        app = home.make_app(service, https=https)
        async with TestClient(TestServer(app), cookie_jar=DummyCookieJar()) as client:
            async with client.post("/", data={"user": "ann@example.com"}, allow_redirects=False) as answer:
                cookie = answer.cookies[name]
            assert (bool(cookie["secure"]), cookie["path"], cookie["domain"], cookie["httponly"]) == (
                https, "/", "", True,
            )  # fmt: skip
            other = "home" if https else "__Host-home"
            async with client.get("/", headers={"Cookie": f"{other}={cookie.value}"}) as answer:
                assert "<form" in await answer.text(), "another page may have set it"
