"""Signing in to the dashboard, with an API key or at a provider, and out again."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from service.adapters.oidc.provider import OidcProvider
from service.dashboard import paths
from service.domain.identity import UserRule
from service.domain.people import PersonRule
from service.domain.rate_limits import RateLimits
from tests.dashboard.conftest import FORMER, OPERATOR, VIEWER, Board, Visitor, serving
from tests.domain.conftest import World
from tests.fakes import MemorySharedLevels
from tests.oidc_provider import CLIENT, SECRET, Provider

COOKIE = "user-pods-dashboard"


async def test_whoever_opens_the_dashboard_is_asked_to_sign_in_and_led_back(board: Board) -> None:
    visitor = board.browser()
    answer = await visitor.get("/dashboard?q=ann")
    assert (answer.status, answer.headers["Location"]) == (303, "/dashboard/sign-in?to=/dashboard?q%3Dann")
    page = await visitor.read("/dashboard?q=ann")
    assert 'value="/dashboard?q=ann"' in page
    key = await board.add_key("ops", OPERATOR)
    answer = await visitor.sign_in(key, "/dashboard?q=ann")
    assert answer.status == 303
    answer = await visitor.get(answer.headers["Location"])
    assert (answer.status, answer.headers["Location"]) == (303, "/dashboard?q=ann")
    page = await visitor.read("/dashboard?q=ann")
    assert "ops (operator)" in page
    assert 'value="ann"' in page


async def test_the_cookie_is_for_this_site_alone_and_holds_no_key(
    board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    visitor, key = board.browser(), await board.add_key("ops", OPERATOR)
    with caplog.at_level("DEBUG"):
        answer = await visitor.sign_in(key)
        page = await visitor.read("/dashboard")
    (line,) = answer.headers.getall("Set-Cookie")
    assert line.startswith(f"{COOKIE}=")
    assert line.endswith("; Path=/; Max-Age=28800; HttpOnly; SameSite=Strict")
    secret = key.split("_", 2)[2]
    assert secret not in line + page + answer.headers["Location"] + str([vars(each) for each in caplog.records])
    assert secret not in str(await board.entries(1))


async def test_elsewhere_than_on_this_machine_the_cookie_needs_https(board: Board) -> None:
    visitor, key = board.browser(), await board.add_key("ops", OPERATOR)
    host = {"Host": "sessions.example.com", "Origin": "https://sessions.example.com"}
    answer = await visitor.post("/dashboard/sign-in", {"key": key}, **host)
    (line,) = answer.headers.getall("Set-Cookie")
    assert line.startswith(f"__Host-{COOKIE}=")
    assert line.endswith("; Secure")
    assert (await visitor.get("/dashboard", Host="sessions.example.com")).status == 200
    # What another host of the domain could set counts for nothing.
    visitor.jar = {COOKIE: visitor.jar[f"__Host-{COOKIE}"]}
    assert (await visitor.get("/dashboard", Host="sessions.example.com")).status == 303


@pytest.mark.parametrize("space", ["\u00a0", "\u0085", "\u2000", "\u2028", "\u3000"])
async def test_a_workspace_can_set_no_cookie_that_looks_like_one_of_the_dashboards_own_host(
    board: Board, space: str
) -> None:
    """A browser keeps such a name for any host of the domain: it does not begin with `__Host-`."""
    host, visitor, other = {"Host": "sessions.example.com"}, board.browser(), board.browser()
    for each in (visitor, other):
        key = await board.add_key(f"ops-{id(each)}", OPERATOR)
        await each.post("/dashboard/sign-in", {"key": key}, Origin="https://sessions.example.com", **host)
    ((name, cookie),) = other.jar.items()
    assert (await board.browser().get("/dashboard", Cookie=f"{space}{name}={cookie}", **host)).status == 303
    visitor.jar[f"{space}{name}"] = cookie
    assert (await visitor.get("/dashboard", **host)).status == 200


async def test_behind_a_proxy_on_this_machine_the_cookie_needs_https(board: Board) -> None:
    """It may not pass the browser's host on. Without the prefix, any workspace could set the cookie."""
    visitor, key, proxied = board.browser(), await board.add_key("ops", OPERATOR), {"X-Forwarded-Proto": "https"}
    (line,) = (await visitor.post("/dashboard/sign-in", {"key": key}, **proxied)).headers.getall("Set-Cookie")
    assert line.startswith(f"__Host-{COOKIE}=")
    assert line.endswith("; Secure")
    assert (await visitor.get("/dashboard", **proxied)).status == 200
    visitor.jar = {COOKIE: visitor.jar[f"__Host-{COOKIE}"]}
    assert (await visitor.get("/dashboard", **proxied)).status == 303


