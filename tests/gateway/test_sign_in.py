"""Signing in at an OpenID Connect provider, through the real adapter, with a provider that may be hostile."""

import asyncio
import base64
import html
import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
import pytest
from joserfc.jwk import ECKey, RSAKey

from service.adapters.oidc.discovery import Discovery
from service.adapters.oidc.provider import OidcProvider
from service.domain import call_limit
from service.domain.identity import UserRule
from service.domain.names import SessionId
from service.domain.sign_in import SignIn
from service.domain.sign_in_attempts import ATTEMPT_SECONDS
from service.gateway.access.cookie_header import COOKIE
from service.gateway.access.home import Home
from service.gateway.access.hosts import Hosts
from service.gateway.proxy.headers import Forwarding
from service.gateway.sign_in import cookies
from service.gateway.sign_in.failures import SIGN_IN, SIGN_OUT
from service.gateway.sign_in.portal import CALLBACK, SIGNED_OUT, SignInPortal
from tests.domain.conftest import World
from tests.gateway.conftest import DOMAIN, House
from tests.oidc_provider import (
    CLIENT,
    REMOVED,
    SECRET,
    Claims,
    Provider,
    rsa_key,
    signed_with_public_key,
    signed_with_secret,
    unsigned,
)
from tests.waiting import until

ORIGIN = f"https://{DOMAIN}"
HOUR = 3600
PROXIED = Forwarding(scheme="https", trusted=[ip_network("127.0.0.0/8")])
"""What these browsers say about their addresses is believed."""
PERSON = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Accept": "text/html"}


@dataclass
class Answer:
    status: int
    location: str
    page: str


@dataclass
class Browser:
    """Keeps the cookies of each host, and follows nothing by itself."""

    house: House
    address: str = "192.0.2.1"
    jar: dict[str, dict[str, str]] = field(default_factory=dict)
    """Host -> name -> value."""

    async def get(self, url: str, method: str = "GET", **more: str) -> Answer:
        parts = urlsplit(url)
        jar = self.jar.setdefault(parts.netloc, {})
        headers = {"Host": parts.netloc, "X-Forwarded-For": self.address, **PERSON, **more}
        if jar:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in jar.items())
        path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        async with self.house.http.request(
            method, self.house.url(path), headers=headers, allow_redirects=False
        ) as found:
            for line in found.headers.getall("Set-Cookie", ()):
                name, _, value = line.partition(";")[0].partition("=")
                assert name.startswith("__Host-")
                assert all(each in line for each in ("; Secure", "; HttpOnly", "; SameSite=Lax", "; Path=/"))
                if "Max-Age=0" in line:
                    jar.pop(name, None)
                else:
                    jar[name] = value
            page = re.sub(r'nonce="[^"]*"|<code>[0-9a-f]*</code>', "", await found.text())
            return Answer(found.status, found.headers.get("Location", ""), page)


@dataclass
class Clock:
    """By which the provider's metadata and keys grow old."""

    ahead: float = 0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@dataclass
class Scene:
    house: House
    provider: Provider
    sign_in: SignIn
    oidc: OidcProvider
    clock: "Clock"

    def set_clock(self, now: Callable[[], float]) -> None:
        self.sign_in._now = self.sign_in._attempts._now = now

    def browser(self, address: str = "192.0.2.1") -> Browser:
        return Browser(self.house, address)

    async def begin(self, browser: Browser, url: str = f"{ORIGIN}/") -> str:
        """Where the provider sends the browser back to, after its user has signed in there."""
        answer = await browser.get(url)
        while answer.status == 302 and answer.location.startswith(ORIGIN):
            answer = await browser.get(answer.location)
        assert answer.status == 302
        assert answer.location.startswith(f"{self.provider.issuer}/authorize?")
        asked = parse_qs(urlsplit(answer.location).query)
        assert asked["redirect_uri"] == [ORIGIN + CALLBACK]
        return f"{ORIGIN}{CALLBACK}?{self.provider.sign_in(answer.location)}"

    async def enter(self, browser: Browser, url: str = f"{ORIGIN}/") -> Answer:
        """Sign in, and follow to the workspace."""
        answer = await browser.get(await self.begin(browser, url))
        while answer.status == 303:
            answer = await browser.get(answer.location)
        return answer


@pytest.fixture
def rule() -> UserRule:
    return UserRule()


@pytest.fixture
def creates() -> bool:
    return True


@pytest.fixture
async def scene(world: World, rule: UserRule, creates: bool) -> AsyncIterator[Scene]:
    made: list[SignIn] = []
    clock = Clock()
    async with Provider().serving() as provider, aiohttp.ClientSession() as http:
        oidc = OidcProvider(
            http,
            issuer=provider.issuer,
            client_id=CLIENT,
            secret=SECRET,
            scopes="openid email",
            redirect_uri=ORIGIN + CALLBACK,
            signed_out_uri=ORIGIN + SIGNED_OUT,
            wanted=sorted(rule.claims),
            now=clock,
        )

        def portal(house: House) -> tuple[SignInPortal, Home]:
            sign_in = SignIn(
                provider=oidc,
                rule=rule,
                keyring=house.keyring,
                access=house.access,
                tickets=house.tickets,
                queries=world.queries,
                cache=world.cluster,
                provisioner=world.provisioner if creates else None,
                stay=timedelta(hours=12),
            )
            made.append(sign_in)
            home = Home(ORIGIN + SIGN_IN, house.origin, sign_out_url=ORIGIN + SIGN_OUT)
            return SignInPortal(sign_in, Hosts(DOMAIN), house.origin, house.pages, PROXIED), home

        async with House(world, portal=portal).open() as house:
            yield Scene(house, provider, made[0], oidc, clock)
        await oidc.close()


def user_of(scene: Scene, uuid: str) -> str | None:
    return scene.house.world.cluster.workload(SessionId(uuid)).user_id


# --- what works ---


async def test_the_domain_leads_a_new_user_through_the_provider_into_a_new_workspace(scene: Scene) -> None:
    browser = scene.browser()
    answer = await browser.get(await scene.begin(browser))
    assert answer.status == 303
    host = urlsplit(answer.location).netloc
    (uuid,) = scene.house.world.cluster.uuids()
    assert host == scene.house.host(uuid)
    assert user_of(scene, uuid) == "ann@example.com"
    entered = await browser.get(answer.location)
    assert (entered.status, entered.location) == (303, "/")
    assert set(browser.jar[host]) == {COOKIE}
    assert set(browser.jar[DOMAIN]) == {cookies.USER}


