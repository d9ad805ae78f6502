"""Visits of real pods with a real browser: what people see while they wait, and what becomes of tabs left open."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import pytest
from playwright.async_api import Browser, Page, ViewportSize, expect

from devcluster import node
from devcluster.errors import DevclusterError
from service.gateway.action_rate import BURST
from service.gateway.waiting.pod_waiter import MANY
from tests.pages import accessible, picture
from tests.stack.client import until
from tests.stack.test_loop import helm
from tests.workspaces.conftest import Visitor, Visitors

WAKING = "Your workspace is waking up"
DESK, PHONE = ViewportSize(width=1280, height=800), ViewportSize(width=360, height=740)
PATIENCE = 20_000
"""Milliseconds that a page may take to get to the pod."""


async def arrived(page: Page, visitor: Visitor) -> None:
    """Wait until the page is the pod's own, which tells its name."""
    await expect(page.get_by_role("heading", name=f"user-{visitor.uuid}")).to_be_visible(timeout=PATIENCE)


async def test_a_person_sees_the_progress_of_the_wake_and_lands_at_the_requested_url(
    page: Page, visitor: Visitor
) -> None:
    stages: list[str] = []
    await page.expose_function("tell", lambda stage: stages.append(stage))  # noqa: PLW0108 - it wants a function
    await page.add_init_script(
        "new MutationObserver((changes) => { for (const change of changes) for (const node of change.addedNodes)"
        " if (node.nodeName === 'LI') tell(node.textContent); }).observe(document, {childList: true, subtree: true})"
    )
    answers: list[int] = []
    page.on("response", lambda a: answers.append(a.status) if a.request.resource_type == "document" else None)
    await page.goto(await visitor.link("/echo/a%2Fb?x=1%262"))
    echoed = json.loads(await page.locator("pre").inner_text(timeout=PATIENCE))
    assert echoed["target"] == "/echo/a%2Fb?x=1%262"
    assert page.url.endswith(echoed["target"])
    assert "user-pods" not in json.dumps(echoed["headers"]), "the pod was shown the pass"
    assert [status for status in answers if status != 303] == [503, 200]
    assert stages[0].startswith("Wake requested")


async def test_the_page_needs_no_javascript(browser: Browser, visitor: Visitor) -> None:
    page = await browser.new_page(java_script_enabled=False)
    await page.goto(await visitor.link())
    await expect(page.get_by_role("heading", name=WAKING)).to_be_visible()
    await arrived(page, visitor)


async def test_the_page_explains_a_failed_start_and_continues_after_its_repair(page: Page, visitor: Visitor) -> None:
    good = visitor.use("localhost/no/such:1")
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    await page.goto(await visitor.link())
    await expect(page.get_by_role("heading", name="could not be started")).to_be_visible(timeout=PATIENCE)
    await expect(page.get_by_role("alert")).to_contain_text("ask your operator")
    await page.locator("summary").click()
    await expect(page.get_by_text("ErrImageNeverPull")).to_be_visible()
    assert not [text for text in complaints if "Security Policy" in text]

    visitor.use(good)
    await page.get_by_role("button", name="Try again").click()
    await arrived(page, visitor)


async def test_two_users_get_their_own_workspaces_and_cannot_reach_each_others(
    browser: Browser, visitors: Visitors
) -> None:
    ann, bob = await visitors.new(), await visitors.new()
    pages = [await browser.new_page() for _ in range(2)]
    links = [await ann.link(), await bob.link()]
    await asyncio.gather(pages[0].goto(links[0]), pages[1].goto(links[1]))
    await arrived(pages[0], ann)
    await arrived(pages[1], bob)
    # A user who is in at both workspaces: the page of one is still nobody to the other.
    await pages[0].goto(await bob.link())
    await pages[0].goto(f"http://{ann.host}/")
    reach = """async (url) => {
        const web = await fetch("http://" + url + "/file", {credentials: "include", mode: "no-cors"}).then(
            (answer) => answer.type, () => "refused");
        const socket = new WebSocket("ws://" + url + "/ws");
        return [web, await new Promise((done) => {
            socket.onopen = () => done("open"); socket.onclose = () => done("refused"); })];
    }"""
    seen = json.loads((await bob.get("/counters"))[1])["requests"]
    assert await pages[0].evaluate(reach, bob.host) == ["opaque", "refused"]
    assert json.loads((await bob.get("/counters"))[1])["requests"] == seen + 1, "ann's page got to bob's pod"


