"""What can be done to a session: confirmed, allowed by the API's table, audited, and told."""

import asyncio
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest

from service.dashboard.actions import ACTIONS
from service.domain.expiry import ExpiryRule
from service.domain.names import SessionId
from service.domain.permissions import RULES, CallerRole
from service.domain.progress import ProgressUpdate, Stage
from service.web.access import OPEN, OPEN_BELOW
from tests.dashboard.conftest import FRONTEND, OPERATOR, VIEWER, Board, Visitor, serving
from tests.domain.conftest import World
from tests.waiting import until

OWN, OTHER = "ann@example.com", "bob@example.com"
FIELDS = {"extend": {"hours": "4"}}


async def awake(world: World, user_id: str) -> SessionId:
    uuid = (await world.provisioner.create(user_id)).uuid
    await world.activity.wake(uuid)
    await world.cluster.scale(uuid, 1)
    return uuid


def href(uuid: str, name: str = "") -> str:
    return f"/dashboard/sessions/{uuid}{'/' if name else ''}{name}"


async def done(visitor: Visitor, uuid: str, name: str, **fields: str) -> str:
    """Do it, and read the page that says so."""
    answer = await visitor.submit(href(uuid, name), **{**FIELDS.get(name, {}), **fields})
    assert answer.status == 303, await answer.text()
    return await visitor.read(answer.headers["Location"])


async def test_sleep_wake_and_restart_do_what_the_api_does(board: Board, world: World) -> None:
    visitor, uuid = await board.visitor(OPERATOR), await awake(world, OWN)
    assert "It was sent to sleep." in await done(visitor, uuid, "sleep")
    assert world.cluster.workload(uuid).replicas == 0
    assert world.queues.queue(uuid).tokens == 0
    page = await done(visitor, uuid, "wake")
    assert "The wake was accepted." in page
    assert world.queues.queue(uuid).tokens == 1
    await world.cluster.scale(uuid, 1)
    assert "The restart was accepted." in await done(visitor, uuid, "restart")
    assert world.cluster.workload(uuid).replicas == 0
    assert world.queues.queue(uuid).tokens == 1
    assert [getattr(entry, "by", None) for entry in world.journal.entries][-1] == "operator-all"


async def test_a_session_is_kept_awake_for_the_chosen_time(board: Board, world: World) -> None:
    visitor, uuid = await board.visitor(OPERATOR), await awake(world, OWN)
    assert "It stays awake for that time." in await done(visitor, uuid, "extend", hours="4")
    kept = world.queues.sessions[uuid].kept_until
    assert kept is not None
    assert 3.9 < (kept - datetime.now(UTC)).total_seconds() / 3600 <= 4
    for hours in ("", "2", "-1", "4.0", "99", "x"):
        answer = await visitor.submit(href(uuid, "extend"), hours=hours)
        assert answer.status == 422
    assert world.queues.sessions[uuid].kept_until == kept


@pytest.mark.parametrize(("choice", "kept"), [("keep", True), ("delete", False), ("", True)])
async def test_a_delete_keeps_the_volume_unless_it_is_not_wanted(
    board: Board, world: World, choice: str, kept: bool
) -> None:
    visitor, uuid = await board.visitor(OPERATOR), await awake(world, OWN)
    page = await done(visitor, uuid, "delete", volume=choice)
    assert "The session was deleted." in page
    assert uuid not in world.queues.sessions
    assert world.cluster.workload(uuid).volume is kept


async def test_revoking_is_told_and_entered_in_the_history(board: Board, world: World) -> None:
    visitor, uuid = await board.visitor(OPERATOR), await awake(world, OWN)
    assert "All sign-ins are being refused." in await done(visitor, uuid, "revoke")
    assert world.cluster.workload(uuid).revoked_at is not None


async def test_opening_leads_into_the_workspace_and_nowhere_else(board: Board, world: World) -> None:
    visitor, uuid = await board.visitor(OPERATOR), await awake(world, OWN)
    asked = await visitor.get(href(uuid, "open"))
    origin = f"https://vs-code-{uuid}.example.com"
    assert f"form-action 'self' {origin};" in asked.headers["Content-Security-Policy"]
    answer = await visitor.submit(href(uuid, "open"))
    assert answer.headers["Location"].startswith(f"{origin}/.user-pods/enter?ticket=")
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    other = await visitor.get(href(uuid, "sleep"))
    assert "form-action 'self';" in other.headers["Content-Security-Policy"]


