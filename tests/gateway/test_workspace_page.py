"""`/.user-pods/`: a workspace's state and what its user can do about it, whether its pod runs or not."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from service.domain.expiry import ExpiryRule
from service.domain.history import Entry, Kind
from service.domain.journal import Failed, Ready, Slept, Woken
from service.domain.metrics import ActivitySource
from service.domain.names import SessionId
from service.domain.sleep_cause import SleepReason
from service.gateway.texts import catalogue
from service.gateway.workspace_page.view import view
from tests.domain.conftest import World
from tests.gateway.conftest import Headers, House, answer
from tests.waiting import until

_PAGE = "/.user-pods/"
_AT = datetime(2026, 11, 26, 13, 0, tzinfo=UTC)


async def shown(house: House, uuid: SessionId, path: str = _PAGE, **headers: str) -> str:
    status, body = await answer(house, path, {**await house.person(uuid), **headers})
    assert status == 200, body
    return body.decode()


async def post(house: House, uuid: SessionId, form: str, **more: str) -> tuple[int, Headers, str]:
    """Status, headers and body of the answer to a form of the page."""
    sent = await house.headers(
        uuid,
        Sec_Fetch_Site="same-origin",
        Sec_Fetch_Mode="navigate",
        Sec_Fetch_Dest="document",
        Content_Type="application/x-www-form-urlencoded",
        Accept="text/html",
        **more,
    )
    async with house.http.post(house.url(_PAGE), headers=sent, data=form.encode(), allow_redirects=False) as found:
        return found.status, dict(found.headers), await found.text()


def state(page: str) -> str:
    found = re.search(r'<p class="state">(.*?)</p>', page)
    assert found is not None, page
    return found[1]


async def test_a_sleeping_workspace_has_a_page_that_does_not_wake_it(house: House) -> None:
    uuid = await house.session()
    page = await shown(house, uuid)
    assert state(page) == "Asleep"
    assert '<input type="hidden" name="action" value="wake">' in page
    assert "Sleep now" not in page
    await asyncio.sleep(0.05)
    assert house.world.cluster.workload(uuid).replicas == 0
    assert not house.world.queues.queue(uuid).is_wanted


async def test_a_workspace_that_will_be_deleted_says_so_and_can_be_kept(house: House) -> None:
    uuid = await house.session()
    assert "will be deleted" not in await shown(house, uuid)
    rule = ExpiryRule(lifetime=timedelta(days=10), warning=timedelta(days=3))
    house.world.queries._expiry_rule = rule
    record = house.world.store.sessions[uuid]
    old = datetime.now(UTC) - timedelta(days=9)
    house.world.store.sessions[uuid] = replace(record, created_at=old)
    house.world.cluster.change(replace(house.world.cluster.workload(uuid), created_at=old))
    page = await shown(house, uuid)
    assert "This workspace will be deleted on <time" in page
    assert "when they reach a certain age" in page
    assert '<input type="hidden" name="action" value="keep">' in page
    status, headers, _ = await post(house, uuid, "action=keep")
    assert (status, headers["Location"]) == (303, f"{_PAGE}?done=keep")
    page = await shown(house, uuid, f"{_PAGE}?done=keep")
    assert "it is not deleted for now" in page
    assert "will be deleted" not in page


async def test_an_awake_workspace_shows_when_it_sleeps_and_why_it_is_awake(house: House) -> None:
    uuid = await house.awake()
    await house.world.activity.heartbeat(uuid, "input")
    page = await shown(house, uuid)
    assert state(page) == "Awake"
    sleeps = re.search(r'id="left" data-at="([^"]+)" data-now="([^"]+)"', page)
    assert sleeps is not None
    left = (datetime.fromisoformat(sleeps[1]) - datetime.fromisoformat(sleeps[2])).total_seconds()
    assert 100 < left < 200
    assert "It is awake because you used it at <time" in page


async def test_looking_at_the_page_is_no_activity(house: House) -> None:
    uuid = await house.awake()
    await shown(house, uuid)
    await asyncio.sleep(0.05)
    assert not house.metrics.notes


async def test_the_page_is_in_the_readers_language(house: House) -> None:
    uuid = await house.awake()
    page = await shown(house, uuid, **{"Accept-Language": "de"})
    assert (state(page), "Für 4 Stunden" in page) == ("Wach", True)


async def test_stay_awake_extends_and_leads_back_to_the_page(house: House) -> None:
    uuid = await house.awake()
    status, headers, _ = await post(house, uuid, "action=stay&seconds=3600")
    assert (status, headers["Location"]) == (303, "/.user-pods/?done=stay")
    kept = (await house.world.queries.status(uuid)).record.kept_until
    assert kept is not None
    assert timedelta(minutes=59) < kept - datetime.now(UTC) <= timedelta(hours=1)
    page = await shown(house, uuid, headers["Location"])
    assert "Done: it stays awake." in page
    assert "somebody asked for it to stay awake until <time" in page


async def test_sleep_now_sends_the_pod_to_sleep(house: House) -> None:
    uuid = await house.awake()
    status, headers, _ = await post(house, uuid, "action=sleep", X_Request_Id="request-1234")
    assert (status, headers["Location"]) == (303, "/.user-pods/?done=sleep")
    assert house.world.cluster.workload(uuid).replicas == 0
    asked = (await house.world.queries.status(uuid)).record.sleep_request
    assert asked is not None
    assert asked.request == "request-1234"


async def test_restart_replaces_the_pod_and_leads_to_the_workspace(house: House) -> None:
    uuid = await house.awake()
    old = house.workspaces[uuid]
    restarting = asyncio.create_task(post(house, uuid, "action=restart"))
    await until(lambda: house.world.cluster.workload(uuid).replicas == 0)
    await house.fall_asleep(uuid)
    status, headers, _ = await restarting
    assert (status, headers["Location"]) == (303, "/")
    await until(lambda: house.workspaces[uuid] is not old)


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ("action=stay", 400),
        ("action=stay&seconds=-5", 400),
        ("action=stay&seconds=0", 400),
        ("action=stay&seconds=1e9", 400),
        ("action=stay&seconds=99999999999999999999", 400),
        ("action=stay&seconds=%D9%A3", 400),
        ("action=delete", 400),
        ("", 400),
        ("action=sleep&" + "x" * 8000, 413),
    ],
)
async def test_other_forms_are_refused_and_change_nothing(house: House, form: str, status: int) -> None:
    uuid = await house.awake()
    assert (await post(house, uuid, form))[0] == status
    assert house.world.cluster.workload(uuid).replicas == 1


async def test_longer_than_the_operator_allows_is_refused_with_a_page(house: House) -> None:
    uuid = await house.awake()
    status, _, body = await post(house, uuid, "action=stay&seconds=100000")
    assert (status, "<h1>That is too long</h1>" in body) == (422, True)


async def test_only_what_the_operator_allows_is_offered(house: House) -> None:
    uuid = await house.awake()
    session = await house.world.queries.status(uuid)
    assert view(session, [], longest_extension=8 * 3600).hours == [1, 4]
    assert view(session, [], longest_extension=3600).hours == [1]
    assert view(session, [], longest_extension=60).hours == []


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}],
    ids=["another user's page", "another site", "an old browser"],
)
async def test_a_page_of_another_host_cannot_press_the_buttons(house: House, headers: Headers) -> None:
    uuid = await house.awake()
    sent = {
        **await house.headers(uuid),
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "document",
        "Content-Type": "application/x-www-form-urlencoded",
        **headers,
    }
    assert (await answer(house, _PAGE, sent, "POST", data=b"action=sleep"))[0] == 403
    assert house.world.cluster.workload(uuid).replicas == 1


async def test_strangers_learn_nothing(house: House) -> None:
    uuid, other = await house.awake(), await house.awake("bob")
    for headers in ({"Host": house.host(uuid)}, {**await house.person(other), "Host": house.host(uuid)}):
        assert (await answer(house, _PAGE, headers))[0] == 401
        assert (await answer(house, _PAGE, headers, "POST", data=b"action=sleep"))[0] in (401, 403)
    assert house.world.cluster.workload(uuid).replicas == 1


async def test_a_sleeping_workspace_cannot_be_kept_awake(house: House) -> None:
    uuid = await house.session()
    status, _, body = await post(house, uuid, "action=stay&seconds=3600")
    assert (status, "<h1>Your workspace is asleep</h1>" in body) == (409, True)


async def test_an_operators_pause_is_told(house: House) -> None:
    uuid = await house.awake()
    house.world.cluster.change(replace(house.world.cluster.workload(uuid), paused="an operator has paused it"))
    assert "an operator has paused it" in (await shown(house, uuid)).partition("<details>")[2]
    status, _, body = await post(house, uuid, "action=sleep")
    assert (status, "<h1>The workspace is paused</h1>" in body) == (409, True)


async def test_the_history_says_when_and_why_it_slept_and_woke(house: House) -> None:
    uuid = await house.session()
    times = [_AT + timedelta(minutes=minutes) for minutes in (0, 0, 95, 100, 101, -10, -20)]
    for event in (
        Woken(uuid=uuid, user=None, at=times[0], by="visit"),
        Ready(uuid=uuid, user=None, at=times[1] + timedelta(seconds=4.2), seconds=4.2, pod="one"),
        Slept(uuid=uuid, user=None, at=times[2], why=SleepReason.IDLE, seconds=5700, pod="one", interrupted=True),
        Woken(uuid=uuid, user=None, at=times[3], by="ci <bot>"),
        Failed(uuid=uuid, user=None, at=times[4], doing="wake", reason="ErrImagePull: <b>no</b>"),
        Slept(uuid=uuid, user=None, at=times[5], why=SleepReason.ASKED, by="shop"),
        Slept(uuid=uuid, user=None, at=times[6], why=SleepReason.ASKED, by="visit"),
    ):
        await house.world.history.append(event)
    page = await shown(house, uuid)
    lines = re.findall(r"<li>(.*?)</li>", page.partition('<ul class="history">')[2], re.DOTALL)
    told = [" ".join(re.sub(r"<[^>]*>", " ", line).split()) for line in lines]
    assert told[1:] == [
        "2026-11-26 14:40 UTC Woke up: “ci &lt;bot&gt;” asked for it",
        (
            "2026-11-26 14:35 UTC Went to sleep: nobody used it awake for 1 h 35 min"
            " it ended a program that was still running"
        ),
        "2026-11-26 13:00 UTC Woke up: somebody opened it ready after 4.2 s",
        "2026-11-26 12:50 UTC Went to sleep: “shop” asked for it",
        "2026-11-26 12:40 UTC Went to sleep: somebody asked for it on this workspace&#39;s page",
    ]
    assert "bereit nach 4,2 s" in await shown(house, uuid, **{"Accept-Language": "de"})
    assert told[0] == "2026-11-26 14:41 UTC Did not start ErrImagePull: &lt;b&gt;no&lt;/b&gt;"


@pytest.mark.parametrize("reason", SleepReason)
async def test_every_cause_of_a_sleep_has_its_text(house: House, reason: SleepReason) -> None:
    session = await house.world.queries.status(await house.session())
    (line,) = view(session, [Entry(kind=Kind.SLEEP, at=_AT, why=reason)], longest_extension=1).history
    assert line.cause in catalogue.LANGUAGES["en"]


@pytest.mark.parametrize("source", [*ActivitySource, "wake", "extension", "queue", "cooldown", "other"])
def test_every_reason_to_be_awake_has_its_text(source: str) -> None:
    assert "{time}" in catalogue.LANGUAGES["en"][f"own.why.{source}"] or source in ("connection", "queue")


async def test_a_removed_workspace_has_a_page_too(house: House) -> None:
    uuid = await house.session()
    house.world.cluster.change(
        replace(house.world.cluster.workload(uuid), release=None, deployed=False, has_scaler=False)
    )
    page = await shown(house, uuid)
    assert state(page) == "Removed"
    assert catalogue.LANGUAGES["en"]["page.removed.ask"] in page
    assert 'href="">Try again</a>' in page
    assert "Reference: <code>" in page, "for the operator"
    assert 'href="/"' not in page, "it leads nowhere"


async def test_the_page_of_a_removed_workspace_leads_to_the_start_page(world: World) -> None:
    async with House(world, home="https://app.example.com/start").open() as house:
        uuid = await house.session()
        house.world.cluster.change(
            replace(house.world.cluster.workload(uuid), release=None, deployed=False, has_scaler=False)
        )
        page = await shown(house, uuid)
        assert catalogue.LANGUAGES["en"]["page.removed.next"] in page
        assert 'href="https://app.example.com/start">Go to your start page</a>' in page


async def test_programs_that_use_another_method_are_told(house: House) -> None:
    uuid = await house.session()
    assert (await answer(house, _PAGE, await house.headers(uuid), "DELETE"))[0] == 405


@pytest.fixture
async def house(world: World) -> AsyncIterator[House]:
    async with House(world).open() as house:
        yield house


async def test_a_restart_is_finished_although_its_tab_is_closed_meanwhile(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = await house.awake()
    waiting, gone = asyncio.Event(), asyncio.Event()

    async def until_gone(*_: object) -> None:
        waiting.set()
        await gone.wait()

    monkeypatch.setattr(house.world.activity, "_until_gone", until_gone)
    asking = asyncio.create_task(post(house, uuid, "action=restart"))
    await waiting.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await until(lambda: house.gateway.connections.count == 0)
    gone.set()
    await until(lambda: house.starts == 2)


async def test_what_is_done_on_the_page_is_in_the_audit(house: House) -> None:
    uuid = await house.awake()
    await shown(house, uuid)
    for form in ("action=stay&seconds=3600", "action=stay&seconds=3600", "action=sleep", "action=stay&seconds=60"):
        await post(house, uuid, form)
    assert (await post(house, uuid, "action=delete"))[0] == 400
    await post(house, uuid, "action=wake&to=/")
    assert (await answer(house, "/.user-pods/sign-out", await house.headers(uuid), "POST"))[0] == 204
    assert (await answer(house, "/.user-pods/sign-out", {"Host": house.host(uuid)}, "POST"))[0] == 204
    assert house.audited.short() == [
        ("visit", "extend", uuid, "done"),
        ("visit", "sleep", uuid, "done"),
        ("visit", "extend", uuid, "session-asleep"),
        ("visit", "wake", uuid, "done"),
        ("visit", "sign_out", uuid, "done"),
    ], "an equal one within a minute is counted, and a browser that is not signed in does nothing"
    assert {(each.role, each.key, each.person) for each in house.audited.entries} == {("user", None, None)}


async def test_a_restart_is_in_the_audit_when_it_is_over(house: House) -> None:
    uuid = await house.awake()
    restarting = asyncio.create_task(post(house, uuid, "action=restart"))
    await until(lambda: house.world.cluster.workload(uuid).replicas == 0)
    await house.fall_asleep(uuid)
    await restarting
    assert house.audited.short() == [("visit", "restart", uuid, "done")]
