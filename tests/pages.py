"""Pages in a browser: what they look like, and whether everybody can use them."""

import asyncio
from pathlib import Path

from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Error, Page

PICTURES = Path(__file__).parent / "pictures"
"""What pages looked like in the last run, for people to see. Continuous integration keeps them."""


async def picture(page: Page, name: str, *, full_page: bool = False) -> None:
    """Keep a picture of a page.

    A loaded machine at times draws no frame of a tab behind another. No test fails for the lack of a picture: a file
    in its place says why there is none.
    """
    PICTURES.mkdir(exist_ok=True)
    missing = PICTURES / f"{name}.missing.txt"
    for pause in (0, 1, 3):
        await asyncio.sleep(pause)
        try:
            await page.screenshot(path=PICTURES / f"{name}.png", full_page=full_page, timeout=10_000)
        except Error as error:
            missing.write_text(error.message)
        else:
            missing.unlink(missing_ok=True)
            break


async def accessible(page: Page) -> None:
    """axe-core finds nothing, and nothing is wider than the screen."""
    found = await Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "it scrolls sideways"