async def test_a_session_that_will_be_deleted_says_so_and_can_be_kept(board: Board, world: World) -> None:
    visitor, uuid = await board.visitor(FRONTEND, OWN), await awake(world, OWN)
    world.queries._expiry_rule = ExpiryRule(lifetime=timedelta(days=10), warning=timedelta(days=3))
    assert href(uuid, "keep") not in await visitor.read(href(uuid))
    old = datetime.now(UTC) - timedelta(days=9)
    world.queues.sessions[uuid] = replace(world.queues.sessions[uuid], created_at=old)
    world.cluster.change(replace(world.cluster.workload(uuid), created_at=old))
    page = await visitor.read(href(uuid))
    assert "This workspace will be deleted on" in page
    assert href(uuid, "keep") in page
    page = await done(visitor, uuid, "keep")
    assert "It is not deleted for now." in page
    assert "will be deleted" not in page


async def test_a_page_says_whether_the_release_is_out_of_date(board: Board, world: World) -> None:
    visitor, uuid = await board.visitor(VIEWER), await awake(world, OWN)
    assert "out of date" not in await visitor.read(href(uuid))
    world.cluster.change(replace(world.cluster.workload(uuid), revision="another"))
    assert "out of date: an upgrade" in await visitor.read(href(uuid))


async def test_a_page_offers_what_makes_sense_and_what_its_visitor_may(board: Board, world: World) -> None:
    uuid = await awake(world, OWN)

    async def offered(visitor: Visitor) -> list[str]:
        return re.findall(rf'href="{href(uuid)}/([a-z]+)"', await visitor.read(href(uuid)))

    operator, viewer = await board.visitor(OPERATOR), await board.visitor(VIEWER)
    assert await offered(operator) == ["open", "extend", "sleep", "restart", "revoke", "delete"]
    assert await offered(viewer) == []
    await world.activity.sleep(uuid)
    assert await offered(operator) == ["wake", "open", "revoke", "delete"]
    await world.releases.uninstall(uuid)
    assert await offered(operator) == ["delete"]
    assert await offered(await board.visitor(FRONTEND, OWN)) == ["delete"]


@pytest.mark.parametrize("name", ACTIONS)
async def test_who_may_do_what(board: Board, world: World, name: str) -> None:
    """The same as by the API, whose table decides: for every role, on one's own session and somebody else's."""
    assert ACTIONS[name].name in RULES
    for role, only, whose, expected in (
        (OPERATOR, None, OTHER, 303), (FRONTEND, None, OTHER, 303), (VIEWER, None, OTHER, 403),
        (FRONTEND, OWN, OWN, 303), (FRONTEND, OWN, OTHER, 404), (OPERATOR, OWN, OTHER, 404), (VIEWER, OWN, OWN, 403),
    ):  # fmt: skip
        uuids = {user: await awake(world, user) for user in (OWN, OTHER)}
        visitor = await board.visitor(role, only)
        token = (await board.sessions.read(next(iter(visitor.jar.values())))) or pytest.fail("not signed in")
        before = dict(world.queues.sessions), dict(world.cluster.workloads)
        fields = {"form": token.form_token, **FIELDS.get(name, {})}
        answer = await visitor.post(href(uuids[whose], name), fields)
        assert answer.status == expected, (role, only, whose)
        if expected == 303:
            continue
        assert (dict(world.queues.sessions), dict(world.cluster.workloads)) == before
        assert (await visitor.get(href(uuids[whose], name))).status == expected, "nor is it asked for"
        unknown = await visitor.post(href("00000000", name), fields)
        pages = [
            re.sub(f"<code>[0-9a-f]+</code>|{uuids[whose]}|00000000", "", await each.text())
            for each in (answer, unknown)
        ]
        assert pages[0] == pages[1]
        assert unknown.status == expected


