"""Visits of sleeping workspaces on real pods, beside bare scales of the same pods and plain KEDA.

Every time ends with the first 200 that the pod itself gave: through the gateway, or at the pod's own address.
"""

import asyncio
import random
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp

from bench.figures import Figure
from bench.ground import Ground
from stack.stack import ROOT, USERS

CROWD = 20
_PORT = 8080
_PLAIN = "plain001"
_LEASE = 30
_TRY = 0.01
"""Seconds between two attempts at a pod's own address."""
REST = (0.2, 1.2)
"""Random pause between two measurements, so that they do not synchronise with anything periodic."""
CONTROLS = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Accept": "text/html"}
"""Headers with which a browser marks a navigation by a person."""


@dataclass
class Visitor:
    """Visits the workspace `uuid` through the gateway at `url`, which admits requests with these headers."""

    uuid: str
    url: str
    headers: dict[str, str]


async def visits(ground: Ground, rounds: int, crowds: int) -> list[Figure]:
    """`rounds` visits of each kind in random order, and `crowds` bursts of many at once."""
    everybody = [await issue_link(ground, number) for number in range(CROWD)]
    _install_plain(ground)
    await ground.put_to_sleep([each.uuid for each in everybody])
    times: dict[str, list[float]] = {name: [] for name in ("bare", "program", "page", "person", "socket", "plain")}
    for kind in random.sample(_KINDS * rounds, len(_KINDS) * rounds):
        await asyncio.sleep(random.uniform(*REST))  # noqa: S311
        visitor, name = random.choice(everybody), random.choice(ground.bare)  # noqa: S311
        if kind == "bare":
            times["bare"].append(await timed(lambda name=name: scale(ground, name)))  # type: ignore[misc]
            await ground.put_to_sleep([], [name])
        elif kind == "plain":
            times["plain"].append(await timed(lambda: _push(ground)))
            await _end_plain(ground)
        else:
            await _ACTS[kind](ground, visitor, times)
            await ground.put_to_sleep([visitor.uuid])
    floor = Figure("bare scale, first 200", len(everybody), "s", times["bare"])
    return [
        floor,
        Figure.against(floor, "visit of a program, first 200", times["program"]),
        Figure.against(floor, "visit of a person, first 200 after the page", times["person"]),
        Figure.against(floor, "WebSocket through a cold start, first echo", times["socket"]),
        Figure.against(floor, "plain KEDA, first 200", times["plain"]),
        Figure("waiting page shown", len(everybody), "s", times["page"]),
        *await _crowd(ground, everybody, crowds),
    ]


async def _crowd(ground: Ground, everybody: list[Visitor], rounds: int) -> list[Figure]:
    seen: list[float] = []
    scaled: list[float] = []
    for _ in range(rounds):
        for kind in random.sample([seen, scaled], 2):
            await asyncio.sleep(5)
            began = time.perf_counter()
            if kind is seen:
                await asyncio.gather(*(get(ground, each, "/") for each in everybody))
                seen.append(time.perf_counter() - began)
                await ground.put_to_sleep([each.uuid for each in everybody])
            else:
                await asyncio.gather(*(scale(ground, name) for name in ground.bare[:CROWD]))
                scaled.append(time.perf_counter() - began)
                await ground.put_to_sleep([], ground.bare[:CROWD])
    floor = Figure(f"{CROWD} bare scales at once, last 200", len(everybody), "s", scaled)
    return [floor, Figure.against(floor, f"{CROWD} visits at once, last 200", seen)]


async def timed(act: Callable[[], Awaitable[object]]) -> float:
    """Seconds that it took."""
    began = time.perf_counter()
    await act()
    return time.perf_counter() - began


# --- the routes ---


async def _program(ground: Ground, visitor: Visitor, times: dict[str, list[float]]) -> None:
    times["program"].append(await timed(lambda: get(ground, visitor, "/")))


