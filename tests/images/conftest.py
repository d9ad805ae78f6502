"""The tiny workspace as a process, as its image runs it."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from images import recipes
from tests.conftest import free_port


class Tiny:
    """A running one."""

    def __init__(self, process: subprocess.Popen[str], port: int, home: Path) -> None:
        self.process = process
        self.port = port
        self.home = home

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def answers(self) -> None:
        """Wait for its first answer."""
        async with asyncio.timeout(10):
            while True:
                assert self.process.poll() is None, f"it ended with {self.process.returncode}"
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    return
                await asyncio.sleep(0.005)

    async def ends(self, seconds: float = 5) -> int:
        """Its exit code."""
        async with asyncio.timeout(seconds):
            while self.process.poll() is None:  # noqa: ASYNC110 - a process that asyncio did not start has no event
                await asyncio.sleep(0.005)
        return self.process.returncode


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recipes.compile_tiny(tmp_path_factory.mktemp("tiny") / "tiny")


@asynccontextmanager
async def running(program: Path, home: Path, *arguments: str, **environment: str) -> AsyncIterator[Tiny]:
    port = free_port()
    argv = [str(program), "-address", f"127.0.0.1:{port}", *arguments]
    process = subprocess.Popen(  # noqa: ASYNC220 - it starts at once
        argv, env={**os.environ, "HOME": str(home), **environment}, text=True
    )
    try:
        yield Tiny(process, port, home)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
async def tiny(program: Path, tmp_path: Path) -> AsyncIterator[Tiny]:
    async with running(program, tmp_path) as tiny:
        await tiny.answers()
        yield tiny


@pytest.fixture
async def http(tiny: Tiny) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(tiny.url) as http:
        yield http
