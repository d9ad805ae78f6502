"""`/.user-pods/` of a real pod: what its user does there happens in the cluster, and the history has its cause."""

from playwright.async_api import Page, expect

from stack.stack import USERS
from tests.pages import picture
from tests.workspaces.conftest import Visitor
from tests.workspaces.test_browser import PATIENCE, arrived


async def test_a_person_restarts_and_sends_to_sleep_a_workspace_and_sees_why(page: Page, visitor: Visitor) -> None:
    await page.goto(await visitor.link())
    await arrived(page, visitor)
    old = pods(visitor)

    await page.goto(f"http://{visitor.host}/.user-pods/")
    await expect(page.locator(".state")).to_have_text("Awake", timeout=PATIENCE)
    await page.get_by_role("button", name="Restart").click()
    await arrived(page, visitor)
    new = pods(visitor)
    assert len(new - old) == 1, (old, new)

    await page.goto(f"http://{visitor.host}/.user-pods/")
    await page.get_by_role("button", name="Sleep now").click()
    await expect(page.locator(".state")).to_have_text("Asleep", timeout=PATIENCE)
    await expect(page.locator(".history li")).to_have_count(4, timeout=PATIENCE)
    await page.reload()
    lines = await page.locator(".history li").all_inner_texts()
    assert [line.split("\n")[1] for line in lines] == [
        "Went to sleep: somebody asked for it",
        "Woke up: somebody opened it",
        "Went to sleep: somebody asked for it",
        "Woke up: somebody opened it",
    ]
    await picture(page, "workspace-real")


def pods(visitor: Visitor) -> set[str]:
    """The session's pods, those that end included."""
    names = visitor.stack.cluster.kubectl("-n", USERS, "get", "pods", "-l", f"uuid={visitor.uuid}", "-o", "name")
    return set(names.split())
