"""A stranger with a browser and an account: from the domain into an editor, over a sleep, and out again.

They use no API, and nobody prepares anything for them. Pictures of each step are in tests/pictures/ afterwards.
"""

import asyncio
import re
import time

import pytest
from playwright.async_api import Page, expect

from service.gateway.access.cookie_header import COOKIE
from service.gateway.sign_in.portal import SIGNED_OUT
from stack.calls import call
from stack.stack import GATEWAY_DOMAIN, Stack
from tests.oidc_provider_process import provider_process
from tests.pages import accessible, picture
from tests.waiting import until
from tests.workspaces.conftest import BRAND, EDITOR_SLEEPS_AFTER
from tests.workspaces.test_sign_in import sign_in_as
from tests.workspaces.vscode import asleep, loaded, opened, opened_terminal, opened_untitled, ran, text, waiting, woken

TYPED, DRAFT = "typed-before-the-sleep", "a-draft-without-a-name"


@pytest.mark.timeout(900)
async def test_a_stranger_gets_from_the_domain_to_what_they_typed_before_a_sleep_and_out_again(
    editors: Stack, page: Page
) -> None:
    issuer, front = editors.settings["OIDC_ISSUER"], f"http://{GATEWAY_DOMAIN}:{editors.settings['GATEWAY_PORT']}"
    await page.goto(f"{front}/")
    await expect(page.get_by_role("heading", name="Sign-in is temporarily unavailable")).to_be_visible()
    await branded(page)
    assert "sign-in" in call("GET", f"{editors.url}/health")["remarks"]
    await picture(page, "walk-1-provider-away")
    async with provider_process(int(issuer.rpartition(":")[2])):
        async with asyncio.timeout(20):
            while not page.url.startswith(issuer):
                await page.get_by_role("link", name="Try again").click()
        await picture(page, "walk-2-provider")
        await sign_in_as(page, "ann")
        await expect(page.get_by_role("heading", name="Your workspace is waking up")).to_be_visible()
        await picture(page, "walk-3-first-wake")
        await loaded(page)
        host = re.match(r"http://(vs-code-[a-z0-9]{8}\.[^/]+)", page.url)
        assert host is not None
        await types_sleeps_and_comes_back(editors, page)
        await signs_out(page, host[0], front)
        # The page's link and the workspace's address ask who they are.
        await page.get_by_role("link", name="Sign in again").click()
        await expect(page.get_by_role("button", name="ann", exact=True)).to_be_visible()
        await page.goto(f"{host[0]}/")
        await expect(page.get_by_role("button", name="ann", exact=True)).to_be_visible()
    logged = (editors.cluster.state / "log" / f"{editors.name}.log").read_text()
    assert editors.settings["OIDC_CLIENT_SECRET"] not in logged
    assert "code=" not in logged


async def branded(page: Page) -> None:
    """The page says whose it is and whom to ask, as the operator wishes."""
    header = page.get_by_role("banner")
    await expect(header).to_contain_text(BRAND["GATEWAY_BRAND_NAME"])
    assert await header.locator("img").evaluate("(logo) => logo.naturalWidth") == 24
    color = page.locator("html").evaluate("(root) => getComputedStyle(root).getPropertyValue('--brand')")
    assert await color == BRAND["GATEWAY_BRAND_COLOR"]
    await expect(page.get_by_role("link", name="help desk")).to_have_attribute("href", "mailto:help@example.com")


async def types_sleeps_and_comes_back(editors: Stack, page: Page) -> None:
    await opened_terminal(page)
    await ran(page, "echo kept > kept.txt", "kept.txt")
    (file,) = editors.cluster.state.glob("volumes/*/kept.txt")
    await until(lambda: file.read_text() == "kept\n")
    # A program prints and writes, which keeps nobody awake; the last key is in a file.
    await page.keyboard.type("while date > now.txt; do date; sleep 1; done\n")
    await opened_untitled(page)
    await page.keyboard.type(DRAFT)
    await opened(page, "kept.txt")
    await page.keyboard.type(TYPED)
    await picture(page, "walk-4-typed")

    # They are warned, move, and are left in peace.
    notice = page.get_by_role("button", name="Stay awake")
    await expect(page.get_by_role("group", name="Going to sleep soon")).to_contain_text(
        re.compile("in [2-5] s"), timeout=20_000
    )
    await picture(page, "walk-5-notice")
    await page.keyboard.type("!")
    await expect(notice).to_be_hidden()

    # They leave.
    last = time.monotonic()
    await expect(asleep(page)).to_be_visible(timeout=40_000)
    earliest, latest = EDITOR_SLEEPS_AFTER
    assert earliest - 1 < time.monotonic() - last < latest + 2, "the last key decides, to the second"
    await expect(page.get_by_role("dialog")).to_contain_text("A program was still running")
    await picture(page, "walk-6-asleep")
    # Neither a key that does nothing alone nor the editor, which connects again and again, wakes it.
    await page.keyboard.press("Shift")
    await asyncio.sleep(3)
    await expect(asleep(page)).to_be_visible()
    (session,) = call("GET", f"{editors.url}/sessions?user_id=ann%40example.com")["sessions"]
    assert session["phase"] == "asleep"

    await page.keyboard.press("a")
    await expect(page.get_by_role("dialog", name=re.compile("Waking|Starting|Loading|Opening"))).to_be_visible()
    await picture(page, "walk-7-waking")
    await woken(page)
    async with waiting(page):
        await expect(text(page)).to_contain_text(f"{TYPED}!kept", timeout=60_000)
    await picture(page, "walk-8-back")
    assert file.read_text() == f"{TYPED}!kept\n"
    await page.get_by_role("tab", name=re.compile("Untitled-1")).click()
    await expect(text(page)).to_contain_text(DRAFT)


async def signs_out(page: Page, workspace: str, front: str) -> None:
    await page.goto(f"{workspace}/.user-pods/")
    await picture(page, "walk-9-about")
    assert COOKIE in [cookie.get("name") for cookie in await page.context.cookies()]
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    await picture(page, "walk-10-signed-out-of-the-workspace")
    await accessible(page)
    await page.get_by_role("link", name="Sign out of all workspaces here").click()
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_role("button", name="End session").click()
    await expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    assert page.url == front + SIGNED_OUT
    await picture(page, "walk-11-signed-out")
    assert {cookie.get("name") for cookie in await page.context.cookies()} <= {"session", f"{COOKIE}-companion"}
