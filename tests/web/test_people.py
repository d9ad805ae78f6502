"""People who call the API with a token of an OpenID Connect provider, through the real adapter; it may be hostile."""

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from service.adapters.oidc.bearer_token import OidcBearerTokens
from service.domain.errors import RedisUnavailable
from service.domain.identity import UserRule
from service.domain.people import People, PersonRule
from tests.domain.conftest import World
from tests.oidc_provider import Claims, Provider, rsa_key, signed_with_public_key, unsigned
from tests.web.conftest import Client, Serve

API = "https://pods.example.com/api"
ANN, BOB = "ann@example.com", "bob@example.com"
RULE = PersonRule(user=UserRule(), operators=frozenset({"platform"}), viewers=frozenset({"support", "platform"}))


@dataclass
class Clock:
    """Seconds that have passed, by both clocks of the service."""

    passed: float = 0

    def time(self) -> float:
        return time.time() + self.passed

    def monotonic(self) -> float:
        return time.monotonic() + self.passed


@dataclass
class Desk:
    """The service with a provider; `token` makes one as the provider does."""

    provider: Provider
    world: World
    serve: Serve
    tokens: OidcBearerTokens
    clock: Clock
    clients: dict[PersonRule, Client] = field(default_factory=dict)

    def token(self, bend: Callable[[Claims], Claims] = dict, **more: Any) -> str:
        now = int(time.time())
        claims = {"iss": self.provider.issuer, "aud": API, "iat": now, "exp": now + 300, **self.provider.user, **more}
        header = {"alg": self.provider.algorithm, "kid": self.provider.key.kid}
        return jwt.encode(header, bend(claims), self.provider.key, algorithms=[self.provider.algorithm])

    async def call(
        self, token: str, path: str = "/whoami", method: str = "GET", rule: PersonRule = RULE
    ) -> tuple[int, Any]:
        if rule not in self.clients:
            people = People(self.tokens, rule, now=self.clock.time)
            self.clients[rule] = await self.serve(["k" * 16], people=people)
        answer = await self.clients[rule].request(method, path, headers={"Authorization": f"Bearer {token}"})
        return answer.status, await answer.json() if answer.status != 204 else None


@pytest.fixture
async def desk(serve: Serve, world: World) -> AsyncIterator[Desk]:
    clock = Clock()
    async with Provider().serving() as provider, aiohttp.ClientSession() as http:
        tokens = OidcBearerTokens(http, issuer=provider.issuer, audience=API, now=clock.time, monotonic=clock.monotonic)
        yield Desk(provider, world, serve, tokens, clock)
        await tokens.close()


async def test_a_person_reaches_their_own_session_and_nobody_elses(desk: Desk) -> None:
    ann, bob = [(await desk.world.provisioner.create(user)).uuid for user in (ANN, BOB)]
    token = desk.token()
    assert await desk.call(token) == (200, {"name": ANN, "role": "user", "user_id": ANN, "key_required": True})
    assert (await desk.call(token, f"/session/{ann}/wake", "POST"))[0] == 202
    assert [getattr(entry, "by", None) for entry in desk.world.journal.entries][-1] == "person"
    refused, unknown = [(await desk.call(token, f"/session/{each}/wake", "POST"))[1] for each in (bob, "00000000")]
    assert refused["type"] == "/problems/session-not-found"
    assert {**refused, "instance": ""} == {**unknown, "instance": ""}
    assert (await desk.call(token, "/metrics"))[0] == 403


@pytest.mark.parametrize(
    ("groups", "role", "only"),
    [
        (["platform"], "operator", None), (["support"], "viewer", None), ("support", "viewer", None),
        (["platform", "support"], "operator", None), (["staff"], "user", ANN), ([], "user", ANN), (None, "user", ANN),
        ([["platform"]], "user", ANN), ({"platform": True}, "user", ANN),
    ],
)  # fmt: skip
async def test_groups_give_roles(desk: Desk, groups: object, role: str, only: str | None) -> None:
    status, caller = await desk.call(desk.token(groups=groups))
    assert (status, caller) == (200, {"name": ANN, "role": role, "user_id": only, "key_required": True})


