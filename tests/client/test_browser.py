"""A real browser follows the file that the command line opens it with."""

import pytest
from aiohttp import web
from playwright.async_api import Page

from tests.client.conftest import ServeAlone
from user_pods_client.cli import browser


@pytest.mark.usefixtures("config")
async def test_the_file_leads_a_browser_to_the_link(
    page: Page, serve_alone: ServeAlone, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def start(address: str) -> bool:
        opened.append(address)
        return True

    async def workspace(_: web.Request) -> web.StreamResponse:
        return web.Response(text="<title>workspace</title>", content_type="text/html")

    monkeypatch.setenv("DISPLAY", ":9")
    monkeypatch.setattr("webbrowser.open", start)
    link = f"{await serve_alone(workspace)}open?ticket=a%2Fb&to=%2F"
    assert browser.show(link)
    await page.goto(opened[0])
    await page.wait_for_url(link)
    assert await page.title() == "workspace"
