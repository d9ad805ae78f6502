"""The frontend of examples/, in front of the web layer with a key."""

from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from aiohttp import DummyCookieJar, web
from aiohttp.test_utils import TestClient, TestServer

from examples import frontend
from tests.web.conftest import Serve

KEY = "k" * 16
Browser = TestClient[web.Request, web.Application]


@pytest.fixture
async def browser(serve: Serve) -> AsyncIterator[Browser]:
    service = await serve([KEY])
    async with TestClient(TestServer(frontend.make_app(str(service.make_url("/")), KEY))) as browser:
        yield browser


async def sign_in(browser: Browser) -> None:
    answer = await browser.post("/login", data={"user": "john@example.com"}, allow_redirects=False)
    assert answer.status == 303


async def test_signing_in_leads_back_to_the_workspace(browser: Browser) -> None:
    asked = await browser.get("/workspace", allow_redirects=False)
    assert asked.headers["Location"] == "/login?next=/workspace"
    answer = await browser.post(asked.headers["Location"], data={"user": "john@example.com"}, allow_redirects=False)
    assert answer.headers["Location"] == "/workspace"
    opened = await browser.get("/workspace", allow_redirects=False)
    assert opened.status == 303
    assert opened.headers["Location"].startswith("https://vs-code-")


async def test_the_page_that_the_gateway_was_asked_for_is_where_signing_in_ends(browser: Browser) -> None:
    await sign_in(browser)
    opened = await browser.get("/workspace", allow_redirects=False)
    host = urlsplit(opened.headers["Location"]).netloc
    for asked, to in (
        (f"https://{host}/a?b=c", "/a?b=c"),
        ("https://vs-code-00000000.example.com/a", None),
        ("https://[", None),
    ):
        path = f"/workspace?{urlencode({'return_to': asked})}"
        opened = await browser.get(path, allow_redirects=False)
        link = urlsplit(opened.headers["Location"])
        assert link.netloc == host
        assert parse_qs(link.query)["to"] == [to or "/?folder=/home/coder"]


async def test_signing_in_keeps_the_page_that_was_asked_for(browser: Browser) -> None:
    wanted = "https://vs-code-00000000.example.com/a?b=c&d"
    asked = await browser.get(f"/workspace?{urlencode({'return_to': wanted})}", allow_redirects=False)
    answer = await browser.post(asked.headers["Location"], data={"user": "john@example.com"}, allow_redirects=False)
    assert parse_qs(urlsplit(answer.headers["Location"]).query)["return_to"] == [wanted]


@pytest.mark.parametrize(("https", "name"), [(True, "__Host-frontend"), (False, "frontend")])
async def test_its_cookie_is_bound_to_its_host_by_https(https: bool, name: str) -> None:
    app = frontend.make_app("http://127.0.0.1:1", https=https)
    async with TestClient(TestServer(app), cookie_jar=DummyCookieJar()) as client:
        async with client.post("/login", data={"user": "ann@example.com"}, allow_redirects=False) as answer:
            cookie = answer.cookies[name]
        assert (bool(cookie["secure"]), cookie["path"], cookie["domain"]) == (https, "/", "")
        other = "frontend" if https else "__Host-frontend"
        async with client.get("/", headers={"Cookie": f"{other}={cookie.value}"}, allow_redirects=False) as answer:
            assert answer.headers["Location"] == "/login?next=/", "another page may have set it"


async def test_a_sign_in_does_not_redirect_to_another_host(browser: Browser) -> None:
    answer = await browser.post("/login?next=https://evil.example", data={"user": "x"}, allow_redirects=False)
    assert answer.headers["Location"] == "/"


async def test_the_page_shows_status_and_events_without_a_key(browser: Browser) -> None:
    await sign_in(browser)
    assert "Open my workspace" in await (await browser.get("/")).text()
    assert (await (await browser.get("/status")).json())["phase"] == "asleep"
    events = await browser.get("/events")
    assert events.content_type == "text/event-stream"
    assert "asleep" in await events.text()


async def test_a_message_by_the_user_wakes_the_session(browser: Browser) -> None:
    await sign_in(browser)
    assert (await (await browser.post("/active")).json())["action"] == "wake"
    assert (await (await browser.get("/status")).json())["phase"] == "waking"


async def test_a_workspace_page_cannot_post_in_its_users_name(browser: Browser) -> None:
    await sign_in(browser)
    assert (await browser.post("/active", headers={"Sec-Fetch-Site": "same-site"})).status == 403
    assert (await (await browser.get("/status")).json())["phase"] == "asleep"


async def test_a_refusal_by_the_service_reaches_the_user_as_a_sentence(browser: Browser) -> None:
    await browser.post("/login", data={"user": "with blanks in it"}, allow_redirects=False)
    answer = await browser.get("/workspace", allow_redirects=False)
    assert answer.status == 502
    assert await answer.text() == "the body is invalid; see `errors`"