@pytest.mark.parametrize("rule", [UserRule(quotas=("staff", "students"))])
async def test_a_new_user_gets_a_session_of_their_group_also_when_it_is_created_later(scene: Scene) -> None:
    browser = scene.browser()
    scene.provider.user = {**scene.provider.user, "groups": ["math", "students"]}
    await browser.get(await scene.begin(browser))
    (uuid,) = scene.house.world.cluster.uuids()
    assert scene.house.world.cluster.workload(uuid).assignment.group == "students"
    user = await scene.sign_in.user(browser.jar[DOMAIN][cookies.USER])
    assert user is not None
    assert (user.user_id, user.group) == ("ann@example.com", "students")


async def test_a_workspaces_address_leads_to_the_very_page(scene: Scene) -> None:
    uuid, browser = await scene.house.awake("ann@example.com"), scene.browser()
    page = f"{scene.house.origin(uuid)}/echo?folder=/a%20b&x=1"
    answer = await browser.get(await scene.begin(browser, page))
    answer = await browser.get(answer.location)
    assert (answer.status, answer.location) == (303, "/echo?folder=/a%20b&x=1")
    assert (await browser.get(page)).status == 200


async def test_whoever_is_signed_in_goes_straight_to_their_workspace(scene: Scene) -> None:
    uuid, browser = await scene.house.awake("ann@example.com"), scene.browser()
    await scene.enter(browser)
    calls = len(scene.provider.calls)
    del browser.jar[scene.house.host(uuid)]
    answer = await browser.get(f"{scene.house.origin(uuid)}/echo")
    answer = await browser.get(answer.location)
    assert answer.status == 303
    assert urlsplit(answer.location).netloc == scene.house.host(uuid)
    assert len(scene.provider.calls) == calls


@pytest.mark.parametrize("space", ["\u00a0", "\u0085", "\u2000", "\u3000"])
async def test_a_workspace_can_set_no_cookie_that_looks_like_the_domains_own(scene: Scene, space: str) -> None:
    """A browser keeps such a name for any host of the domain: it does not begin with `__Host-`."""
    browser, other = scene.browser(), scene.browser()
    await scene.enter(browser)
    cookie = browser.jar[DOMAIN][cookies.USER]
    other.jar[DOMAIN] = {f"{space}{cookies.USER}": cookie}
    answer = await other.get(f"{ORIGIN}{SIGN_IN}")
    assert (answer.status, answer.location.startswith(scene.provider.issuer)) == (302, True)
    browser.jar[DOMAIN][f"{space}{cookies.USER}"] = cookie
    answer = await browser.get(f"{ORIGIN}{SIGN_IN}")
    assert answer.location.startswith("https://vs-code-")


async def test_several_tabs_can_sign_in_at_once(scene: Scene) -> None:
    await scene.house.awake("ann@example.com")
    browser = scene.browser()
    ways = [await scene.begin(browser) for _ in range(3)]
    for way in reversed(ways):
        assert (await browser.get(way)).status == 303
    assert set(browser.jar[DOMAIN]) == {cookies.USER}


async def test_a_callback_that_is_loaded_again_leads_on(scene: Scene) -> None:
    browser = scene.browser()
    way = await scene.begin(browser)
    assert (await browser.get(way)).status == 303
    again = await browser.get(way)
    assert (again.status, again.location) == (303, "/")


@pytest.mark.parametrize("rule", [UserRule(claim="preferred_username")])
async def test_what_the_token_lacks_comes_from_the_userinfo_endpoint(scene: Scene) -> None:
    scene.provider.userinfo = {"sub": "1", "preferred_username": "ann"}
    await scene.enter(scene.browser())
    (uuid,) = scene.house.world.cluster.uuids()
    assert user_of(scene, uuid) == "ann"


async def test_a_verification_that_the_token_lacks_comes_from_there_too(scene: Scene) -> None:
    scene.provider.user = {"sub": "1", "email": "ann@example.com"}
    scene.provider.userinfo = {"sub": "1", "email": "ann@example.com", "email_verified": True}
    await scene.enter(scene.browser())
    (uuid,) = scene.house.world.cluster.uuids()
    assert user_of(scene, uuid) == "ann@example.com"


async def test_the_verification_of_another_address_counts_for_nothing(scene: Scene) -> None:
    scene.provider.user = {"sub": "1", "email": "ann@example.com"}
    scene.provider.userinfo = {"sub": "1", "email": "another@example.com", "email_verified": True}
    assert (await scene.enter(scene.browser())).status == 403
    assert not list(scene.house.world.cluster.uuids())


async def test_what_the_userinfo_endpoint_says_of_another_user_is_refused(scene: Scene) -> None:
    scene.provider.user = {"sub": "1"}
    scene.provider.userinfo = {"sub": "2", "email": "ann@example.com", "email_verified": True}
    assert (await scene.enter(scene.browser())).status == 403
    assert not list(scene.house.world.cluster.uuids())


async def test_a_secret_in_the_form_and_none_at_all_are_sent_as_the_provider_wants(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[dict[str, str], dict[str, str]]] = []

    async def post(_: str, form: dict[str, str], headers: dict[str, str]) -> tuple[int, Claims]:
        sent.append((form, headers))
        return 401, {}

    monkeypatch.setattr(scene.oidc._client, "post", post)
    scene.provider.metadata = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    await scene.enter(scene.browser())
    monkeypatch.setattr(scene.oidc, "_secret", "")
    await scene.enter(scene.browser())
    (post_form, post_headers), (public_form, public_headers) = sent
    assert (post_form["client_id"], post_form["client_secret"], post_headers) == (CLIENT, SECRET, {})
    assert (public_form["client_id"], public_headers) == (CLIENT, {})
    assert "client_secret" not in public_form


# --- others' workspaces ---


async def test_a_stranger_learns_nothing_about_others_workspaces(scene: Scene) -> None:
    theirs = await scene.house.awake("bob@example.com")
    pages: list[tuple[str, int, str]] = []
    for uuid in (theirs, "00000000"):
        browser = scene.browser()
        before = await browser.get(f"https://{scene.house.host(uuid)}/x")
        answer = await scene.enter(browser, f"https://{scene.house.host(uuid)}/x")
        pages.append((before.location.replace(uuid, "*"), answer.status, answer.page.replace(uuid, "*")))
    assert pages[0] == pages[1]
    assert pages[0][1] == 403
    assert "This is not your workspace" in pages[0][2]
    assert ' href="/">Open workspace</a>' in pages[0][2]
    assert list(scene.house.world.cluster.uuids()) == [theirs], "asking for another's workspace has created one"