def without(name: str) -> Callable[[Claims], Claims]:
    return lambda claims: {key: value for key, value in claims.items() if key != name}


@pytest.mark.parametrize(
    "bend",
    [
        lambda claims: {**claims, "iss": "https://evil.example.com"},
        lambda claims: {**claims, "aud": "another"},
        lambda claims: {**claims, "aud": [["https://pods.example.com/api"]]},
        lambda claims: {**claims, "exp": claims["iat"] - 200, "iat": claims["iat"] - 400},
        lambda claims: {**claims, "nbf": claims["iat"] + 200},
        lambda claims: {**claims, "iat": claims["iat"] + 200},
        lambda claims: {**claims, "exp": "never"},
        lambda claims: {**claims, "events": {"http://schemas.openid.net/event/backchannel-logout": {}}},
        lambda claims: {**claims, "sub": ""},
        *(without(name) for name in ("iss", "aud", "exp", "iat", "sub")),
    ],
)
async def test_a_token_that_is_not_for_this_api_or_not_of_now_is_refused(
    desk: Desk, bend: Callable[[Claims], Claims], caplog: pytest.LogCaptureFixture
) -> None:
    token = desk.token(bend)
    with caplog.at_level("DEBUG"):
        status, problem = await desk.call(token)
    assert (status, problem["type"]) == (401, "/problems/unauthorized")
    assert token.rpartition(".")[2] not in str([vars(record) for record in caplog.records])


async def test_clocks_may_differ_and_audiences_may_be_several(desk: Desk) -> None:
    now = int(time.time())
    assert (await desk.call(desk.token(iat=now + 60, nbf=now + 60, exp=now + 360)))[0] == 200
    assert (await desk.call(desk.token(exp=now - 60, iat=now - 360)))[0] == 200
    assert (await desk.call(desk.token(aud=["account", API], azp="user-pods-cli")))[0] == 200


async def test_a_forged_token_is_refused(desk: Desk) -> None:
    token = desk.token()
    desk.provider.algorithms = ["RS256", "HS256", "none"]
    other = jwt.encode({"alg": "RS256", "kid": "first"}, {"sub": "1"}, rsa_key("forger"), algorithms=["RS256"])
    changed = f"{token.split('.')[0]}.{desk.token(email=BOB).split('.')[1]}.{token.split('.')[2]}"
    for forged in (
        unsigned(token),
        signed_with_public_key(token, desk.provider),
        other,
        changed,
        "a.b.c",
        "..",
        "é.é.é",
    ):
        assert (await desk.call(forged))[0] == 401, forged


async def test_an_algorithm_that_the_provider_does_not_announce_is_refused(desk: Desk) -> None:
    desk.provider.algorithms = ["RS256"]
    desk.provider.key = ECKey.generate_key("P-256", {"kid": "second"})
    desk.provider.algorithm = "ES256"
    assert (await desk.call(desk.token()))[0] == 401


async def test_a_rotated_key_is_found_and_a_withdrawn_one_is_forgotten(desk: Desk) -> None:
    old = desk.token(exp=int(time.time()) + 10 * 3600)
    assert (await desk.call(old))[0] == 200
    desk.provider.key = rsa_key("second")
    desk.clock.passed = 11
    assert (await desk.call(desk.token()))[0] == 200
    desk.clock.passed = 2 * 3600 + 100
    status, _ = await desk.call(old)
    assert status == 401


