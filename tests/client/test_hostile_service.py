"""What the command line makes of a service, or somebody in its place, that answers with whatever harms."""

import asyncio
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import service.web
from tests.client.conftest import Connect, Run, ServeAlone
from user_pods_client import NoAnswer, UnexpectedAnswer, call

EVIL = "\x1b]0;evil\x07\x9b2J\u202e"
DOCUMENT = json.loads((Path(service.web.__file__).parent / "static" / "openapi.json").read_text())
COMMANDS = (
    "whoami", "list", "list -o name", "show ann", "show ann -o yaml", "create ann", "create ann -o name",
    "create ann --profile x --group y", "delete ann -y", "profiles", "profiles -o name", "open ann --no-browser",
    "wake ann --no-wait", "sleep ann", "extend ann 1h", "keep ann 1h", "revoke ann -y", "wait ann --timeout 1s",
    "why ann", "history ann", "logs ann", "top", "top -o name", "doctor", "doctor -o name", "doctor --fix -y",
    "upgrade --status", "upgrade --status -o name", "upgrade ann", "upgrade --all -y --no-wait", "audit",
    "audit -o name", "plan",
)  # fmt: skip


def evil(value: Any) -> Any:
    """The same with something harmful in each text that is no time."""
    if isinstance(value, dict):
        return {name: evil(each) for name, each in value.items()}
    if isinstance(value, list):
        return [evil(each) for each in value]
    if not isinstance(value, str):
        return value
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return value + EVIL
    return value


def answers() -> list[tuple[str, re.Pattern[str], int, Any]]:
    found = []
    for path, operations in DOCUMENT["paths"].items():
        pattern = re.compile(re.sub(r"\{[^}]*\}", "[^/]+", path))
        for method, operation in operations.items():
            status, answer = next(each for each in operation["responses"].items() if each[0].startswith("2"))
            content = answer.get("content", {}).get("application/json", {})
            examples = [each["value"] for each in content.get("examples", {}).values()]
            found.append((method.upper(), pattern, int(status), content.get("example", next(iter(examples), None))))
    return found


async def answer(request: web.Request) -> web.StreamResponse:
    for method, pattern, status, body in answers():
        if request.method == method and pattern.fullmatch(request.path):
            said = evil(body)
            if isinstance(said, dict) and "cursor" in said:
                said["cursor"] = None  # or the list would go on for ever
            return web.json_response(said, status=status) if said is not None else web.Response(status=status)
    problem = {"type": "/problems/not-found", "title": "T", "status": 404, "detail": "nothing" + EVIL}
    return web.json_response(problem, status=404, content_type="application/problem+json")


@pytest.mark.parametrize("command", COMMANDS)
async def test_nothing_that_a_service_says_reaches_the_terminals_controls(
    run: Run, serve_alone: ServeAlone, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("USER_PODS_URL", await serve_alone(answer))
    done = await run(*command.split())
    assert done.out + done.err
    assert done.code != 1, done.err
    assert not {"\x1b", "\x07", "\x9b"} & {*done.out + done.err}


@pytest.mark.parametrize("status", [200, 500])
async def test_an_answer_that_never_ends_is_given_up(
    connect: Connect, serve_alone: ServeAlone, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(call, "_MOST_BYTES", 1 << 20)

    async def flood(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(status=status)
        await answer.prepare(request)
        while True:
            await answer.write(b" " * 65536)

    pods = connect(await serve_alone(flood), retries=0)
    with pytest.raises(UnexpectedAnswer, match="more than 1 MB"):
        await pods.call("whoami")
    if status == 500:
        with pytest.raises(UnexpectedAnswer, match="more than 1 MB"):
            await pods.all_of("events", "abc123xy")


async def test_an_answer_that_trickles_is_given_up_after_the_timeout(connect: Connect, serve_alone: ServeAlone) -> None:
    async def trickle(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(b" ")
            await asyncio.sleep(0.05)

    pods = connect(await serve_alone(trickle), retries=0, timeout=0.5)
    async with asyncio.timeout(20):
        with pytest.raises(NoAnswer, match="in time"):
            await pods.call("whoami")