async def _person(ground: Ground, visitor: Visitor, times: dict[str, list[float]]) -> None:
    began = time.perf_counter()
    times["page"].append(await by_person(ground, visitor))
    times["person"].append(time.perf_counter() - began)


async def by_person(ground: Ground, visitor: Visitor) -> float:
    """Visit as a browser does: page, event stream until the pod answers, reload. Returns the seconds until the page."""
    began = time.perf_counter()
    headers = visitor.headers | CONTROLS
    async with ground.http.get(visitor.url, headers=headers, raise_for_status=False) as page:
        await page.read()
        if page.status != 503:
            raise RuntimeError(f"no waiting page, but {page.status}")
    shown = time.perf_counter() - began
    async with ground.http.get(visitor.url + "/.user-pods/wake", headers=visitor.headers) as stream:
        async for line in stream.content:
            if line.startswith(b"event: answers"):
                break
    async with ground.http.get(visitor.url, headers=headers) as answer:
        await answer.read()
    return shown


async def _socket(ground: Ground, visitor: Visitor, times: dict[str, list[float]]) -> None:
    began = time.perf_counter()
    async with ground.http.ws_connect(visitor.url + "/ws", headers=visitor.headers) as socket:
        await socket.send_str("x")
        await socket.receive_str()
        times["socket"].append(time.perf_counter() - began)


_ACTS = {"program": _program, "person": _person, "socket": _socket}
_KINDS = ["bare", "plain", *_ACTS]


async def get(ground: Ground, visitor: Visitor, path: str) -> None:
    """A program's visit."""
    async with ground.http.get(visitor.url + path, headers=visitor.headers) as answer:
        await answer.read()


async def scale(ground: Ground, name: str) -> None:
    """Scale up a bare Deployment, until its pod gives its first 200."""
    await ground.scale(name, 1)
    await _answers(ground, name)


async def _push(ground: Ground) -> None:
    async with ground.redis.pipeline(transaction=True) as pipe:
        await pipe.rpush(f"queue:{_PLAIN}", "wake").expire(f"queue:{_PLAIN}", _LEASE).execute()
    await _answers(ground, _PLAIN)


async def _answers(ground: Ground, name: str) -> None:
    """Wait until the pod gives its first 200, at its own address."""
    url = f"http://{await ground.arrivals.address(name)}:{_PORT}/"
    while True:
        try:
            async with ground.http.get(url) as answer:
                await answer.read()
                return
        except aiohttp.ClientConnectorError:
            await asyncio.sleep(_TRY)


# --- what is visited ---


async def issue_link(ground: Ground, number: int) -> Visitor:
    """Create a workspace, and sign its user in."""
    created = await ground.call("POST", "/session/create", {"user_id": f"visitor-{number}@example.com"})
    uuid = str(created["uuid"])
    opened = urlsplit(str((await ground.call("POST", f"/session/{uuid}/open"))["url"]))
    url = f"http://127.0.0.1:{opened.port}"
    async with ground.http.get(
        f"{url}{opened.path}?{opened.query}", headers={"Host": opened.netloc}, allow_redirects=False
    ) as entered:
        cookie = entered.headers["Set-Cookie"].split(";")[0]
    return Visitor(uuid, url, {"Host": opened.netloc, "Cookie": cookie})


def _install_plain(ground: Ground) -> None:
    """The chart without the service, which leaves it to KEDA."""
    cluster = ground.stack.cluster
    argv = [str(cluster.tools.path("helm")), "install", f"user-{_PLAIN}", str(ROOT / "chart" / "user-pod")]
    argv += ["--namespace", USERS, "--kubeconfig", str(cluster.kubeconfig), "--values", str(ground.stack.values)]
    argv += ["--set", f"redis.address=127.0.0.1:{cluster.port('redis')},autoscaling.cooldownPeriod=1"]
    subprocess.run(argv, check=True, capture_output=True)


async def _end_plain(ground: Ground) -> None:
    await ground.redis.delete(f"queue:{_PLAIN}")
    await ground.arrivals.gone(_PLAIN)