async def test_a_token_is_verified_once_a_minute_and_never_used_beyond_its_end(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified, claims = [], desk.tokens.claims

    async def counted(token: str) -> Any:
        verified.append(token)
        return await claims(token)

    monkeypatch.setattr(desk.tokens, "claims", counted)
    token = desk.token(exp=int(time.time()) + 100)
    for _ in range(3):
        assert (await desk.call(token))[0] == 200
    assert len(verified) == 1
    desk.clock.passed = 61
    assert (await desk.call(token))[0] == 200
    assert len(verified) == 2
    desk.clock.passed = 100 + 121
    assert (await desk.call(token))[0] == 401


@pytest.mark.parametrize(
    ("user", "rule"),
    [
        ({"email": ANN}, UserRule()),
        ({"email_verified": True}, UserRule()),
        ({"email": "with space", "email_verified": True}, UserRule()),
        ({"email": ANN, "email_verified": True}, UserRule(groups=frozenset({"staff"}))),
        ({"email": ANN, "email_verified": True}, UserRule(domains=frozenset({"example.org"}))),
    ],
)
async def test_whoever_may_not_sign_in_may_not_call_either(desk: Desk, user: Claims, rule: UserRule) -> None:
    desk.provider.user = {"sub": "1", **user}
    status, problem = await desk.call(desk.token(), rule=PersonRule(user=rule))
    assert (status, problem["type"]) == (403, "/problems/forbidden")
    assert ANN not in str(problem)


async def test_after_a_revocation_a_person_needs_a_new_token(desk: Desk) -> None:
    uuid = (await desk.world.provisioner.create(ANN)).uuid
    old = desk.token(iat=int(time.time()) - 10)
    assert (await desk.call(old, f"/session/{uuid}/open", "POST"))[0] == 201
    await desk.world.cluster.revoke(uuid, datetime.now(UTC) - timedelta(seconds=5))
    status, problem = await desk.call(old, f"/session/{uuid}/open", "POST")
    assert (status, "revoked" in problem["detail"]) == (401, True)
    assert (await desk.call(desk.token(), f"/session/{uuid}/open", "POST"))[0] == 201


@pytest.mark.parametrize("groups", [[], ["support"], ["platform"]])
async def test_a_revocation_also_ends_what_names_no_session_whatever_the_role(desk: Desk, groups: list[str]) -> None:
    old = desk.token(iat=int(time.time()) - 10, groups=groups)
    assert (await desk.call(old, "/sessions"))[0] == 200
    uuid = (await desk.world.provisioner.create(ANN)).uuid
    assert (await desk.call(old, "/sessions"))[0] == 200
    await desk.world.cluster.revoke(uuid, datetime.now(UTC) - timedelta(seconds=5))
    paths = (("GET", "/sessions"), ("GET", "/whoami"), ("POST", "/session/create"))
    for method, path in paths[: 2 if groups == ["support"] else 3]:
        status, problem = await desk.call(old, path, method)
        assert (status, "revoked" in problem["detail"]) == (401, True), path
    assert (await desk.call(desk.token(groups=groups), "/sessions"))[0] == 200
    if groups:
        assert (await desk.call(desk.token(iat=int(time.time()) - 10, sub=BOB, email=BOB, groups=groups)))[0] == 200


async def test_operators_and_viewers_look_for_faults_while_redis_is_away(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: str) -> None:
        raise RedisUnavailable

    monkeypatch.setattr(desk.world.store, "owner", away)
    for groups, status in ((["platform"], 200), (["support"], 200), ([], 503)):
        assert (await desk.call(desk.token(groups=groups), "/whoami"))[0] == status


async def test_while_the_provider_is_away_keys_work_and_tokens_that_are_not_known_yet_get_503(desk: Desk) -> None:
    desk.provider.away = True
    status, problem = await desk.call(desk.token())
    assert (status, problem["type"]) == (503, "/problems/identity-provider-unavailable")
    assert desk.tokens.remark() is not None
    assert (await desk.call("k" * 16))[0] == 200
    desk.provider.away = False
    desk.clock.passed = 60
    assert (await desk.call(desk.token()))[0] == 200
    desk.provider.away = True
    assert (await desk.call(desk.token(jti="another")))[0] == 200, "its keys are known"
