"""The gateway's pages in Chromium: light and dark, on a desktop and on a phone, for eyes, keyboards and screen readers.

Pictures of them are in tests/pictures/ afterwards.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from aiohttp import web
from playwright.async_api import Browser, Page, ViewportSize, expect

from service.domain.errors import RedisUnavailable
from service.domain.journal import Failed, Ready, Slept, Woken
from service.domain.names import SessionId
from service.domain.progress import ProgressUpdate, Stage
from service.domain.sleep_cause import SleepReason
from service.gateway.access import sign_out
from service.gateway.errors import GatewayError, PageKind
from service.gateway.pages.brand import Brand, Support
from service.gateway.pages.pages import Pages
from service.gateway.waiting.delays import Delay, DelayKind
from service.gateway.waiting.page import waiting_page
from tests.domain.conftest import World
from tests.gateway.conftest import House
from tests.pages import accessible, picture
from tests.waiting import until

_LOGO = "data:image/svg+xml;base64,PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciIHdpZHRoPSIzMiIgaGVpZ2h0PSIzMiI+PGNpcmNsZSBjeD0iMTYiIGN5PSIxNiIgcj0iMTQiIGZpbGw9IiMwYjU3ZDAiLz48L3N2Zz4="  # noqa: E501
_BRAND = Brand(
    name="Example Labs",
    color="#0b57d0",
    logo=_LOGO,
    support=Support.parse("Questions? Ask [the help desk](https://help.example.com)."),
)
_PHONE, _DESKTOP = ViewportSize(width=320, height=640), ViewportSize(width=1280, height=800)
_SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
_REASON = 'FailedMount: MountVolume.SetUp failed for volume "pvc-0d9f1f5e-3b1c-4b53-9d8b-0c9c3d3e5b1a": timed out'
_SECONDS = 10_000
"""Milliseconds that a page may take to get to the pod."""
_HOME = "https://app.example.com/workspace"
_REFERENCE = "5f0c1e6d2a9b4c73"


def _rendered(pages: Pages, request: web.BaseRequest, name: str) -> web.Response:
    """The page of that name: a PageKind, or one that is no refusal."""
    if name in set(PageKind):
        error = GatewayError(503, "As the log says it", _REASON, page=PageKind(name))
        if error.page is PageKind.NOT_SIGNED_IN:
            error.sign_in = f"{_HOME}?return_to=x"
        return pages.refusal(request, error, name=_REFERENCE, home=_HOME)
    delay = Delay(DelayKind.RETRIED, _REASON) if name == "delayed" else None
    match name:
        case "open":
            return pages.render(request, "ticket.html", forms=True)
        case "sign-out":
            return sign_out.workspace_page(pages, request)
        case "signed-out":
            return sign_out.workspace_left(pages, request, _HOME, f"{_HOME}/everywhere")
        case _:
            return waiting_page(pages, request, delay, name=_REFERENCE, home=_HOME)


_OTHERS = ("waiting", "delayed", "open", "sign-out", "signed-out")


@asynccontextmanager
async def serving(pages: Pages) -> AsyncIterator[str]:
    """Every page that needs no session, at `/<name>`."""

    async def respond(request: web.BaseRequest) -> web.StreamResponse:
        name = request.path.strip("/")
        if name in {*PageKind, *_OTHERS}:
            return _rendered(pages, request, name)
        await asyncio.sleep(60)  # so that a waiting page stays as it is
        return web.Response()

    runner = web.ServerRunner(web.Server(respond, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://localhost:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("brand", [Brand(), _BRAND], ids=["plain", "branded"])
async def test_axe_finds_nothing_on_any_page(browser: Browser, brand: Brand) -> None:
    # The long words of German are the hardest for a phone.
    context = await browser.new_context(locale="de-DE" if brand is _BRAND else "en-GB")
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if "Policy" in message.text else None)
    await page.add_init_script("HTMLFormElement.prototype.submit = () => {}")  # the page of a link stays
    names = [*PageKind, *_OTHERS] if brand is _BRAND else [PageKind.STOPPED, "delayed"]
    async with serving(Pages(brand)) as url:
        for name in names:
            await page.goto(f"{url}/{name}")
            for details in await page.locator("details").all():
                await details.locator("summary").click()
            for scheme in _SCHEMES:
                await page.emulate_media(color_scheme=scheme)
                await page.set_viewport_size(_DESKTOP)
                await picture(page, f"page-{name}-desktop-{scheme}", full_page=True)
                await page.set_viewport_size(_PHONE)
                await picture(page, f"page-{name}-phone-{scheme}", full_page=True)
                await accessible(page)
        await page.goto("about:blank")
    assert complaints == []


# --- at a gateway ---


@pytest.fixture
async def house(world: World) -> AsyncIterator[House]:
    """On a domain that a browser finds on this machine, and takes to be as safe as one with TLS."""
    async with House(world, pages=Pages(_BRAND), domain="localhost").open() as house:
        yield house


async def opened(house: House, browser: Browser, uuid: SessionId, path: str = "/", *, locale: str = "en-GB") -> Page:
    """A new browser that is let in, on its way to that path."""
    context = await browser.new_context(locale=locale)
    page = await context.new_page()
    await page.goto(await link(house, uuid, path))
    return page


async def link(house: House, uuid: SessionId, path: str = "/") -> str:
    issued = (await house.access.issue_link(uuid, path)).url
    return issued.replace(f"https://{house.host(uuid)}", f"http://{house.host(uuid)}:{house.port}")


async def test_a_person_sees_an_ordinary_wake_in_plain_words_and_no_alarm(
    house: House, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.gateway.waiting.events.CHECK_INTERVAL", 0.05)
    house.delay = 3600
    uuid = await house.session()
    await house.world.progress.write(uuid, ProgressUpdate(Stage.ACCEPTED))
    page = await opened(house, browser, uuid, "/folder?x=1")
    await expect(page.get_by_role("heading", name="Your workspace is waking up")).to_be_visible()
    house.world.cluster.change(replace(house.world.cluster.workload(uuid), blocker=_REASON))
    for stage in (Stage.SCALED, Stage.SCHEDULED):
        await house.world.progress.write(uuid, ProgressUpdate(stage))
    await expect(page.get_by_text("Loading your files …")).to_be_visible()
    await asyncio.sleep(0.5)
    assert await page.locator("#delay").inner_text() == ""
    assert "FailedMount" not in await page.locator("body").inner_text()
    await page.locator("summary").click()
    await expect(page.locator("#stages li").last).to_contain_text("Node assigned")
    await accessible(page)
    await picture(page, "waking", full_page=True)
    await house.start(uuid)
    await expect(page.get_by_text('"path": "/folder?x=1"')).to_be_visible(timeout=_SECONDS)


async def test_a_delay_that_lasts_is_told_and_disappears_with_its_cause(
    house: House, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.gateway.waiting.events.CHECK_INTERVAL", 0.05)
    monkeypatch.setattr("service.gateway.waiting.delays.LASTS", 0.2)
    house.delay = 3600
    uuid = await house.session()
    page = await opened(house, browser, uuid)
    house.world.cluster.change(replace(house.world.cluster.workload(uuid), blocker=_REASON))
    await expect(page.locator("#delay")).to_contain_text("This takes longer than usual.")
    assert "FailedMount" not in await page.locator("body").inner_text(), "it is under Details"
    await page.locator("summary").click()
    await expect(page.get_by_text("FailedMount")).to_be_visible()
    house.world.cluster.change(replace(house.world.cluster.workload(uuid), blocker=None))
    await expect(page.locator("#delay")).to_be_empty()


async def test_a_start_that_fails_for_good_says_so_and_can_be_tried_again_by_keyboard(
    house: House, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.gateway.waiting.pod_waiter.CHECK_INTERVAL", 0.05)
    house.fails, house.final = "InvalidImageName: no/such:image:1", True
    uuid = await house.session()
    page = await opened(house, browser, uuid)
    await expect(page.get_by_role("heading", name="Your workspace could not be started")).to_be_visible()
    await expect(page.get_by_role("alert")).to_contain_text("If that fails too, ask your operator.")
    await expect(page.get_by_text("InvalidImageName")).to_be_hidden()
    await page.locator("summary").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("InvalidImageName")).to_be_visible()
    await accessible(page)
    await picture(page, "could-not-be-started", full_page=True)
    house.fails = None
    house.world.cluster.change(replace(house.world.cluster.workload(uuid), failure=None, final=False))
    await house.start(uuid)
    await page.get_by_role("button", name="Try again").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_text('"pod":')).to_be_visible(timeout=_SECONDS)


async def test_a_page_that_a_part_did_not_answer_loads_again_by_itself(
    house: House, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise RedisUnavailable

    uuid = await house.session()
    with monkeypatch.context() as outage:
        outage.setattr(house.world.queues, "wake", away)
        page = await opened(house, browser, uuid)
        await expect(page.get_by_role("heading", name="Temporarily unavailable")).to_be_visible()
    await expect(page.get_by_text('"pod":')).to_be_visible(timeout=_SECONDS)


async def test_people_are_told_the_time_to_expect_and_their_position(
    house: House, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.gateway.waiting.pod_waiter.MANY", 2)
    monkeypatch.setattr("service.gateway.waiting.events.CHECK_INTERVAL", 0.05)
    monkeypatch.setattr("service.gateway.waiting.pod_waiter.CHECK_INTERVAL", 0.05)
    house.delay = 3600
    first, second = await house.session("ann"), await house.session("bob")
    for pod, seconds in (("one", 3.6), ("two", 4.4)):
        await house.world.history.append(Ready(uuid=second, user=None, seconds=seconds, pod=pod))
    one, two = await opened(house, browser, first), await opened(house, browser, second)
    await expect(two.get_by_text("It is usually ready in about 4 s.")).to_be_visible()
    await expect(two.get_by_text("Yours is number 2 of 2.")).to_be_visible()
    await expect(one.get_by_text("Yours is number 1 of 2.")).to_be_visible()
    await picture(two, "many-wait")
    await house.start(first)
    await expect(one.get_by_text('"pod":')).to_be_visible(timeout=_SECONDS)
    await expect(two.locator("#position")).to_be_hidden()


# --- the page about a workspace ---


async def test_the_page_about_a_workspace_is_accessible_and_fits_a_phone(house: House, browser: Browser) -> None:
    uuid = await house.awake()
    await house.world.activity.heartbeat(uuid, "visit")
    await note_a_past(house, uuid)
    for locale in ("en-GB", "de-DE"):
        page = await opened(house, browser, uuid, "/.user-pods/", locale=locale)
        await expect(page.get_by_role("timer")).to_contain_text(re.compile(r"\d\d:\d\d"))
        for scheme in _SCHEMES:
            await page.emulate_media(color_scheme=scheme)
            await page.set_viewport_size(_DESKTOP)
            await picture(page, f"workspace-{locale}-desktop-{scheme}", full_page=True)
            await page.set_viewport_size(_PHONE)
            await picture(page, f"workspace-{locale}-phone-{scheme}", full_page=True)
            await accessible(page)
        await page.context.close()


async def test_a_person_keeps_a_workspace_awake_sends_it_to_sleep_and_restarts_it(
    house: House, browser: Browser
) -> None:
    uuid = await house.awake()
    page = await opened(house, browser, uuid, "/.user-pods/")
    await expect(page.locator(".state")).to_have_text("Awake")
    await page.get_by_role("button", name="For 4 hours").click()
    await expect(page.get_by_text("Done: it stays awake.")).to_be_visible()
    kept = (await house.world.queries.status(uuid)).record.kept_until
    assert kept is not None
    assert kept - datetime.now(UTC) > timedelta(hours=3, minutes=59)

    restarting = asyncio.create_task(page.get_by_role("button", name="Restart").click())
    await until(lambda: house.world.cluster.workload(uuid).replicas == 0)
    await house.fall_asleep(uuid)
    await restarting
    await expect(page.get_by_text(f'"pod": "{uuid}-2"')).to_be_visible(timeout=_SECONDS)

    await page.goto(page.url + ".user-pods/")
    await page.get_by_role("button", name="Sleep now").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Done: it goes to sleep.")).to_be_visible()
    await expect(page.locator(".state")).to_have_text("Asleep")
    await expect(page.get_by_role("button", name="Sleep now")).to_have_count(0)


async def test_until_tonight_is_by_the_browsers_clock(house: House, browser: Browser) -> None:
    uuid = await house.awake()
    context = await browser.new_context(locale="en-GB", timezone_id="Asia/Tokyo")
    page = await context.new_page()
    for hour, offered in (("17:00", "Until tonight, 22:00"), ("09:00", "Until tonight, 17:00"), ("21:30", None)):
        await page.clock.set_fixed_time(f"2026-11-26T{hour}:00+09:00")
        await page.goto(await link(house, uuid, "/.user-pods/"))
        button = page.get_by_role("button", name="Until tonight")
        if offered is None:
            await expect(button).to_have_count(0)
        else:
            await expect(button).to_have_text(offered)
    await page.clock.set_fixed_time("2026-11-26T17:00:00+09:00")
    await page.goto(await link(house, uuid, "/.user-pods/"))
    await page.get_by_role("button", name="Until tonight").click()
    await expect(page.get_by_text("Done: it stays awake.")).to_be_visible()
    kept = (await house.world.queries.status(uuid)).record.kept_until
    assert kept is not None
    assert timedelta(hours=4, minutes=59) < kept - datetime.now(UTC) <= timedelta(hours=5)


async def test_the_page_follows_what_happens_elsewhere(house: House, browser: Browser) -> None:
    uuid = await house.awake()
    page = await opened(house, browser, uuid, "/.user-pods/")
    await expect(page.locator(".state")).to_have_text("Awake")
    await page.get_by_role("button", name="Sign out").focus()
    await house.world.activity.sleep(uuid)
    await house.fall_asleep(uuid)
    await expect(page.locator(".state")).to_have_text("Asleep", timeout=_SECONDS)
    await expect(page.get_by_role("button", name="Sign out")).to_be_focused()
    await expect(page.get_by_role("button", name="Sleep now")).to_have_count(0)
    await page.get_by_role("button", name="Wake it up").press("Enter")
    await expect(page.get_by_text('"pod":')).to_be_visible(timeout=_SECONDS)


async def test_a_person_signs_out_there(house: House, browser: Browser) -> None:
    uuid = await house.awake()
    page = await opened(house, browser, uuid, "/.user-pods/")
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    await accessible(page)
    await page.goto(f"http://{house.host(uuid)}:{house.port}/.user-pods/")
    await expect(page.get_by_role("heading", name="You are not signed in to this workspace")).to_be_visible()


async def test_the_buttons_work_without_javascript(house: House, browser: Browser) -> None:
    uuid = await house.awake()
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    await page.goto(await link(house, uuid, "/.user-pods/"))
    await expect(page.get_by_role("button", name="Until tonight")).to_have_count(0)
    await page.get_by_role("button", name="For 1 hour").click()
    await expect(page.get_by_text("Done: it stays awake.")).to_be_visible()


async def note_a_past(house: House, uuid: SessionId) -> None:
    """Events of a day."""
    at = datetime.now(UTC) - timedelta(hours=5)
    for event in (
        Woken(uuid=uuid, user=None, at=at, by="visit"),
        Ready(uuid=uuid, user=None, at=at + timedelta(seconds=4), seconds=4, pod="one"),
        Slept(uuid=uuid, user=None, at=at + timedelta(hours=2), why=SleepReason.IDLE, seconds=7200, pod="one"),
        Woken(uuid=uuid, user=None, at=at + timedelta(hours=3), by="api"),
        Failed(uuid=uuid, user=None, at=at + timedelta(hours=3, seconds=9), doing="wake", reason=_REASON),
        Ready(uuid=uuid, user=None, at=at + timedelta(hours=3, seconds=30), seconds=30, pod="two"),
    ):
        await house.world.history.append(event)
