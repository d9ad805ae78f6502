"""What the doctor finds, on a page: looked for on request, and mended by those who may."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import NoReturn
from urllib.parse import quote, urlencode

import pytest
from aiohttp import ClientResponse

from service.dashboard import findings as findings_page
from service.dashboard.findings import Place, session_path
from service.domain.diagnosis.finding import Finding, Severity
from service.domain.diagnosis.ports import ObjectFacts
from service.domain.errors import RedisUnavailable
from service.domain.health import Health
from service.domain.names import SessionId, release_name
from service.domain.permissions import CallerRole
from service.domain.release import Release, ReleaseState
from tests.dashboard.conftest import FRONTEND, OPERATOR, VIEWER, Board, serving
from tests.dashboard.test_list import HOSTILE
from tests.dashboard.test_live import event, following
from tests.dashboard.test_overview import words
from tests.domain.conftest import World
from user_pods_client.cli import doctor as doctor_command

FINDINGS, MEND, LOOK = "/dashboard/findings", "/dashboard/findings/mend", "/dashboard/findings/live"
NOBODY = SessionId("nobody00")


async def stuck(world: World) -> SessionId:
    """A session whose release a dead helm has left pending, which can be mended."""
    uuid = (await world.provisioner.create("ann@example.com")).uuid
    release = Release(release_name(uuid), 1, ReleaseState.PENDING_INSTALL, datetime.now(UTC) - timedelta(hours=1))
    world.cluster.change(replace(world.cluster.workload(uuid), release=release))
    return uuid


async def test_nothing_is_looked_for_before_somebody_asks(board: Board, world: World) -> None:
    await stuck(world)
    visitor = await board.visitor(VIEWER)
    assert "Nobody has looked within the last week." in await visitor.read(FINDINGS)
    assert (await world.diagnoses.read()).last is None
    page = words(await visitor.read(f"{FINDINGS}?look=now"))
    assert re.search(r"Looked at [-0-9]+ [:0-9]+ UTC: \d errors?, \d warnings?[.;]", page)
    # Who comes later sees what was found, and when.
    last = world.diagnoses.kept.last
    assert last is not None
    at = f"Looked at {last.at:%Y-%m-%d %H:%M:%S} UTC"
    assert at in await visitor.read(FINDINGS)


async def test_every_replica_shows_what_any_of_them_has_found_last(world: World) -> None:
    uuid = await stuck(world)
    async with serving(world) as one, serving(world) as other:
        await (await one.visitor(VIEWER)).read(f"{FINDINGS}?look=now")
        visitor = await other.visitor(VIEWER)
        assert f"/dashboard/sessions/{uuid}" in await visitor.read(FINDINGS)
        at = datetime.now(UTC)
        await world.diagnoses.begin(at)
        page = await visitor.read(FINDINGS)
        assert f"Somebody has been looking since {at:%Y-%m-%d %H:%M:%S} UTC." in page
        assert f"/dashboard/sessions/{uuid}" in page


async def test_without_redis_it_shows_what_the_process_itself_has_found_and_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> NoReturn:
        raise RedisUnavailable

    uuid = await stuck(world)
    async with serving(world) as one, serving(world) as other:
        for name in ("read", "begin", "keep"):
            monkeypatch.setattr(world.diagnoses, name, fail)
        looks, visits = await one.visitor(VIEWER), await other.visitor(VIEWER)
        await looks.read(f"{FINDINGS}?look=now")
        page = await looks.read(FINDINGS)
        assert f"/dashboard/sessions/{uuid}" in page
        assert "Redis does not answer" in page
        page = await visits.read(FINDINGS)
        assert "Redis does not answer" in page
        assert "This process has not looked yet." in page
        monkeypatch.undo()
        # What could not be kept is kept as soon as somebody looks at it again.
        await looks.read(FINDINGS)
        page = await visits.read(FINDINGS)
        assert f"/dashboard/sessions/{uuid}" in page
        assert "Redis does not answer" not in page


async def test_each_finding_says_what_it_means_and_what_to_do(board: Board, world: World) -> None:
    uuid = await stuck(world)
    page = await (await board.visitor(VIEWER)).read(f"{FINDINGS}?look=now")
    (finding,) = [each for each in world.diagnoses.kept.last.findings if each.fixable]  # type: ignore[union-attr]
    for part in (finding.check, finding.what, finding.meaning, finding.next_step):
        assert part.replace("`", "") in unescape(words(page)).replace(" ,", ",").replace(" .", ".")
    assert f'href="/dashboard/sessions/{uuid}"' in page
    assert "<code>user-pods create ann@example.com</code>" in page
    assert "/mend" not in page, "a viewer mends nothing"


async def test_a_healthy_system_is_in_order(board: Board) -> None:
    page = words(await (await board.visitor(VIEWER)).read(f"{FINDINGS}?look=now"))
    assert re.search(r"all that was checked is in order; not checked: \d\.", page)
    assert re.search(r"What is in order \(\d\d\)", page)
    unseen, fine = page.split("What was not checked")[1].split("What is in order")
    assert "cannot be seen from here" in unseen
    assert "cannot be seen from here" not in fine


async def test_mending_is_confirmed_told_and_audited(board: Board, world: World) -> None:
    uuid = await stuck(world)
    visitor = await board.visitor(OPERATOR)
    page = await visitor.read(f"{FINDINGS}?look=now")
    (path,) = re.findall(rf'href="({MEND}\?[^"]*)"', page)
    path = path.replace("&amp;", "&")
    asked = await visitor.read(path)
    assert "Mend this finding?" in asked
    assert world.cluster.workload(uuid).release.unfinished  # type: ignore[union-attr]
    check = re.findall(r'name="check" value="([^"]*)"', asked)[0]
    answer = await visitor.submit(path, check=check, subject=uuid)
    assert answer.status == 200
    assert "It is mended" in await answer.text()
    assert not world.cluster.workload(uuid).release.unfinished  # type: ignore[union-attr]
    # A second time, there is nothing to do.
    again = await visitor.submit(path, check=check, subject=uuid)
    assert "There is nothing to mend" in await again.text()
    entries = [each for each in await board.entries(3) if each.operation == "fix"]
    assert [(each.uuid, each.result, each.role) for each in entries] == [(uuid, "done", OPERATOR)] * 2
    page = words(await visitor.read(f"{FINDINGS}?look=now"))
    assert "all that was checked is in order" in page


@pytest.mark.parametrize(
    ("who", "looks", "mends"),
    [
        ((OPERATOR, None), 200, 200), ((VIEWER, None), 200, 403), ((FRONTEND, None), 403, 403),
        ((OPERATOR, "ann@example.com"), 403, 403), ((VIEWER, "ann@example.com"), 403, 403),
    ],
)  # fmt: skip
async def test_who_may_look_and_mend(
    board: Board, world: World, who: tuple[CallerRole, str | None], looks: int, mends: int
) -> None:
    await world.provisioner.create("ann@example.com")
    visitor = await board.visitor(*who)
    looked = await visitor.get(f"{FINDINGS}?look=now")
    assert looked.status == looks
    assert ("Findings</a>" in await looked.text()) == (looks == 200)
    place = {"check": "redis-keys", "subject": NOBODY}
    path = f"{MEND}?check=redis-keys&subject={NOBODY}"
    assert (await visitor.get(path)).status == mends
    if mends == 200:
        assert (await visitor.submit(path, **place)).status == 200
    else:
        session = (await visitor.read("/dashboard")).partition('name="form" value="')[2].partition('"')[0]
        assert (await visitor.post(MEND, {"form": session, **place})).status == 403


async def test_a_form_of_somebody_else_mends_nothing(board: Board, world: World) -> None:
    uuid = await stuck(world)
    visitor, place = await board.visitor(OPERATOR), {"check": "installation", "subject": uuid}
    assert (await visitor.post(MEND, {"form": "x", **place})).status == 403
    asked = await visitor.read(f"{MEND}?{urlencode(place)}")
    form = asked.partition('name="form" value="')[2].partition('"')[0]
    cross = await visitor.post(MEND, {"form": form, **place}, **{"Sec-Fetch-Site": "cross-site"})
    assert cross.status == 403
    assert world.cluster.workload(uuid).release.unfinished  # type: ignore[union-attr]


@pytest.mark.parametrize("query", ["", "?check=a", "?subject=b", f"?check={'x' * 41}&subject=b", "?check=&subject=b"])
async def test_an_address_that_names_no_finding_is_refused(board: Board, query: str) -> None:
    answer = await (await board.visitor(OPERATOR)).get(f"{MEND}{query}")
    assert answer.status == 422
    assert "names no finding" in await answer.text()


async def test_what_a_finding_is_about_is_only_text(board: Board) -> None:
    visitor = await board.visitor(OPERATOR)
    path = f"{MEND}?check={quote('<i>')}&subject={quote(HOSTILE)}%ff%ed%a0%80"
    assert HOSTILE not in await visitor.read(path)
    answer = await visitor.submit(path, check="<i>", subject=HOSTILE)
    assert (answer.status, HOSTILE in await answer.text()) == (200, False)


async def test_a_check_that_cannot_run_is_a_finding(world: World) -> None:
    async def fail() -> None:
        raise RedisUnavailable

    async with serving(world, health=Health({"redis": fail}, seconds=0)) as board:
        page = words(await (await board.visitor(VIEWER)).read(f"{FINDINGS}?look=now"))
    assert "Error parts: redis" in page


# --- while it looks ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def slow(board: Board, world: World, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """What needs the cluster's objects waits until this is set."""
    go, read = asyncio.Event(), world.inventory.objects

    async def wait() -> Sequence[ObjectFacts]:
        await go.wait()
        return await read()

    monkeypatch.setattr(world.inventory, "objects", wait)
    return go


