"""Starts of the service that are interrupted at every moment, and their results."""

import asyncio
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

from stack.demo import free_port
from stack.stack import Stack

_STARTS = 24
_AT_ONCE = 2
_LIMIT = 10.0
"""Seconds from SIGTERM to the end, at most."""
_SANE = (0, 128 + signal.SIGTERM, -signal.SIGTERM)
"""Exit codes: a clean exit; interrupted, as shells report it; or killed by the signal before any of our code ran."""


class Starts:
    """Starts processes like the given replica, on separate ports."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    async def ended_at_every_moment(self) -> list[str]:
        """Findings: a process that did not exit in time, or with an unexpected code or output."""
        environment = await asyncio.to_thread(self._stack.environment)
        longest = await self._until_ready(environment) + 0.5
        moments = [longest * number / (_STARTS - 1) for number in range(_STARTS)]
        random.shuffle(moments)
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(moment: float) -> str | None:
            async with places:
                return await _ended(environment, moment)

        found = await asyncio.gather(*(one(moment) for moment in moments))
        return [wrong for wrong in found if wrong]

    async def _until_ready(self, environment: dict[str, str]) -> float:
        """Seconds that a start takes while another one runs, as in the trial."""
        took = await asyncio.gather(*(_ready(environment) for _ in range(_AT_ONCE)))
        return max(took)


async def _ready(environment: dict[str, str]) -> float:
    port, began = free_port(), time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = await _start(environment, port, output.fileno())
        try:
            async with asyncio.timeout(30), aiohttp.ClientSession(trust_env=False) as http:
                while not await _answers(http, port):  # noqa: ASYNC110 - it is another process
                    await asyncio.sleep(0.05)
            return time.monotonic() - began
        finally:
            process.terminate()
            await process.wait()


async def _answers(http: aiohttp.ClientSession, port: int) -> bool:
    try:
        async with http.get(f"http://127.0.0.1:{port}/readyz") as answer:
            return answer.status == 200
    except (aiohttp.ClientError, OSError):
        return False


async def _ended(environment: dict[str, str], moment: float) -> str | None:
    """Findings about a start that gets SIGTERM after this number of seconds."""
    with tempfile.NamedTemporaryFile() as output:
        process = await _start(environment, free_port(), output.fileno())
        await asyncio.sleep(moment)
        process.terminate()
        try:
            code = await asyncio.wait_for(process.wait(), _LIMIT)
        except TimeoutError:
            process.kill()
            await process.wait()
            return f"SIGTERM {moment:.2f} s after the start: still there {_LIMIT:.0f} s later"
        text = await asyncio.to_thread(Path(output.name).read_text, errors="replace")
    if code not in _SANE:
        return f"SIGTERM {moment:.2f} s after the start: exit code {code}"
    if "Traceback" in text:
        return f"SIGTERM {moment:.2f} s after the start: a traceback, {text.strip().splitlines()[-1]}"
    return None


async def _start(environment: dict[str, str], port: int, output: int) -> asyncio.subprocess.Process:
    argv = [sys.executable, "-m", "service", "serve"]
    env = environment | {"USER_PODS_PORT": str(port)}
    return await asyncio.create_subprocess_exec(
        *argv, env=env, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output
    )