async def test_a_background_tab_reaches_the_workspace_and_does_not_wake_it_later(
    browser: Browser, visitor: Visitor
) -> None:
    window = await browser.new_context()
    page = await window.new_page()
    await page.goto(await visitor.link())
    front = await window.new_page()
    await front.bring_to_front()
    await arrived(page, visitor)
    closed = page.evaluate(
        """() => new Promise((done) => {
            const socket = new WebSocket("ws://" + location.host + "/ws");
            socket.onclose = (event) => done([event.code, event.reason]);
        })"""
    )
    assert await closed == [1001, "the workspace went to sleep"]
    await visitor.stays_asleep(3)
    await page.reload()
    await arrived(page, visitor)


async def test_people_see_how_many_wait_before_them(page: Page, visitors: Visitors) -> None:
    """Nobody's pod finds a node for a moment."""
    many = [await visitors.new() for _ in range(MANY + 1)]
    kubectl = visitors.stack.cluster.kubectl
    kubectl("cordon", node.NAME)
    try:
        visits = [asyncio.create_task(each.get("/")) for each in many[1:]]
        await page.goto(await many[0].link())
        await expect(page.get_by_text(re.compile(rf"Yours is number \d+ of {MANY + 1}"))).to_be_visible(
            timeout=PATIENCE
        )
        await shown(page, "many-wait", WAKING)
    finally:
        kubectl("uncordon", node.NAME)
    await arrived(page, many[0])
    found = await asyncio.gather(*visits)
    for each, (status, body) in zip(many[1:], found, strict=True):
        assert status == 200
        assert f"user-{each.uuid}" in body.decode(), "another user's pod"


async def test_a_page_whose_policy_forbids_the_companion_works_and_counts_as_before(
    page: Page, visitor: Visitor
) -> None:
    before = await visitor.pages_without_script()
    await page.goto(await visitor.link("/?policy=script-src%20%27none%27"))
    await arrived(page, visitor)
    assert await page.evaluate("window.userPods") is None
    assert await visitor.pages_without_script() == before + 1

    # The visit itself has counted: what the page asks for later counts as well.
    last = (await visitor.status())["last_activity"]

    async def moved() -> bool:
        await page.evaluate("fetch('/echo')")
        return bool((await visitor.status())["last_activity"] != last)

    await until(moved, 10, lambda: "what the page asks for does not count")