async def test_a_stranger_stays_signed_in_and_gets_to_their_own(scene: Scene) -> None:
    theirs, browser = await scene.house.awake("bob@example.com"), scene.browser()
    await scene.enter(browser, f"{scene.house.origin(theirs)}/")
    answer = await browser.get(f"{ORIGIN}/")
    assert answer.status == 303
    assert theirs not in answer.location


# --- where a sign-in leads ---


@pytest.mark.parametrize(
    "asked",
    [
        "https://evil.test/",
        "//evil.test/",
        "https://vs-code-{uuid}.pods.test.evil.test/",
        "https://vs-code-{uuid}.pods.test@evil.test/",
        "https://evil.test/https://vs-code-{uuid}.pods.test/",
        "http://vs-code-{uuid}.pods.test/",
        "https://vs-code-{uuid}.pods.test:444/",
        "https://vs-code-{uuid}.pods.test//evil.test/",
        "javascript:alert(1)",
        "https://[",
        "\\\\evil.test",
        "",
    ],
)
async def test_a_sign_in_leads_to_no_other_place(scene: Scene, asked: str) -> None:
    uuid, browser = await scene.house.awake("ann@example.com"), scene.browser()
    url = f"{ORIGIN}{SIGN_IN}?{urlencode({'return_to': asked.format(uuid=uuid)})}"
    answer = await browser.get(await scene.begin(browser, url))
    assert answer.status == 303
    link = urlsplit(answer.location)
    assert (link.scheme, link.netloc) == ("https", scene.house.host(uuid))
    assert parse_qs(link.query)["to"] == ["/"]


# --- attempts that are not this browser's ---


async def test_a_sign_in_that_another_browser_has_begun_is_refused(scene: Scene) -> None:
    attacker, victim = scene.browser(), scene.browser()
    way = await scene.begin(attacker)
    answer = await victim.get(way)
    assert answer.status == 400
    assert "This sign-in is no longer valid" in answer.page
    assert cookies.USER not in victim.jar[DOMAIN]
    assert "/token" not in scene.provider.calls


async def test_a_code_of_another_attempt_is_refused(scene: Scene) -> None:
    # The victim's browser has an attempt of its own, whose state the attacker's code does not have.
    attacker, victim = scene.browser(), scene.browser()
    theirs = parse_qs(urlsplit(await scene.begin(attacker)).query)
    own = parse_qs(urlsplit(await scene.begin(victim)).query)
    mixed = urlencode({"code": theirs["code"][0], "state": own["state"][0]})
    answer = await victim.get(f"{ORIGIN}{CALLBACK}?{mixed}")
    assert answer.status == 400  # the provider refuses the code: another verifier's
    assert cookies.USER not in victim.jar[DOMAIN]


@pytest.mark.parametrize("state", ["", "x", "A" * 43, "é" * 43, "A" * 4000])
async def test_a_forged_state_is_refused(scene: Scene, state: str) -> None:
    browser = scene.browser()
    code = parse_qs(urlsplit(await scene.begin(browser)).query)["code"][0]
    answer = await browser.get(f"{ORIGIN}{CALLBACK}?{urlencode({'code': code, 'state': state})}")
    assert answer.status == 400
    assert "/token" not in scene.provider.calls


async def test_a_changed_attempt_is_refused(scene: Scene) -> None:
    browser = scene.browser()
    way = await scene.begin(browser)
    (name,) = browser.jar[DOMAIN]
    until, *rest = browser.jar[DOMAIN][name].split(".")
    for changed in (".".join([str(int(until) + 1), *rest]), ".".join([until, *rest[:-1], "A" * 43]), "", "x"):
        browser.jar[DOMAIN][name] = changed
        assert (await browser.get(way)).status == 400
    assert "/token" not in scene.provider.calls


async def test_an_attempt_grows_too_old(scene: Scene) -> None:
    browser = scene.browser()
    way = await scene.begin(browser)
    scene.set_clock(lambda: time.time() + 601)
    answer = await browser.get(way)
    assert (answer.status, cookies.USER in browser.jar[DOMAIN]) == (400, False)
    assert ' href="/">Try again</a>' in answer.page


async def test_an_attempt_is_no_way_to_send_the_provider_one_code_after_the_other(scene: Scene) -> None:
    browser = scene.browser()
    state = parse_qs(urlsplit(await scene.begin(browser)).query)["state"][0]
    jar = dict(browser.jar[DOMAIN])
    for number in range(3):
        browser.jar[DOMAIN] = dict(jar)  # a stranger keeps the cookie
        answer = await browser.get(f"{ORIGIN}{CALLBACK}?{urlencode({'code': number, 'state': state})}")
        assert answer.status == 400
    assert scene.provider.calls.count("/token") == 1


async def test_attempts_that_lead_nowhere_do_not_pile_up(scene: Scene) -> None:
    browser, uuid = scene.browser(), await scene.house.awake("ann@example.com")
    ways = [await scene.begin(browser) for _ in range(7)]
    assert len(browser.jar[DOMAIN]) == 5
    assert (await browser.get(ways[0])).status == 400
    assert (await browser.get(ways[-1])).status == 303
    browser = scene.browser()
    asked = urlencode({"return_to": f"{scene.house.origin(uuid)}/{'x' * 1400}"})
    ways = [await scene.begin(browser, f"{ORIGIN}{SIGN_IN}?{asked}") for _ in range(7)]
    assert sum(len(name) + len(value) for name, value in browser.jar[DOMAIN].items()) < 5100
    assert len((await browser.get(ways[-1])).location) > 1400
    browser.jar[DOMAIN] = {"__Host-user-pods-attempt-" + "A" * 8: "9" * 6000, "__Host-user-pods-attempt-x y": "1"}
    await scene.begin(browser)
    assert "__Host-user-pods-attempt-" + "A" * 8 not in browser.jar[DOMAIN]


@pytest.mark.parametrize("error", ["access_denied", "invalid_scope"])
async def test_an_attempt_that_fails_leaves_no_cookie(scene: Scene, error: str) -> None:
    browser = scene.browser()
    state = parse_qs(urlsplit(await scene.begin(browser)).query)["state"][0]
    await browser.get(f"{ORIGIN}{CALLBACK}?{urlencode({'error': error, 'state': state})}")
    assert browser.jar[DOMAIN] == {}


