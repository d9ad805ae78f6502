"""An OpenID Connect provider as a process of its own, with pages for people: oidc-provider-mock."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

USERS = [
    {"sub": "ann", "email": "ann@example.com", "email_verified": True},
    {"sub": "bob", "email": "bob@example.com", "email_verified": True},
    {"sub": "eve", "email": "eve@example.com", "email_verified": False},
]


@asynccontextmanager
async def provider_process(
    port: int, users: Sequence[Mapping[str, Any]] = USERS
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The provider, with these users; it answers when the context begins."""
    argv = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port), "--require-nonce", "true"]
    argv += [part for user in users for part in ("--user-claims", json.dumps(user))]
    process = await asyncio.create_subprocess_exec(
        *argv,
        env={**os.environ, "AUTHLIB_INSECURE_TRANSPORT": "1"},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await _answers(f"http://127.0.0.1:{port}/.well-known/openid-configuration", process)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _answers(url: str, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(30), aiohttp.ClientSession() as http:
        while True:
            assert process.returncode is None, "the provider has ended"
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(url) as found:
                    if found.status == 200:  # not from a program that had the port before
                        return
            await asyncio.sleep(0.1)