@pytest.mark.timeout(180)
async def test_every_page_of_a_workspace_says_what_to_do_on_a_desk_and_on_a_phone_in_light_and_dark(
    browser: Browser, visitor: Visitor
) -> None:
    page, stranger = [await browser.new_page() for _ in range(2)]
    address = f"http://{visitor.host}/"
    await page.goto(address)
    await shown(page, "not-signed-in", "You are not signed in to this workspace")
    await page.goto(address.replace(f"vs-code-{visitor.uuid}", "nobody"))
    await shown(page, "unknown", "No such workspace")

    await visitor.get("/")  # a wake from which the next one's time can be told
    await visitor.caller.until(visitor.uuid, "ready")
    assert (await visitor.caller.call("POST", f"/session/{visitor.uuid}/sleep"))[0] == 202
    visitor.kubectl("set", "env", visitor.deployment, "START_DELAY=1h")
    link = await visitor.link()
    await page.goto(link)
    await expect(page.get_by_text(re.compile(r"usually ready in about \d+ s"))).to_be_visible(timeout=PATIENCE)
    await shown(page, "waiting", WAKING)
    await stranger.goto(link)
    await shown(stranger, "link-used", "This link has been used or has expired")
    await page.goto("about:blank")
    await visitor.nobody_waits()
    assert (await visitor.caller.call("POST", f"/session/{visitor.uuid}/sleep"))[0] == 202
    await page.goto(f"{address}.user-pods/")
    await expect(page.locator(".state")).to_have_text("Asleep", timeout=PATIENCE)
    await shown(page, "asleep", "Your workspace")
    await page.evaluate(
        """async (times) => {
            const body = new URLSearchParams({action: "stay", seconds: "1"});
            for (let each = 0; each < times; each++) await fetch(location.href, {method: "POST", body});
        }""",
        BURST,
    )
    await page.get_by_role("button", name="Wake it up").click()
    await shown(page, "too-many", "That was too often")

    visitor.kubectl("set", "env", visitor.deployment, "START_DELAY=is-no-time")  # the program ends at once
    await page.goto(address)
    await expect(page.get_by_text("This takes longer than usual.")).to_be_visible(timeout=2 * PATIENCE)
    # The pod before it may take half a minute to end.
    await expect(page.locator("#reason")).to_contain_text("Kubernetes keeps retrying.", timeout=3 * PATIENCE)
    await shown(page, "crashes", WAKING)
    await page.goto("about:blank")
    await visitor.nobody_waits()
    assert (await visitor.caller.call("POST", f"/session/{visitor.uuid}/sleep"))[0] == 202
    visitor.use("localhost/no/such:1")
    await page.goto(address)
    await shown(page, "failed", "Your workspace could not be started")

    helm(visitor.stack, "uninstall", f"user-{visitor.uuid}")
    await visitor.caller.until(visitor.uuid, "released")
    await page.goto(address)
    await shown(page, "removed", "The workspace was removed")

    assert (await visitor.caller.create(visitor.user))[0] == 201
    await page.goto(await visitor.link("/.user-pods/"))  # earlier sign-ins ended with the release
    await expect(page.locator(".state")).to_have_text("Asleep")
    async with undeletable(visitor):
        assert (await visitor.caller.call("DELETE", f"/session/{visitor.uuid}"))[0] == 503
        await page.goto(address)
        await shown(page, "deleting", "The workspace is being deleted")

    async def deleted() -> bool:
        return (await visitor.caller.call("DELETE", f"/session/{visitor.uuid}"))[0] in {204, 404}

    await until(deleted, 30, lambda: "it cannot be deleted any more")


@asynccontextmanager
async def undeletable(visitor: Visitor) -> AsyncIterator[None]:
    """The cluster keeps the Deployment, whoever deletes it."""
    name, kubectl = f"user-{visitor.uuid}", visitor.stack.cluster.kubectl
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["deployments"]}
    validation = {"expression": "false", "message": "kept by a test", "reason": "Invalid"}
    policy = {"matchConstraints": {"resourceRules": [{**rule, "resourceNames": [name]}]}, "validations": [validation]}
    kinds = {
        "ValidatingAdmissionPolicy": policy,
        "ValidatingAdmissionPolicyBinding": {"policyName": name, "validationActions": ["Deny"]},
    }
    api = "admissionregistration.k8s.io/v1"
    visitor.stack.cluster.apply(
        *({"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": spec} for kind, spec in kinds.items())
    )

    async def kept() -> bool:
        try:
            visitor.kubectl("delete", visitor.deployment, "--dry-run=server")
        except DevclusterError as error:
            return "kept by a test" in str(error)
        return False

    try:
        await until(kept, 30, lambda: "the cluster would let it be deleted")
        yield
    finally:
        for kind in kinds:
            kubectl("delete", kind.lower(), name)


async def shown(page: Page, name: str, heading: str) -> None:
    """The page has that heading, suits everybody's screen, and axe finds nothing on it. Keeps pictures of it."""
    await expect(page.get_by_role("heading", name=heading)).to_be_visible(timeout=PATIENCE)
    for details in await page.locator("details:not([open])").all():
        await details.locator("summary").click()
    looks: tuple[tuple[str, ViewportSize, Literal["light", "dark"]], ...] = (
        ("desk", DESK, "light"),
        ("phone", PHONE, "dark"),
    )
    for screen, size, scheme in looks:
        await page.emulate_media(color_scheme=scheme)
        await page.set_viewport_size(size)
        await picture(page, f"real-{name}-{screen}-{scheme}", full_page=True)
        await accessible(page)