async def test_whoever_tries_again_gets_to_the_page_that_they_asked_for(scene: Scene) -> None:
    uuid = await scene.house.awake("ann@example.com")
    page = f"{scene.house.origin(uuid)}/echo?x=1"
    again = f"{SIGN_IN}?{urlencode({'return_to': page})}"
    browser = scene.browser()
    way = await scene.begin(browser, page)
    state = parse_qs(urlsplit(way).query)["state"][0]
    cancelled = await browser.get(f"{ORIGIN}{CALLBACK}?{urlencode({'error': 'access_denied', 'state': state})}")
    assert f' href="{again}">Try again</a>' in cancelled.page
    way = await scene.begin(browser, page)
    scene.set_clock(lambda: time.time() + ATTEMPT_SECONDS + 1)
    late = await browser.get(way)
    assert late.status == 400
    assert f' href="{again}">Try again</a>' in late.page
    # It was another tab that has signed in meanwhile.
    scene.set_clock(time.time)
    way = await scene.begin(browser, page)
    await scene.enter(browser)
    scene.set_clock(lambda: time.time() + ATTEMPT_SECONDS + 1)
    other = await browser.get(way)
    assert (other.status, other.location) == (303, again)


async def test_a_sign_in_that_has_to_wait_too_long_can_be_finished_by_another_try(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_limit, "PATIENCE", -1)
    browser = scene.browser()
    way = await scene.begin(browser)
    answer = await browser.get(way)
    assert answer.status == 503
    assert ' href="">Try again</a>' in answer.page
    monkeypatch.undo()
    assert (await browser.get(way)).status == 303


async def test_a_code_works_once(scene: Scene) -> None:
    browser = scene.browser()
    way = await scene.begin(browser)
    scene.provider.codes.clear()
    answer = await browser.get(way)
    assert answer.status == 400
    assert "This sign-in has been used" in answer.page


async def test_parameters_that_are_given_twice_are_none(scene: Scene) -> None:
    browser = scene.browser()
    way = await scene.begin(browser)
    assert (await browser.get(f"{way}&code=other")).status == 503
    assert (await browser.get(f"{way}&state=other")).status == 400


async def test_an_answer_of_another_issuer_is_refused(scene: Scene) -> None:
    browser = scene.browser()
    way = await scene.begin(browser)
    answer = await browser.get(f"{way}&{urlencode({'iss': 'https://evil.test'})}")
    assert answer.status == 403
    assert "/token" not in scene.provider.calls


async def test_a_provider_that_names_itself_must_always_do_so(scene: Scene) -> None:
    scene.provider.metadata = {"authorization_response_iss_parameter_supported": True}
    browser = scene.browser()
    assert (await browser.get(await scene.begin(browser))).status == 403
    way = await scene.begin(browser)
    assert (await browser.get(f"{way}&{urlencode({'iss': scene.provider.issuer})}")).status == 303


# --- tokens ---


def without(*names: str) -> Callable[[Claims], Claims]:
    return lambda claims: {name: value for name, value in claims.items() if name not in names}


def having(**more: Any) -> Callable[[Claims], Claims]:
    return lambda claims: {**claims, **more}


@pytest.mark.parametrize(
    "bend",
    [
        having(iss="https://evil.test"),
        without("iss"),
        having(aud="another"),
        having(aud=["another"]),
        having(aud=[]),
        without("aud"),
        having(aud=[CLIENT, "another"]),
        having(aud=[CLIENT, "another"], azp="another"),
        having(azp="another"),
        having(nonce="another"),
        having(nonce=7),
        without("nonce"),
        without("exp"),
        without("iat"),
        having(exp="soon"),
        having(sub=""),
        without("sub"),
    ],
)
async def test_a_token_that_is_not_for_this_sign_in_is_refused(scene: Scene, bend: Callable[[Claims], Claims]) -> None:
    scene.provider.bend = bend
    browser = scene.browser()
    answer = await scene.enter(browser)
    assert answer.status == 403
    assert "could not be verified" in answer.page
    assert cookies.USER not in browser.jar[DOMAIN]


async def test_a_token_for_several_clients_names_this_one(scene: Scene) -> None:
    scene.provider.bend = having(aud=[CLIENT, "another"], azp=CLIENT)
    browser = scene.browser()
    assert (await browser.get(await scene.begin(browser))).status == 303


@pytest.mark.parametrize(
    "bend", [having(exp=int(time.time()) - 3600), having(iat=int(time.time()) + 3600), having(nbf=2**33)]
)
async def test_clocks_that_differ_are_named(scene: Scene, bend: Callable[[Claims], Claims]) -> None:
    scene.provider.bend = bend
    answer = await scene.enter(scene.browser())
    assert answer.status == 503
    assert "because of the time" in answer.page


@pytest.mark.parametrize("seconds", [-60, 60])
async def test_clocks_may_differ_by_a_minute(scene: Scene, seconds: int) -> None:
    scene.provider.bend = lambda claims: {**claims, "iat": claims["iat"] + seconds, "exp": claims["iat"] + seconds + 1}
    browser = scene.browser()
    assert (await browser.get(await scene.begin(browser))).status == 303


@pytest.mark.parametrize("offered", [["RS256"], ["RS256", "none", "HS256"]])
@pytest.mark.parametrize("kind", ["none", "HS256", "cut", "empty", "garbage", "another key's", "huge"])
async def test_a_token_that_the_provider_has_not_signed_is_refused(scene: Scene, kind: str, offered: list[str]) -> None:
    provider, other = scene.provider, RSAKey.import_key(rsa_key("other").as_dict(private=True) | {"kid": "first"})
    provider.algorithms = offered
    forgeries: dict[str, Callable[[str], str]] = {
        "none": unsigned,
        "HS256": lambda token: signed_with_public_key(token, provider),
        "cut": lambda token: token[:-10],
        "empty": lambda _: "",
        "garbage": lambda _: "a.b.c",
        "huge": lambda token: token + "A" * 10**5,
        "another key's": str,
    }
    provider.forge = forgeries[kind]
    if kind == "another key's":
        provider.published = [provider.key.as_dict(private=False)]
        provider.key = other
    browser = scene.browser()
    answer = await scene.enter(browser)
    assert answer.status == 403
    assert cookies.USER not in browser.jar[DOMAIN]


async def test_a_symmetric_key_among_the_providers_keys_verifies_nothing(scene: Scene) -> None:
    provider = scene.provider
    secret = base64.urlsafe_b64encode(b"x" * 32).decode().rstrip("=")
    provider.published = [{"kty": "oct", "k": secret, "kid": "first", "alg": "HS256"}, {"kty": "?"}, {}]
    provider.algorithms = ["RS256", "HS256"]
    provider.forge = lambda token: signed_with_secret(token, b"x" * 32)
    assert (await scene.enter(scene.browser())).status == 403