@pytest.mark.parametrize("name", ACTIONS)
async def test_a_form_without_the_sessions_token_does_nothing(board: Board, world: World, name: str) -> None:
    visitor, other, uuid = await board.visitor(OPERATOR), await board.visitor(VIEWER), await awake(world, OWN)
    foreign = await board.sessions.read(next(iter(other.jar.values())))
    assert foreign is not None
    before = dict(world.queues.sessions), dict(world.cluster.workloads)
    for token in ({}, {"form": ""}, {"form": foreign.form_token}, {"form": "\u00e9"}):
        answer = await visitor.post(href(uuid, name), {**token, **FIELDS.get(name, {})})
        assert answer.status == 403, token
        assert "This form was refused" in await answer.text()
    own = await board.sessions.read(next(iter(visitor.jar.values())))
    assert own is not None
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "", "Origin": "https://evil.test"}):
        assert (await visitor.post(href(uuid, name), {"form": own.form_token}, **headers)).status == 403
    # A page of another site can make a browser load an address, but that only asks.
    assert (await visitor.get(href(uuid, name))).status == 200
    assert (dict(world.queues.sessions), dict(world.cluster.workloads)) == before
    assert (await board.browser().post(href(uuid, name), {"form": own.form_token})).status == 401


def test_every_page_asks_for_an_operation_of_the_apis_table(board: Board) -> None:
    for route in board.client.app.router.routes():
        name, path = route.name or "", route.resource.canonical if route.resource else ""
        if path.startswith("/dashboard") and path not in OPEN and not path.startswith(OPEN_BELOW):
            assert name.removeprefix("dashboard.").partition(".")[0] in RULES, path


async def test_actions_and_refusals_are_in_the_same_audit_as_the_apis(board: Board, world: World) -> None:
    operator, viewer, uuid = await board.visitor(OPERATOR), await board.visitor(VIEWER), await awake(world, OWN)
    await done(operator, uuid, "sleep")
    await viewer.get(href(uuid, "delete"))
    await done(operator, uuid, "revoke")
    found = [(each.caller, each.operation, each.uuid, each.result) for each in (await board.entries(5))[:3]]
    assert found == [
        ("operator-all", "revoke", uuid, "done"), ("viewer-all", "delete", uuid, "forbidden"),
        ("operator-all", "sleep", uuid, "done"),
    ]  # fmt: skip


async def test_what_is_not_possible_is_explained(board: Board, world: World) -> None:
    visitor, uuid = await board.visitor(OPERATOR), await awake(world, OWN)
    await world.activity.sleep(uuid)
    answer = await visitor.submit(href(uuid, "extend"), hours="1")
    assert answer.status == 409
    page = await answer.text()
    assert "The session is asleep; wake it first." in page
    assert "Reference:" in page
    await world.releases.uninstall(uuid)
    gone = await (await visitor.submit(href(uuid, "wake"))).text()
    assert "<code>user-pods create</code> with its user&#39;s id" in gone, "a command, not only its purpose"


@pytest.mark.parametrize("home", [None, "https://app.example.com/start"])
async def test_a_removed_or_missing_workspace_is_no_dead_end(world: World, home: str | None) -> None:
    async with serving(world, home=home) as board:
        operator, user = await board.visitor(OPERATOR), await board.visitor(CallerRole.FRONTEND, OWN)
        missing = await user.read("/dashboard")
        uuid = await awake(world, OWN)
        await world.releases.uninstall(uuid)
        removed = await user.read(href(uuid))
        for page in (missing, removed):
            if home:
                assert f'href="{home}">Go to your start page</a>' in page
            else:
                assert "sk your operator to create" in page
        assert "<code>user-pods create</code> with its user" in await operator.read(href(uuid))
        await operator.submit(href(uuid, "delete"), volume="delete")
        gone = await (await operator.get(href(uuid))).text()
        assert f'href="/dashboard/audit?q={uuid}"' in gone
        assert "/dashboard/audit" not in await (await user.get(href(uuid))).text()


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe=%ff", b"form", b"&" * 3000, b"a=1&" * 30, b"form=%00", b"hours=4&hours=1"]
)
async def test_odd_forms_do_no_harm(board: Board, world: World, body: bytes) -> None:
    visitor, uuid = await board.visitor(OPERATOR), await awake(world, OWN)
    before = dict(world.queues.sessions)
    cookie = "; ".join(f"{name}={value}" for name, value in visitor.jar.items())
    for content_type in (
        "application/x-www-form-urlencoded",
        "text/plain",
        "multipart/form-data; boundary=x",
        "\u00e9",
    ):
        headers = {"Cookie": cookie, "Sec-Fetch-Site": "same-origin", "Content-Type": content_type}
        answer = await board.client.post(href(uuid, "extend"), data=body, headers=headers)
        assert answer.status in (400, 403, 415, 422), content_type
    assert world.queues.sessions == before


