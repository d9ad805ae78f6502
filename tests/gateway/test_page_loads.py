"""Which page loads of a measured browser are its user's: a page may load itself again and again without one."""

from dataclasses import replace

import pytest
from aiohttp import web
from playwright.async_api import Browser, expect

from service.domain.journal import Visited
from service.domain.names import SessionId
from service.gateway.activity.measured import COMPANION, NO_COMPANION
from service.gateway.limits import GatewayLimits
from tests.domain.conftest import World
from tests.gateway.conftest import Headers, House, answer, program
from tests.pages import accessible
from tests.waiting import until

BY_ITSELF = {"Sec-Fetch-Site": "same-origin"}
"""What a refresh by `meta`, a timer's `location.reload()` and a form that a script submits have in common."""
BY_ITS_USER: dict[str, Headers] = {
    "an address, a bookmark or the button to reload": {"Sec-Fetch-Site": "none", "Sec-Fetch-User": "?1"},
    "an address in Safari": {"Sec-Fetch-Site": "none"},
    "a link": {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-User": "?1"},
    "a link of another site": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-User": "?1"},
    "a redirect from the page that signs in": {"Sec-Fetch-Site": "same-site"},
    "a browser that says nothing": {},
}


async def browser_of(house: House, uuid: SessionId, headers: Headers, cookies: str = f"{COMPANION}=1") -> Headers:
    sent = {**await house.person(uuid), **headers}
    sent["Cookie"] += f"; {cookies}"
    return sent


@pytest.mark.parametrize("by", BY_ITS_USER)
async def test_a_page_that_somebody_opens_counts_and_wakes(house: House, by: str) -> None:
    uuid = await house.awake()
    headers = await browser_of(house, uuid, BY_ITS_USER[by])
    assert (await answer(house, "/echo", headers))[0] == 200
    await until(lambda: house.world.store.sessions[uuid].activity_source == "visit")
    await house.fall_asleep(uuid)
    assert (await answer(house, "/echo", headers))[0] == 503
    await until(lambda: house.starts == 2)


async def test_a_page_that_opens_itself_neither_counts_nor_wakes(house: House) -> None:
    uuid = await house.awake()
    headers = await browser_of(house, uuid, BY_ITSELF)
    assert (await answer(house, "/echo", headers))[0] == 200
    assert (await answer(house, "/echo", headers, "POST", data=b"x"))[0] == 200
    await house.gateway._activity.close()
    assert house.world.store.sessions[uuid].last_activity is None
    await house.fall_asleep(uuid)
    status, body = await answer(house, "/echo?x=%22%3E", headers)
    assert (status, b"<h1>Your workspace is asleep</h1>" in body) == (503, True)
    assert b'name="to" value="/echo?x=%22%3E"' in body
    assert house.starts == 1
    assert [each for each in house.world.journal.entries if isinstance(each, Visited)] == []


@pytest.mark.parametrize("cookies", ["x=1", f"{COMPANION}=1; {NO_COMPANION}=1"], ids=["first", "without a companion"])
async def test_in_a_browser_that_nothing_measures_every_page_counts(house: House, cookies: str) -> None:
    uuid = await house.awake()
    headers = await browser_of(house, uuid, BY_ITSELF, cookies)
    assert (await answer(house, "/echo", headers))[0] == 200
    await until(lambda: house.world.store.sessions[uuid].activity_source == "visit")


async def test_a_page_that_opens_itself_while_the_pod_wakes_gets_the_waiting_page(house: House) -> None:
    uuid = await house.session()
    house.delay = 0.5
    await house.world.activity.wake(uuid, by="visit")
    status, body = await answer(house, "/echo", await browser_of(house, uuid, BY_ITSELF))
    assert (status, b'<h1 id="title">Your workspace is waking up</h1>' in body) == (503, True)


@pytest.mark.parametrize(
    ("to", "location"),
    [("&to=%2Fecho%3Fx%3D1", "/echo?x=1"), ("&to=%2F%2Fevil.example", "/"), ("&to=https%3A%2F%2Fevil.example", "/"),
     ("&to=%2F%5Cevil.example", "/"), ("", "/")],
)  # fmt: skip
async def test_the_button_wakes_and_leads_on_within_the_workspace(house: House, to: str, location: str) -> None:
    uuid = await house.session()
    sent = await house.headers(
        uuid, Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document", Origin="null",
        Content_Type="application/x-www-form-urlencoded",
    )  # fmt: skip
    form = f"action=wake{to}".encode()
    async with house.http.post(house.url("/.user-pods/"), headers=sent, data=form, allow_redirects=False) as found:
        assert (found.status, found.headers["Location"]) == (303, location)
    await until(lambda: house.starts == 1)


_FOREVER = "<!doctype html><html><head><meta http-equiv=refresh content=0.3><title>x</title></head><body>Forever"


async def test_in_chromium_a_page_that_refreshes_itself_lets_its_workspace_sleep_and_a_button_wakes_it(
    world: World, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.gateway.activity.notes.INTERVAL", 0.1)
    asked = 0

    async def respond(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return web.Response(text=_FOREVER, content_type="text/html")

    limits = GatewayLimits(closed=False)
    async with House(world, limits=limits, domain="localhost").open() as house, program(house, respond) as uuid:
        page = await (await browser.new_context()).new_page()
        await page.goto(f"http://{house.host(uuid)}:{house.port}/")
        await until(lambda: house.world.store.sessions[uuid].activity_source == "visit")
        first = house.world.store.sessions[uuid].last_activity
        await until(lambda: asked > 4)
        assert house.world.store.sessions[uuid].last_activity == first
        await house.world.activity.sleep(uuid)
        house.world.cluster.change(replace(house.world.cluster.workload(uuid), replicas=0, ready=0, pod=None))
        await expect(page.get_by_role("heading", name="Your workspace is asleep")).to_be_visible()
        assert house.starts == 0
        await accessible(page)
        await page.get_by_role("button", name="Wake it up").press("Enter")
        await until(lambda: house.starts == 1)
        await page.context.close()