async def test_a_new_key_is_read_when_it_is_used_and_not_for_every_forgery(scene: Scene) -> None:
    provider = scene.provider
    for key, algorithm in (
        (provider.key, "RS256"),
        (rsa_key("second"), "RS256"),
        (ECKey.generate_key("P-256", {"kid": "third"}), "ES256"),
    ):
        provider.key, provider.algorithm = key, algorithm
        scene.clock.ahead += 10
        browser = scene.browser()
        assert (await browser.get(await scene.begin(browser))).status == 303
    reads = provider.calls.count("/jwks")
    assert reads == 3
    provider.published = [provider.key.as_dict(private=False)]
    provider.key = ECKey.generate_key("P-256", {"kid": "unknown"})
    scene.clock.ahead += 10
    for _ in range(3):
        assert (await scene.enter(scene.browser())).status == 403
    assert provider.calls.count("/jwks") == reads + 1


# --- the provider ---


async def test_a_provider_that_is_away_is_named_and_read_again(scene: Scene) -> None:
    scene.provider.away = True
    answer = await scene.browser().get(f"{ORIGIN}/")
    assert answer.status == 503
    assert "The identity provider does not answer" in answer.page
    assert "identity provider" in (scene.oidc.remark() or "")
    await scene.browser().get(f"{ORIGIN}/")
    assert scene.provider.calls.count("/.well-known/openid-configuration") == 1, "each visitor asks it"
    scene.provider.away = False
    scene.clock.ahead += 2
    assert (await scene.browser().get(f"{ORIGIN}/")).status == 302
    assert scene.oidc.remark() is None


async def test_metadata_that_cannot_be_read_again_stay_in_use(scene: Scene) -> None:
    await scene.begin(scene.browser())
    scene.provider.away = True
    scene.clock.ahead += 2 * HOUR + 1
    assert (await scene.browser().get(f"{ORIGIN}/")).status == 302
    assert scene.oidc.remark() is not None


async def test_keys_that_cannot_be_read_again_stay_in_use(scene: Scene) -> None:
    await scene.enter(scene.browser())
    scene.provider.metadata = {"jwks_uri": f"{scene.provider.issuer}/missing"}
    scene.clock.ahead += 2 * HOUR + 1
    browser = scene.browser()
    assert (await browser.get(await scene.begin(browser))).status == 303
    scene.provider.key = rsa_key("second")
    for _ in range(2):
        assert (await scene.enter(scene.browser())).status == 503


async def test_a_slow_provider_holds_nobody_who_can_do_without_its_answer(scene: Scene) -> None:
    await scene.enter(scene.browser())
    provider, answers = scene.provider, asyncio.Event()
    provider.slow = {"/.well-known/openid-configuration": answers, "/jwks": answers}
    scene.clock.ahead += HOUR + 1
    async with asyncio.timeout(5):
        for _ in range(2):
            await scene.enter(scene.browser())
    await until(lambda: provider.calls.count("/jwks") == 2)
    assert provider.calls.count("/.well-known/openid-configuration") == 2
    answers.set()


async def test_a_sign_in_with_an_unknown_key_holds_no_other(scene: Scene) -> None:
    provider, answers = scene.provider, asyncio.Event()
    await scene.enter(scene.browser())
    scene.clock.ahead += 10
    known, provider.key = provider.key, rsa_key("second")
    provider.slow = {"/jwks": answers}
    with_unknown = asyncio.create_task(scene.enter(scene.browser()))
    await until(lambda: provider.calls.count("/jwks") == 2)
    provider.key = known
    async with asyncio.timeout(5):
        assert (await scene.enter(scene.browser())).status != 403
    provider.key = rsa_key("second")
    answers.set()
    assert (await with_unknown).status != 403


async def test_visitors_of_a_provider_that_never_answered_wait_for_one_call(scene: Scene) -> None:
    provider, answers = scene.provider, asyncio.Event()
    provider.slow, provider.away = {"/.well-known/openid-configuration": answers}, True
    visits = [asyncio.create_task(scene.browser().get(f"{ORIGIN}/")) for _ in range(5)]
    await until(lambda: bool(provider.calls))
    visits[0].cancel()  # the one who has begun the call leaves
    answers.set()
    assert {visit.status for visit in await asyncio.gather(*visits[1:])} == {503}
    assert provider.calls == ["/.well-known/openid-configuration"]


async def test_a_new_key_with_the_name_of_the_old_one_is_read_when_it_is_used(scene: Scene) -> None:
    provider = scene.provider
    await scene.enter(scene.browser())
    provider.key = RSAKey.import_key(rsa_key("other").as_dict(private=True) | {"kid": "first"})
    scene.clock.ahead += 10
    browser = scene.browser()
    assert (await browser.get(await scene.begin(browser))).status == 303
    assert provider.calls.count("/jwks") == 2


async def test_forgeries_with_a_known_key_name_are_no_way_to_call_the_provider_at_will(scene: Scene) -> None:
    provider = scene.provider
    await scene.enter(scene.browser())
    scene.clock.ahead += 10
    provider.forge = lambda token: token[:-10]
    for _ in range(4):
        assert (await scene.enter(scene.browser())).status == 403
    assert provider.calls.count("/jwks") == 2


async def test_the_calls_of_the_token_endpoint_are_bounded(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_limit, "PATIENCE", 0.2)
    provider, answers = scene.provider, asyncio.Event()
    provider.slow = {"/token": answers}
    browsers = [scene.browser(f"192.0.{number % 4}.1") for number in range(call_limit.UNDER_WAY + 5)]
    ways = [await scene.begin(browser) for browser in browsers]
    visits = [asyncio.create_task(browser.get(way)) for browser, way in zip(browsers, ways, strict=True)]
    await until(lambda: sum(visit.done() for visit in visits) == 5)
    busy = next(visit.result() for visit in visits if visit.done())
    assert busy.status == 503
    assert "Many people are signing in" in busy.page
    assert provider.calls.count("/token") == call_limit.UNDER_WAY
    answers.set()
    assert sorted({visit.status for visit in await asyncio.gather(*visits)}) == [303, 503]


@pytest.mark.parametrize(
    ("addresses", "share"),
    [
        (["192.0.2.9"], call_limit.SHARE),
        (["2001:db8::1", "2001:db8::2", "2001:db8::3"], call_limit.SHARE),
        ([f"192.0.2.{number}" for number in range(1, 99)], call_limit.NETWORK_SHARE),
        ([f"2001:db8:0:{number}::1" for number in range(1, 99)], call_limit.NETWORK_SHARE),
    ],
    ids=["address", "small network", "many addresses", "many small networks"],
)
async def test_nobody_can_keep_all_others_from_signing_in(scene: Scene, addresses: list[str], share: float) -> None:
    provider, answers, most = scene.provider, asyncio.Event(), int(share * call_limit.UNDER_WAY)
    provider.slow = {"/token": answers}
    strangers = [scene.browser(addresses[number % len(addresses)]) for number in range(most + 5)]
    ways = [await scene.begin(stranger) for stranger in strangers]
    visits = [asyncio.create_task(stranger.get(way)) for stranger, way in zip(strangers, ways, strict=True)]
    await until(lambda: sum(visit.done() for visit in visits) == 5)
    await until(lambda: provider.calls.count("/token") == most)
    provider.slow = {}
    browser = scene.browser("198.51.100.10")
    assert (await browser.get(await scene.begin(browser))).status == 303
    answers.set()
    await asyncio.gather(*visits)
    assert not scene.sign_in._attempts._calls._of_client, "clients are remembered"