async def test_a_restart_goes_on_though_its_tab_is_closed(board: Board, world: World) -> None:
    visitor, uuid = await board.visitor(OPERATOR), await awake(world, OWN)
    scale, asked = world.cluster.scale, asyncio.Event()
    go_on = asyncio.Event()

    async def slow(uuid: SessionId, replicas: int) -> None:
        asked.set()
        await go_on.wait()
        await scale(uuid, replicas)

    world.cluster.scale = slow  # type: ignore[method-assign]
    posting = asyncio.create_task(visitor.submit(href(uuid, "restart")))
    await asked.wait()
    posting.cancel()
    await asyncio.gather(posting, return_exceptions=True)
    go_on.set()
    await until(lambda: world.queues.queue(uuid).tokens == 1)


async def test_a_page_tells_how_far_a_wake_has_come_and_what_happened_before(board: Board, world: World) -> None:
    visitor, uuid = await board.visitor(OPERATOR), await awake(world, OWN)
    await world.progress.write(uuid, ProgressUpdate(Stage.SCALED), ProgressUpdate(Stage.SCHEDULED))
    page = await visitor.read(href(uuid))
    assert "Waking up" in page
    assert "Node assigned" in page
    await visitor.read("/dashboard")


async def test_operators_read_the_audit_and_nobody_else(board: Board, world: World) -> None:
    operator, uuid = await board.visitor(OPERATOR), await awake(world, OWN)
    await done(operator, uuid, "sleep")
    await board.browser().sign_in("wrong")
    await board.entries(3)
    page = await operator.read("/dashboard/audit")
    assert "unauthorized" in page
    assert f'href="{href(uuid)}"' in page
    for about in (f"q={uuid}", f"q={OWN}", f"uuid={uuid}"):
        of_session = await operator.read(f"/dashboard/audit?{about}")
        assert "unauthorized" not in of_session
        assert "sleep" in of_session
    assert "sign_in" not in await operator.read("/dashboard/audit?q=nobody")
    assert "unauthorized" in await operator.read("/dashboard/audit?q=unknown")
    assert "unauthorized" in await operator.read("/dashboard/audit?caller=unknown"), "a bookmark of an earlier page"
    for odd in ("q=%ff", "q=%00", "q=%22%3E%3Cimg", "uuid=../x", "q=" + "a" * 3000, "x=1"):
        assert "<img" not in await operator.read(f"/dashboard/audit?{odd}")
    assert (await operator.get("/dashboard/audit?cursor=%ff")).status == 422
    for role, only in ((VIEWER, None), (FRONTEND, None), (OPERATOR, OWN)):
        visitor = await board.visitor(CallerRole(role), only)
        assert (await visitor.get("/dashboard/audit")).status == 403
        assert "/dashboard/audit" not in await visitor.read(href(uuid))


async def test_a_search_for_a_deleted_session_leads_operators_to_what_was_done_to_it(
    board: Board, world: World
) -> None:
    operator, viewer, uuid = await board.visitor(OPERATOR), await board.visitor(VIEWER), await awake(world, OWN)
    await awake(world, "somebody")
    await operator.submit(href(uuid, "delete"), volume="delete")
    await board.entries(3)
    link = f"/dashboard/audit?q={quote(OWN)}"
    assert link in await operator.read(f"/dashboard?q={quote(OWN)}")
    assert "/dashboard/audit" not in await viewer.read(f"/dashboard?q={quote(OWN)}")
    page = await operator.read(link)
    assert (page.count("<tr>"), "delete" in page) == (2, True)


async def test_the_audit_has_pages(board: Board, world: World) -> None:
    operator, uuid = await board.visitor(OPERATOR), await awake(world, OWN)
    for _ in range(60):
        await operator.submit(href(uuid, "revoke"))
    await board.entries(61)
    page = await operator.read("/dashboard/audit")
    older = re.search(r'rel="next" href="(\?cursor=[0-9-]+)"', page)
    assert older
    assert page.count("<tr>") == 51
    assert "sign_in" in await operator.read(f"/dashboard/audit{older[1]}")