async def test_a_browser_that_keeps_no_cookie_is_told_so(board: Board) -> None:
    answer = await board.browser().sign_in(await board.add_key("ops", OPERATOR))
    page = await board.browser().read(answer.headers["Location"])
    assert "did not keep the sign-in" in page


@pytest.mark.parametrize("key", ["", " ", "upk_0000000000_wrong", "a.b.c", "\x00", "é" * 90, "k" * 3000])
async def test_a_wrong_key_is_refused_and_never_repeated(board: Board, key: str) -> None:
    answer = await board.browser().sign_in(key)
    page = await answer.text()
    assert answer.status == 401
    assert "not a valid key" in page
    assert not key.strip() or key not in page
    assert "Set-Cookie" not in answer.headers


async def test_refused_and_successful_sign_ins_are_in_the_audit(board: Board) -> None:
    await board.browser().sign_in("wrong")
    await board.visitor(OPERATOR)
    entries = await board.entries(2)
    assert [(each.caller, each.operation, each.result) for each in entries] == [
        ("operator-all", "sign_in", "done"), ("unknown", "sign_in", "unauthorized"),
    ]  # fmt: skip


async def test_a_revoked_key_ends_its_sessions_at_once_and_no_other(board: Board) -> None:
    first, second, third = await board.visitor(OPERATOR), await board.visitor(VIEWER), board.browser()
    await third.sign_in(FORMER)
    lines = (board.file.text or "").splitlines()
    await board.set_lines(lines[1:])
    assert (await first.get("/dashboard")).status == 303
    assert (await second.get("/dashboard")).status == 200
    assert (await third.get("/dashboard")).status == 200
    # Another key with the same id is another key.
    await board.set_lines([re.sub("sha256=[0-9a-f]{4}", "sha256=0000", lines[1])])
    assert (await second.get("/dashboard")).status == 303


async def test_a_session_ends_after_its_time(world: World) -> None:
    async with serving(world, stay=timedelta(seconds=60)) as board:
        visitor = await board.visitor(OPERATOR)
        board.sessions._now = lambda: time.time() + 59
        assert (await visitor.get("/dashboard")).status == 200
        board.sessions._now = lambda: time.time() + 61
        assert (await visitor.get("/dashboard")).status == 303


async def test_signing_out_removes_the_cookie(board: Board) -> None:
    visitor = await board.visitor(OPERATOR)
    answer = await visitor.post("/dashboard/sign-out", {})
    assert (answer.status, answer.headers["Location"]) == (303, "/dashboard/sign-in")
    assert visitor.jar == {}


async def test_whoever_is_not_signed_in_cannot_push_others_out_of_the_audit(board: Board) -> None:
    stranger, visitor = board.browser(), await board.visitor(OPERATOR)
    for _ in range(5):
        assert (await stranger.post("/dashboard/sign-out", {})).status == 303
    await visitor.post("/dashboard/sign-out", {})
    entries = await board.entries(3)
    assert [(each.caller, each.operation) for each in entries] == [
        ("operator-all", "sign_out"), ("unknown", "sign_out"), ("operator-all", "sign_in"),
    ]  # fmt: skip


async def test_a_changed_cookie_and_another_ones_seal_are_refused(board: Board) -> None:
    visitor = await board.visitor(VIEWER)
    ((name, cookie),) = visitor.jar.items()
    until, who, key, seal = cookie.split(".")
    other = "B" if seal[0] == "A" else "A"
    for forged in (
        f"{int(until) + 9}.{who}.{key}.{seal}", f"{until}.{who}A.{key}.{seal}",
        f"{until}.{who}.{key}.{other}{seal[1:]}", f"{until}.{who}.00000000.{seal}", f"{cookie}x", cookie[1:],
        "", ".", "x" * 5000, f"{cookie}; {name}={cookie}",
    ):  # fmt: skip
        visitor.jar[name] = forged
        assert (await visitor.get("/dashboard")).status == 303, forged