async def test_the_rate_of_calls_of_the_token_endpoint_is_bounded(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_limit, "PATIENCE", 0.0)
    browsers = [scene.browser(f"192.0.2.{number % 20}") for number in range(int(3 * call_limit.PER_SECOND))]
    ways = [await scene.begin(browser) for browser in browsers]
    begun = time.monotonic()
    answers = await asyncio.gather(*(browser.get(way) for browser, way in zip(browsers, ways, strict=True)))
    allowed = call_limit.PER_SECOND * (1 + time.monotonic() - begun) + 1
    assert scene.provider.calls.count("/token") <= allowed
    assert 503 in {answer.status for answer in answers}


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://evil.test"},
        {"token_endpoint": "https://[evil"},
        {"token_endpoint": REMOVED},
        {"token_endpoint": "file:///etc/passwd"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"jwks_uri": 7},
    ],
)
async def test_a_provider_that_does_not_fit_is_named(scene: Scene, metadata: Claims) -> None:
    scene.provider.metadata = metadata
    answer = await scene.browser().get(f"{ORIGIN}/")
    assert answer.status == 503
    assert "not set up correctly" in answer.page


async def test_a_refused_client_is_the_operators_to_repair(scene: Scene) -> None:
    scene.provider.secret = "another"
    answer = await scene.enter(scene.browser())
    assert answer.status == 503
    assert "not set up correctly" in answer.page
    scene.provider.token_status = 502
    answer = await scene.enter(scene.browser())
    assert answer.status == 503
    assert "does not answer" in answer.page


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        ("access_denied", 403, "The sign-in was cancelled"),
        ("temporarily_unavailable", 503, "does not answer"),
        ("invalid_scope", 503, "not set up correctly"),
        ("<script>", 503, "not set up correctly"),
    ],
)
async def test_a_cancelled_sign_in_leads_on(scene: Scene, error: str, status: int, words: str) -> None:
    browser = scene.browser()
    state = parse_qs(urlsplit(await scene.begin(browser)).query)["state"][0]
    query = urlencode({"error": error, "state": state, "error_description": "<b>no</b>"})
    answer = await browser.get(f"{ORIGIN}{CALLBACK}?{query}")
    assert answer.status == status
    assert words in answer.page
    assert ' href="/">Try again</a>' in answer.page
    assert "<script>" not in answer.page
    assert "<b>" not in answer.page
    without_state = await browser.get(f"{ORIGIN}{CALLBACK}?{urlencode({'error': error})}")
    assert (without_state.status, without_state.page) == (answer.status, answer.page)


# --- who may come ---


@pytest.mark.parametrize(
    ("rule", "user", "words"),
    [
        (UserRule(), {"sub": "1"}, "no usable name"),
        (UserRule(), {"sub": "1", "email": "with blank", "email_verified": True}, "no usable name"),
        (UserRule(), {"sub": "1", "email": ["a@b"], "email_verified": True}, "no usable name"),
        (UserRule(), {"sub": "1", "email": "ann@example.com"}, "not verified"),
        (UserRule(), {"sub": "1", "email": "ann@example.com", "email_verified": "true"}, "not verified"),
        (
            UserRule(domains=frozenset({"example.com"})),
            {"sub": "1", "email": "ann@evil.com", "email_verified": True},
            "has no access",
        ),
        (
            UserRule(domains=frozenset({"example.com"})),
            {"sub": "1", "email": "ann@example.com@evil.com", "email_verified": True},
            "has no access",
        ),
        (
            UserRule(claim="sub", domains=frozenset({"example.com"})),
            {"sub": "1", "email": "ann@example.com"},
            "not verified",
        ),
        (UserRule(claim="sub", groups=frozenset({"staff"})), {"sub": "1", "groups": ["guests"]}, "has no access"),
        (UserRule(claim="sub", groups=frozenset({"staff"})), {"sub": "1"}, "has no access"),
    ],
)
async def test_who_is_not_allowed_is_told_why_and_gets_no_session(scene: Scene, user: Claims, words: str) -> None:
    scene.provider.user = user
    browser = scene.browser()
    answer = await scene.enter(browser)
    assert answer.status == 403
    assert words in answer.page
    assert cookies.USER not in browser.jar[DOMAIN]
    assert not list(scene.house.world.cluster.uuids())


@pytest.mark.parametrize(
    ("rule", "user"),
    [
        (UserRule(verified_email=False), {"sub": "1", "email": "ann@example.com"}),
        (
            UserRule(domains=frozenset({"example.com"})),
            {"sub": "1", "email": "ann@EXAMPLE.com", "email_verified": True},
        ),
        (UserRule(claim="sub", groups=frozenset({"staff"})), {"sub": "1", "groups": ["guests", "staff"]}),
        (UserRule(claim="sub", groups=frozenset({"staff"})), {"sub": "1", "groups": "staff"}),
    ],
)
async def test_who_is_allowed_gets_in(scene: Scene, user: Claims) -> None:
    scene.provider.user = user
    browser = scene.browser()
    assert (await browser.get(await scene.begin(browser))).status == 303


@pytest.mark.parametrize("creates", [False])
async def test_where_no_session_may_be_created_only_users_with_one_get_in(scene: Scene) -> None:
    answer = await scene.enter(scene.browser())
    assert answer.status == 403
    assert "You have no workspace yet" in answer.page
    uuid, browser = await scene.house.awake("ann@example.com"), scene.browser()
    answer = await browser.get(await scene.begin(browser))
    assert urlsplit(answer.location).netloc == scene.house.host(uuid)


# --- revocation and signing out ---


async def test_a_revocation_asks_for_a_new_sign_in_at_the_provider(scene: Scene) -> None:
    uuid, browser = await scene.house.awake("ann@example.com"), scene.browser()
    await scene.enter(browser)
    await scene.house.world.revocation.revoke(uuid, by="api")
    refused = await browser.get(f"{scene.house.origin(uuid)}/echo")
    assert refused.status == 302
    again = await browser.get(refused.location)
    assert again.location.startswith(scene.provider.issuer)
    answer = await browser.get(f"{ORIGIN}{CALLBACK}?{scene.provider.sign_in(again.location)}")
    assert answer.status == 303
    await browser.get(answer.location)
    assert (await browser.get(f"{scene.house.origin(uuid)}/echo")).status == 200


