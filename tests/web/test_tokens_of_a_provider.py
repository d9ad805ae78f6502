"""A person's token from a provider that is a process of its own, from the sign-in to the call."""

import json
import re
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp

from service.adapters.oidc.bearer_token import OidcBearerTokens
from service.domain.identity import UserRule
from service.domain.people import People, PersonRule
from tests.conftest import free_port
from tests.domain.conftest import World
from tests.oidc_provider_process import provider_process
from tests.web.conftest import Serve

CLIENT, BACK = "user-pods-cli", "http://127.0.0.1:1/back"


async def id_token(http: aiohttp.ClientSession, issuer: str, user: str) -> str:
    """As a command line gets it: by the authorization code flow, as a client of its own."""
    asked = {"response_type": "code", "client_id": CLIENT, "redirect_uri": BACK, "scope": "openid email", "nonce": "n"}
    async with http.get(f"{issuer}/.well-known/openid-configuration") as found:
        metadata = await found.json()
    url = f"{metadata['authorization_endpoint']}?{urlencode(asked)}"
    async with http.post(url, data={"sub": user}, allow_redirects=False) as found:
        code = parse_qs(urlsplit(found.headers["Location"]).query)["code"][0]
    basic = {"Authorization": aiohttp.encode_basic_auth(CLIENT, "any")}
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK}
    async with http.post(metadata["token_endpoint"], data=form, headers=basic) as found:
        answer = json.loads(await found.text())
    return str(answer["id_token"])


async def test_a_person_signs_in_and_calls_for_their_own_session(serve: Serve, world: World) -> None:
    issuer = f"http://127.0.0.1:{free_port()}"
    async with provider_process(int(re.sub(r".*:", "", issuer))), aiohttp.ClientSession() as http:
        tokens = OidcBearerTokens(http, issuer=issuer, audience=CLIENT)
        client = await serve(people=People(tokens, PersonRule(user=UserRule())))
        headers = {"Authorization": f"Bearer {await id_token(http, issuer, 'ann')}"}
        created = await client.post("/session/create", json={"user_id": "ann@example.com"}, headers=headers)
        assert created.status == 201
        uuid = (await created.json())["uuid"]
        assert (await client.post(f"/session/{uuid}/wake", headers=headers)).status == 202
        refused = await client.post("/session/create", json={"user_id": "bob@example.com"}, headers=headers)
        assert refused.status == 403
        eve = {"Authorization": f"Bearer {await id_token(http, issuer, 'eve')}"}
        assert (await client.get("/whoami", headers=eve)).status == 403, "her address is not verified"
        await tokens.close()