def plain(markup: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", markup).split())


async def of_name(stream: ClientResponse, name: str, text: str = "") -> str:
    """The next event of that name that contains the text."""
    while True:
        found = await event(stream)
        if found[0] == name and text in plain(found[1]):
            return found[1]


async def test_a_look_says_what_it_still_looks_at_and_what_it_has_found(
    board: Board, world: World, slow: asyncio.Event
) -> None:
    uuid = await stuck(world)
    world.redis.denied = ["run scripts"]
    visitor = await board.visitor(OPERATOR)
    page = await visitor.read(FINDINGS)
    assert "sse-connect" not in page
    # The button leads to a page that follows the look, without having begun one: any replica may serve the stream.
    asked = await visitor.get(f"{FINDINGS}?look=now", **{"HX-Request": "true"})
    page = await asked.text()
    assert f'sse-connect="{LOOK}" sse-close="done"' in page
    assert board.doctor.running is None
    stream = await following(visitor, LOOK)
    # What failed is told at once.
    looking = plain(await of_name(stream, "looking", "Error redis-rights: run scripts."))
    done, total = map(int, re.findall(r"(\d+) of (\d+) checks are done\.", looking)[0])
    assert 0 < done < total
    assert {"releases", "edits"} <= set(looking.partition("Still looking: ")[2].partition(".")[0].split(", "))
    assert "for 5 s: " in plain(await of_name(stream, "looking", "Still looking, "))
    slow.set()
    found = await of_name(stream, "found")
    assert f"/dashboard/sessions/{uuid}" in found
    assert f"{MEND}?check=installation" in found
    assert (await event(stream))[0] == "done"
    assert await stream.read() == b""


async def test_who_comes_meanwhile_joins_the_look_of_somebody_else(
    board: Board, world: World, slow: asyncio.Event
) -> None:
    uuid = await stuck(world)
    one, other = await board.visitor(OPERATOR), await board.visitor(VIEWER)
    first = await following(one, LOOK)
    await of_name(first, "looking")
    run = board.doctor.running
    assert run is not None
    page = await other.read(FINDINGS)
    assert f"Somebody began this look at {run.began:%Y-%m-%d %H:%M:%S} UTC." in page
    second = await following(other, LOOK)
    assert "Somebody began this look" in await of_name(second, "looking")
    slow.set()
    found = await of_name(second, "found")
    assert f"/dashboard/sessions/{uuid}" in found
    assert MEND not in found, "a viewer mends nothing"
    assert MEND in await of_name(first, "found")
    kept = (await world.diagnoses.read()).last
    assert kept is not None
    assert kept.at == (await run.diagnosis()).at


async def test_a_frontend_follows_no_look(board: Board) -> None:
    assert (await (await board.visitor(FRONTEND)).get(LOOK)).status == 403
    assert board.doctor.running is None


@pytest.mark.parametrize(
    ("check", "subject", "leads"),
    [("charts", "revision", False), ("storage-classes", "standard", False), ("pods", "abc123xy", True)],
)
def test_only_a_finding_about_a_session_leads_to_one(check: str, subject: str, leads: bool) -> None:
    finding = Finding(check=check, subject=subject, severity=Severity.WARNING, what="", meaning="", next_step="")
    assert (session_path(finding) is not None, Place(check, subject).uuid is not None) == (leads, leads)


def test_the_page_and_the_command_line_agree_on_what_was_not_checked() -> None:
    assert findings_page._UNSEEN == doctor_command._UNSEEN