async def test_a_domain_cookie_from_before_brings_no_removed_workspace_back(scene: Scene) -> None:
    browser, world = scene.browser(), scene.house.world
    await scene.enter(browser)
    (uuid,) = world.cluster.uuids()
    await world.revocation.revoke(uuid, by="api")
    await world.releases.uninstall(uuid)
    scene.set_clock(lambda: time.time() + ATTEMPT_SECONDS + 1)
    assert (await browser.get(f"{ORIGIN}/")).location.startswith(scene.provider.issuer)
    assert world.cluster.workload(uuid).released


async def test_a_link_from_a_replica_that_has_not_heard_of_a_revocation_is_refused_by_the_others(scene: Scene) -> None:
    browser, world = scene.browser(), scene.house.world
    await scene.enter(browser)
    (uuid,) = world.cluster.uuids()
    led = await browser.get(f"{ORIGIN}/")
    revoked = datetime.now(UTC) - timedelta(seconds=1)  # before the link, and after the sign-in
    user = await scene.sign_in.user(browser.jar[DOMAIN][cookies.USER])
    assert user is not None
    world.cluster.change(replace(world.cluster.workload(uuid), created_at=revoked, revoked_at=revoked))
    link = await scene.house.access.issue_link(uuid, since=user.since - 5)
    assert led.status == 303
    assert (await scene.browser().get(link.url)).location.startswith(f"{ORIGIN}{SIGN_IN}?")
    assert (await scene.browser().get((await scene.house.access.issue_link(uuid)).url)).status == 303


async def test_what_the_provider_said_before_a_revocation_opens_nothing_after_it(scene: Scene) -> None:
    uuid, browser = await scene.house.awake("ann@example.com"), scene.browser()
    scene.set_clock(lambda: time.time() - 5)
    callback = await scene.begin(browser)
    scene.set_clock(time.time)
    await scene.house.world.revocation.revoke(uuid, by="api")
    scene.set_clock(lambda: time.time() + 2)
    answer = await browser.get(callback)
    assert (answer.status, answer.location) == (303, "/")
    assert (await browser.get(f"{ORIGIN}/")).location.startswith(scene.provider.issuer)


async def test_a_sign_in_that_began_in_the_second_of_a_revocation_asks_the_provider_once_more(scene: Scene) -> None:
    # The tab leads to the sign-in as soon as it hears of the revocation.
    uuid, browser, now = await scene.house.awake("ann@example.com"), scene.browser(), int(time.time()) + 60
    page = f"{scene.house.origin(uuid)}/echo"
    scene.house.world.revocation._now = lambda: datetime.fromtimestamp(now, UTC)
    scene.set_clock(lambda: now + 0.1)
    callback = await scene.begin(browser, page)
    await scene.house.world.revocation.revoke(uuid, by="api")
    scene.set_clock(lambda: now + 20.0)
    answer = await browser.get(callback)
    assert (answer.status, answer.location) == (303, f"{SIGN_IN}?{urlencode({'return_to': page})}")
    answer = await browser.get(await scene.begin(browser, ORIGIN + answer.location))
    assert urlsplit(answer.location).netloc == scene.house.host(uuid)


async def test_a_revocation_until_later_leads_nobody_round(scene: Scene) -> None:
    uuid, browser = await scene.house.awake("ann@example.com"), scene.browser()
    later = datetime.now(UTC) + timedelta(days=1)
    scene.house.world.cluster.change(replace(scene.house.world.cluster.workload(uuid), revoked_at=later))
    answer = await scene.enter(browser)
    assert answer.status == 403
    assert "Your access is revoked" in answer.page


async def test_a_workspace_whose_revocations_are_unknown_opens_for_nobody(scene: Scene) -> None:
    uuid, browser = await scene.house.awake("ann@example.com"), scene.browser()
    await scene.enter(browser)
    page = f"{scene.house.origin(uuid)}/echo"
    assert (await browser.get(page)).status == 200
    workload = scene.house.world.cluster.workload(uuid)
    scene.house.world.cluster.change(replace(workload, sign_ins_unknown=True))
    refused = await browser.get(page)
    assert refused.status == 302
    answer = await browser.get(refused.location)
    assert (answer.status, answer.location) == (503, "")
    assert "Ask your operator" in answer.page
    bob = scene.browser()
    scene.provider.user = {"sub": "2", "email": "bob@example.com", "email_verified": True}
    assert (await bob.get(await scene.begin(bob))).status == 303, "another's session suffers too"


async def test_a_gateway_that_still_reads_the_cluster_lets_nobody_in(scene: Scene) -> None:
    uuid, browser = await scene.house.awake("ann@example.com"), scene.browser()
    await scene.enter(browser)
    scene.house.world.cluster.has_synced = False
    scene.house.access._checked.clear()  # it has just started
    for url in (f"{scene.house.origin(uuid)}/echo", f"{ORIGIN}/"):
        answer = await browser.get(url)
        assert answer.status == 503
    assert not scene.house.workspaces[uuid].requests


async def test_signing_out_of_the_domain_goes_on_to_the_provider(scene: Scene) -> None:
    browser = scene.browser()
    await scene.enter(browser)
    page = await browser.get(ORIGIN + SIGN_OUT)
    assert ">Sign out</button>" in page.page
    assert cookies.USER in browser.jar[DOMAIN]
    same_site = {"Sec-Fetch-Site": "same-site", "Origin": "https://vs-code-abc123xy.pods.test"}
    assert (await browser.get(ORIGIN + SIGN_OUT, "POST", **same_site)).status == 403
    assert cookies.USER in browser.jar[DOMAIN]
    left = await browser.get(ORIGIN + SIGN_OUT, "POST", **{"Sec-Fetch-Site": "same-origin", "Origin": "null"})
    assert left.status == 303
    assert left.location.startswith(f"{scene.provider.issuer}/logout?")
    assert parse_qs(urlsplit(left.location).query)["post_logout_redirect_uri"] == [ORIGIN + SIGNED_OUT]
    assert cookies.USER not in browser.jar[DOMAIN]
    assert "You are signed out" in (await browser.get(ORIGIN + SIGNED_OUT)).page