async def test_the_cookie_opens_nothing_of_the_api_and_a_key_no_page(board: Board) -> None:
    visitor, key = await board.visitor(OPERATOR), await board.add_key("other", OPERATOR)
    assert (await visitor.get("/sessions")).status == 401
    assert (await board.browser().get("/dashboard", Authorization=f"Bearer {key}")).status == 303


@pytest.mark.parametrize("target", [
    "https://evil.test/dashboard", "//evil.test/dashboard", "/\\evil.test", "/dashboard/../docs", "/docs",
    "/dashboard/sign-in", "/dashboardx", "javascript:alert(1)", "/dashboard\r\nX: y", "/dashboard/\u00e9", "x" * 3000,
    "//[", "/dashboard/live?ids=a",
])  # fmt: skip
async def test_a_sign_in_leads_to_pages_of_the_dashboard_only(board: Board, target: str) -> None:
    assert paths.own_page(target) == "/dashboard"
    answer = await board.browser().sign_in(await board.add_key("ops", OPERATOR), target)
    assert answer.status in (303, 413)
    assert answer.headers.get("Location") in ("/dashboard/sign-in?kept", None)


@pytest.mark.parametrize("headers", [
    {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": "", "Origin": "https://evil.test"}, {"Sec-Fetch-Site": "", "Origin": "null"},
    {"Sec-Fetch-Site": "", "Origin": ""},
])  # fmt: skip
@pytest.mark.parametrize("path", ["/dashboard/sign-in", "/dashboard/sign-out"])
async def test_forms_of_other_sites_are_refused(board: Board, path: str, headers: dict[str, str]) -> None:
    visitor, key = await board.visitor(OPERATOR), await board.add_key("ops", OPERATOR)
    jar = dict(visitor.jar)
    answer = await visitor.post(path, {"key": key}, **headers)
    assert answer.status == 403
    assert "This form was refused" in await answer.text()
    assert visitor.jar == jar


async def test_a_browser_without_fetch_metadata_is_known_by_its_origin(board: Board) -> None:
    key = await board.add_key("ops", OPERATOR)
    answer = await board.browser().post("/dashboard/sign-in", {"key": key}, **{"Sec-Fetch-Site": ""})
    assert answer.status == 303


async def test_pages_say_that_nothing_may_frame_them_or_be_loaded_from_elsewhere(board: Board) -> None:
    visitor = await board.visitor(OPERATOR)
    for path in ("/dashboard", "/dashboard/sign-in?to=x", "/dashboard/sessions/00000000"):
        answer = await (board.browser() if "sign-in" in path else visitor).get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert "nonce" not in policy
        for part in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'",
                     "form-action 'self'", "base-uri 'none'"):  # fmt: skip
            assert part in policy
        assert answer.headers["Cache-Control"] == "no-store"
        page = await answer.text()
        assert not re.search(r"<style|style=|<script(?! src=)|\son[a-z]+=|hx-on|javascript:", page), path


async def test_a_wrong_address_of_the_dashboard_is_a_page_that_says_so(board: Board) -> None:
    visitor = await board.visitor(VIEWER)
    for path in ("/dashboard/nothing", "/dashboard/sessions/ABC", "/dashboard/sessions/00000000/steal"):
        answer = await visitor.get(path)
        assert (answer.status, answer.content_type) == (404, "text/html"), path
        assert "Nothing is here" in await answer.text()
        assert (await board.browser().get(path)).status == 303
    assert (await visitor.get("/dashboard/")).status == 200


