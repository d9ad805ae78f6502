"""The real service signs users in at a provider that is a process of its own."""

import re
from collections.abc import AsyncIterator
from urllib.parse import urljoin, urlsplit

import aiohttp
import pytest

from stack.stack import GATEWAY_DOMAIN, Stack
from tests.conftest import SHORT, free_port
from tests.oidc_provider_process import provider_process
from tests.stack.client import Caller, until

PERSON = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Accept": "text/html"}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as http:
        yield http


class Visitor:
    """A browser without scripts, which follows nothing by itself."""

    def __init__(self, http: aiohttp.ClientSession, gateway: int) -> None:
        self._http = http
        self._gateway = gateway
        self._cookies: dict[str, dict[str, str]] = {}

    async def get(self, url: str) -> tuple[int, str]:
        """Status, and where it leads."""
        parts = urlsplit(url)
        jar = self._cookies.setdefault(parts.netloc, {})
        address = f"http://127.0.0.1:{self._gateway}{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        cookie = "; ".join(f"{name}={value}" for name, value in jar.items())
        headers = {"Host": parts.netloc, "Cookie": cookie, **PERSON}
        async with self._http.get(address, headers=headers, allow_redirects=False) as found:
            for line in found.headers.getall("Set-Cookie", ()):
                name, _, value = line.partition(";")[0].partition("=")
                jar[name] = value
            return found.status, found.headers.get("Location", "")

    async def sign_in(self, url: str, user: str) -> str:
        """Sign in at the provider; where it leads the browser back to."""
        async with self._http.post(url, data={"sub": user}, allow_redirects=False) as found:
            assert found.status == 302, await found.text()
            return found.headers["Location"]


async def test_a_new_user_gets_from_the_domain_into_a_workspace_of_their_own(
    stack: Stack, http: aiohttp.ClientSession
) -> None:
    """The gateway is a process of its own, and creates the session itself."""
    provider, gateway = free_port(), free_port()
    oidc = {
        "OIDC_ISSUER": f"http://127.0.0.1:{provider}",
        "OIDC_CLIENT_ID": "workspaces",
        "OIDC_CLIENT_SECRET": "hunter2hunter2",
        "ROLE": "gateway",
    }
    other = Stack(stack.cluster, port=free_port(), gateway_port=gateway, settings=SHORT | oidc, name="sign-in")
    domain = f"http://{GATEWAY_DOMAIN}:{gateway}"
    stack.start()  # a test before may have ended it
    other.start()
    try:
        caller, own, visitor = Caller(stack.url, http), Caller(other.url, http), Visitor(http, gateway)
        assert (await visitor.get(f"{domain}/"))[0] == 503, "there is no provider yet"
        assert "sign-in" in (await own.call("GET", "/health"))[1]["remarks"]
        async with provider_process(provider) as process:

            async def led() -> bool:
                return (await visitor.get(f"{domain}/"))[0] == 302

            await until(led, 10, lambda: "nobody is led to the provider")
            assert "sign-in" not in (await own.call("GET", "/health"))[1]["remarks"]
            _, url = await visitor.get(f"{domain}/")
            status, link = await visitor.get(await visitor.sign_in(url, "ann"))
            assert status == 303
            found = re.fullmatch(r"vs-code-([a-z0-9]{8})\..*", urlsplit(link).netloc)
            assert found is not None
            uuid = found[1]
            assert (await caller.status(uuid))["session"]["user_id"] == "ann@example.com"
            status, page = await visitor.get(link)
            assert (status, page) == (303, "/")
            assert (await visitor.get(urljoin(link, page)))[0] == 503, "no waiting page"
            assert (await caller.call("POST", f"/session/{uuid}/revoke"))[0] == 202

            async def refused() -> bool:
                return (await visitor.get(urljoin(link, page)))[0] == 302

            await until(refused, 3, lambda: "the revoked cookie opens the workspace")
            status, url = await visitor.get(f"{domain}/")
            assert (status, url.startswith(oidc["OIDC_ISSUER"])) == (302, True)
            process.kill()
            await process.wait()
        logged = (stack.cluster.state / "log" / "sign-in.log").read_text()
        assert "hunter2" not in logged
        assert "code=" not in logged
    finally:
        stack.cluster.stop(other.name)