@pytest.mark.parametrize("away", [False, True])
async def test_signing_out_needs_no_provider(scene: Scene, away: bool) -> None:
    browser = scene.browser()
    await scene.enter(browser)
    scene.provider.metadata = {"end_session_endpoint": REMOVED}
    scene.provider.away, scene.oidc._discovery = away, Discovery(scene.oidc._client, scene.provider.issuer)
    left = await browser.get(ORIGIN + SIGN_OUT, "POST", **{"Sec-Fetch-Site": "same-origin"})
    assert (left.status, left.location) == (303, SIGNED_OUT)
    assert cookies.USER not in browser.jar[DOMAIN]


async def test_after_signing_out_another_account_can_be_chosen_where_the_provider_does_not_know(scene: Scene) -> None:
    scene.provider.metadata = {"end_session_endpoint": REMOVED}
    browser = scene.browser()
    await scene.enter(browser)
    await browser.get(ORIGIN + SIGN_OUT, "POST", **{"Sec-Fetch-Site": "same-origin"})

    async def prompt() -> list[str]:
        asked = await browser.get(f"{ORIGIN}/")
        return parse_qs(urlsplit(asked.location).query).get("prompt", [])

    assert await prompt() == ["select_account"]
    await scene.enter(browser)
    assert set(browser.jar[DOMAIN]) == {cookies.USER, *(name for name in browser.jar[DOMAIN] if "attempt" in name)}
    del browser.jar[DOMAIN][cookies.USER]
    assert await prompt() == [], "they are asked for ever"


async def test_another_account_is_for_the_page_that_was_asked_for(scene: Scene) -> None:
    uuid, browser = await scene.house.awake("ann@example.com"), scene.browser()
    ann, asked = scene.provider.user, f"{scene.house.origin(uuid)}/echo?x=1;y=2"
    scene.provider.user = {"sub": "bob", "email": "bob@example.com", "email_verified": True}
    refused = await scene.enter(browser, f"{ORIGIN}{SIGN_IN}?{urlencode({'return_to': asked})}")
    assert "This is not your workspace" in refused.page
    (other,) = re.findall(rf' href="({SIGN_OUT}[^"]*)"', refused.page)
    left = await browser.get(ORIGIN + html.unescape(other), "POST", **{"Sec-Fetch-Site": "same-origin"})
    assert left.location.startswith(f"{scene.provider.issuer}/logout?")
    (again,) = re.findall(rf' href="({SIGN_IN}[^"]*)"', (await browser.get(ORIGIN + SIGNED_OUT)).page)
    scene.provider.user = ann
    link = urlsplit((await browser.get(await scene.begin(browser, ORIGIN + html.unescape(again)))).location)
    assert (link.netloc, parse_qs(link.query)["to"]) == (scene.house.host(uuid), ["/echo?x=1;y=2"])
    # Nobody is led to the page of a sign-out before.
    await browser.get(ORIGIN + SIGN_OUT, "POST", **{"Sec-Fetch-Site": "same-origin"})
    assert ' href="/"' in (await browser.get(ORIGIN + SIGNED_OUT)).page


async def test_a_provider_that_offers_no_choice_asks_to_sign_in(scene: Scene) -> None:
    scene.provider.metadata = {"end_session_endpoint": REMOVED, "prompt_values_supported": ["none", "login"]}
    browser = scene.browser()
    await browser.get(ORIGIN + SIGN_OUT, "POST", **{"Sec-Fetch-Site": "same-origin"})
    asked = await browser.get(f"{ORIGIN}/")
    assert parse_qs(urlsplit(asked.location).query)["prompt"] == ["login"]


async def test_a_workspace_links_to_signing_out_of_the_domain(scene: Scene) -> None:
    uuid, browser = await scene.house.awake("ann@example.com"), scene.browser()
    await scene.enter(browser)
    answer = await browser.get(f"{scene.house.origin(uuid)}{SIGN_OUT}", "POST", **{"Sec-Fetch-Site": "same-origin"})
    assert f' href="{ORIGIN}{SIGN_OUT}">Sign out of all workspaces here</a>' in answer.page


# --- everything else ---


@pytest.mark.parametrize("value", ["", "x", "9999999999.1.YW5u.00000000." + "A" * 43, "é", "9" * 4000])
async def test_a_forged_user_is_none(scene: Scene, value: str) -> None:
    browser = scene.browser()
    browser.jar[DOMAIN] = {cookies.USER: value.encode().decode("latin-1")}
    assert (await browser.get(f"{ORIGIN}/")).status == 302


async def test_no_cookie_of_one_kind_is_taken_for_another(scene: Scene) -> None:
    uuid, browser = await scene.house.awake("ann@example.com"), scene.browser()
    await scene.begin(browser)
    (attempt,) = browser.jar[DOMAIN].values()
    await scene.enter(browser)
    user, session = browser.jar[DOMAIN][cookies.USER], browser.jar[scene.house.host(uuid)][COOKIE]
    for wrong in (attempt, session):
        assert await scene.sign_in.user(wrong) is None
    for wrong in (attempt, user):
        assert await scene.house.access.check_cookie(wrong, uuid) is None


@pytest.mark.parametrize("path", ["/favicon.ico", "/.user-pods/enter", "/.user-pods/wake", "/x"])
async def test_the_domain_has_no_other_pages(scene: Scene, path: str) -> None:
    assert (await scene.browser().get(ORIGIN + path)).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD"])
async def test_only_people_who_open_a_page_sign_in(scene: Scene, method: str) -> None:
    for path in ("/", SIGN_IN, CALLBACK):
        assert (await scene.browser().get(ORIGIN + path, method)).status == 401
    assert (await scene.browser().get(f"{ORIGIN}/", **{"Sec-Purpose": "prefetch"})).status == 401
    assert not scene.provider.calls


async def test_nothing_secret_is_logged(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    browser = scene.browser()
    ways = [await scene.begin(browser) for _ in range(2)]
    scene.provider.bend = having(aud="another")
    await browser.get(ways[0])
    scene.provider.bend = dict
    await browser.get(ways[1])
    told = "\n".join(
        f"{record.getMessage()} {record.__dict__}" for record in caplog.records if "service" in record.name
    )
    assert "sign-in refused" in told
    secrets = [SECRET, *browser.jar[DOMAIN].values()]
    secrets += [value for way in ways for values in parse_qs(urlsplit(way).query).values() for value in values]
    assert len(secrets) > 4
    assert not [secret for secret in secrets if secret in told]


async def test_many_sign_ins_at_once_ask_the_provider_once(scene: Scene) -> None:
    await asyncio.gather(*(scene.browser().get(f"{ORIGIN}/") for _ in range(20)))
    assert scene.provider.calls == ["/.well-known/openid-configuration"]