async def test_requests_count_against_the_rate_of_their_caller(world: World) -> None:
    rates = RateLimits(MemorySharedLevels(), per_caller=3, per_user=None)
    async with serving(world, rates=rates) as board:
        visitor = await board.visitor(OPERATOR)
        statuses = [(await visitor.get("/dashboard")).status for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        answer = await visitor.get("/dashboard")
        assert "Retry-After" in answer.headers
        assert "That was too often" in await answer.text()


# --- at a provider ---


@dataclass
class Scene:
    board: Board
    provider: Provider

    async def sign_in(self, visitor: Visitor, to: str = "/dashboard") -> aiohttp.ClientResponse:
        begun = await visitor.get(f"/dashboard/provider?to={to}")
        assert begun.status == 303
        assert parse_qs(urlsplit(begun.headers["Location"]).query)["redirect_uri"] == [f"{URL}/dashboard/callback"]
        return await visitor.get(f"/dashboard/callback?{self.provider.sign_in(begun.headers['Location'])}")


URL = "http://127.0.0.1:8080"


@pytest.fixture
async def scene(world: World) -> AsyncIterator[Scene]:
    rule = PersonRule(user=UserRule(), operators=frozenset({"ops"}), viewers=frozenset({"support"}))
    async with Provider().serving() as provider, aiohttp.ClientSession() as http:
        oidc = OidcProvider(
            http, issuer=provider.issuer, client_id=CLIENT, secret=SECRET, scopes="openid email",
            redirect_uri=f"{URL}/dashboard/callback", signed_out_uri=URL, wanted=sorted(rule.claims),
        )  # fmt: skip
        async with serving(world, provider=oidc, rule=rule, url=URL) as board:
            yield Scene(board, provider)
        await oidc.close()


@pytest.mark.parametrize(
    ("groups", "role"), [(["ops"], "operator"), (["support"], "viewer"), (["support", "ops"], "operator")]
)
async def test_groups_make_operators_and_viewers_of_people(scene: Scene, groups: list[str], role: str) -> None:
    scene.provider.user |= {"groups": groups}
    visitor = scene.board.browser()
    answer = await scene.sign_in(visitor, "/dashboard?q=x")
    assert answer.status == 200
    assert answer.headers["Refresh"] == "0; url=/dashboard?q=x"
    assert f"ann@example.com ({role})" in await visitor.read("/dashboard")


async def test_everybody_else_sees_their_own_session_alone(scene: Scene, world: World) -> None:
    visitor = scene.board.browser()
    await scene.sign_in(visitor)
    assert "You have no workspace yet" in await visitor.read("/dashboard")
    own, other = [(await world.provisioner.create(user)).uuid for user in ("ann@example.com", "bob@example.com")]
    page = await visitor.read("/dashboard")
    assert own in page
    assert "bob" not in page
    answers = [await visitor.get(f"/dashboard/sessions/{uuid}") for uuid in (other, "00000000")]
    foreign, unknown = [re.sub("<code>[0-9a-f]+</code>", "", await each.text()) for each in answers]
    assert [each.status for each in answers] == [404, 404]
    assert foreign.replace(other, "") == unknown.replace("00000000", "")
    assert (await visitor.get(f"/dashboard/live?ids={other}")).status == 403


@pytest.mark.parametrize("groups", [[], ["support"], ["ops"]])
async def test_a_revocation_ends_the_sign_in_of_its_user_whatever_the_role(
    scene: Scene, world: World, groups: list[str]
) -> None:
    scene.provider.user |= {"groups": groups}
    visitor, uuid = scene.board.browser(), (await world.provisioner.create("ann@example.com")).uuid
    await scene.sign_in(visitor)
    stream = await visitor.get(f"/dashboard/sessions/{uuid}/live")
    assert stream.status == 200
    await world.revocation.revoke(uuid, by="ops")
    async with asyncio.timeout(20):
        await stream.read()  # it ends, too
    answer = await visitor.get(f"/dashboard/sessions/{uuid}")
    assert answer.status == 401
    assert "access was revoked" in (await answer.text()).lower()
    assert (await visitor.get("/dashboard/sign-in")).status == 200, "whoever may still come in can sign in again"


async def led_by_the_provider(scene: Scene, visitor: Visitor, path: str) -> aiohttp.ClientResponse:
    """The page, after it has led to the provider, which asks nothing and sends the browser back."""
    led = await visitor.get(path)
    assert led.status == 303
    assert parse_qs(urlsplit(led.headers["Location"]).query) == {"to": [path]}
    begun = await visitor.get(led.headers["Location"])
    assert "prompt" not in parse_qs(urlsplit(begun.headers["Location"]).query)
    scene.board.sessions._now = time.time
    back = await visitor.get(f"/dashboard/callback?{scene.provider.sign_in(begun.headers['Location'])}")
    assert back.headers["Refresh"] == f"0; url={path}"
    return await visitor.get(path)


async def test_the_provider_is_asked_again_each_hour_what_an_operator_may_do(scene: Scene, world: World) -> None:
    scene.provider.user |= {"groups": ["ops"]}
    visitor, uuid = scene.board.browser(), (await world.provisioner.create("bob@example.com")).uuid
    await scene.sign_in(visitor)
    path = f"/dashboard/sessions/{uuid}"
    scene.board.sessions._now = lambda: time.time() + 3500
    assert (await visitor.get(path)).status == 200
    scene.board.sessions._now = lambda: time.time() + 3700
    assert (await led_by_the_provider(scene, visitor, path)).status == 200
    scene.provider.user |= {"groups": []}
    scene.board.sessions._now = lambda: time.time() + 3700
    assert (await led_by_the_provider(scene, visitor, path)).status == 404, "no operator any more"
    scene.board.sessions._now = lambda: time.time() + 7 * 3600
    assert (await visitor.get("/dashboard")).status == 200, "who sees only their own session keeps it"


async def test_a_form_that_was_begun_is_accepted_though_the_role_is_to_be_asked_for_again(
    scene: Scene, world: World
) -> None:
    scene.provider.user |= {"groups": ["ops"]}
    visitor, uuid = scene.board.browser(), (await world.provisioner.create("bob@example.com")).uuid
    await scene.sign_in(visitor)
    path = f"/dashboard/sessions/{uuid}/revoke"
    field = re.search(r'name="([^"]+)" value="([^"]+)"', await visitor.read(path))
    assert field
    scene.board.sessions._now = lambda: time.time() + 3600 + 800
    assert (await visitor.post(path, {field[1]: field[2]})).status == 303
    scene.board.sessions._now = lambda: time.time() + 3600 + 1000
    assert (await visitor.post(path, {field[1]: field[2]})).status == 401, "not for ever"


async def test_a_live_page_learns_that_it_has_to_be_loaded_again(scene: Scene, world: World) -> None:
    scene.provider.user |= {"groups": ["support"]}
    visitor, uuid = scene.board.browser(), (await world.provisioner.create("bob@example.com")).uuid
    await scene.sign_in(visitor)
    stream = await visitor.get(f"/dashboard/sessions/{uuid}/live")
    scene.board.sessions._now = lambda: time.time() + 3700
    async with asyncio.timeout(20):
        await stream.read()  # it ends
    again = await visitor.get(f"/dashboard/sessions/{uuid}/live", Accept="text/event-stream")
    assert (again.status, "Set-Cookie" in again.headers) == (204, False)
    part = await visitor.get("/dashboard?q=b", **{"HX-Request": "true"})
    assert (part.status, part.headers["HX-Redirect"]) == (204, "/dashboard/provider?to=%2Fdashboard%3Fq%3Db")


async def test_while_the_provider_is_away_an_operator_can_use_a_key(scene: Scene) -> None:
    scene.provider.user |= {"groups": ["ops"]}
    visitor = scene.board.browser()
    await scene.sign_in(visitor)
    scene.board.sessions._now = lambda: time.time() + 3700
    assert 'name="key"' in await visitor.read("/dashboard/sign-in")


async def test_an_attempt_works_once_and_in_its_own_browser_only(scene: Scene) -> None:
    visitor, other = scene.board.browser(), scene.board.browser()
    begun = await visitor.get("/dashboard/provider")
    way = f"/dashboard/callback?{scene.provider.sign_in(begun.headers['Location'])}"
    assert (await other.get(way)).status == 400
    attempt = dict(visitor.jar)
    assert (await visitor.get(way)).status == 200
    visitor.jar = attempt
    assert (await visitor.get(way)).status == 400


async def test_a_provider_that_is_away_and_a_user_who_is_not_admitted_get_a_page(scene: Scene) -> None:
    visitor = scene.board.browser()
    scene.provider.user |= {"email_verified": False}
    answer = await scene.sign_in(visitor)
    assert answer.status == 403
    assert 'href="/dashboard/sign-in"' in await answer.text()
    begun = await visitor.get("/dashboard/provider")
    way = f"/dashboard/callback?{scene.provider.sign_in(begun.headers['Location'])}"
    scene.provider.away = True
    assert (await visitor.get(way)).status == 503


async def test_after_a_sign_out_the_provider_asks_for_the_account(scene: Scene) -> None:
    visitor = scene.board.browser()
    await scene.sign_in(visitor)
    await visitor.post("/dashboard/sign-out", {})
    begun = await visitor.get("/dashboard/provider")
    assert "prompt=select_account" in begun.headers["Location"]


async def test_without_a_provider_there_is_no_way_to_one(board: Board) -> None:
    for path in ("/dashboard/provider", "/dashboard/callback?code=1&state=2"):
        assert (await board.browser().get(path)).status == 404
