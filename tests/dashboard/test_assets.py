"""What the pages load: pinned, from this service alone, and cached."""

import hashlib
import json
import re
from importlib import resources

from tests.dashboard.conftest import Board

VENDORED = resources.files("service.dashboard") / "static" / "vendor" / "htmx"
VERSIONS = {"htmx-ext-sse": "2.2.4", "htmx.org": "2.0.11"}
CHECKSUMS = {
    "LICENSE": "d3d2456f76414f2456104660ebd65aff1c04cd7966b942bdabd63f3cdb316a38",
    "LICENSE-sse": "a17d224ce9afdc21ec9491b76a2f5d036d19aa641ac4f85ca29c21f9f7e54fdf",
    "htmx.min.js": "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717",
    "sse.min.js": "98a46496de0c3605fbffdce9167ba427bdd9553184f83f149c261891a92c0136",
}
"""SHA-256 of what the npm packages of those versions hold; `make htmx` brings others."""


def test_the_vendored_files_match_the_releases() -> None:
    assert {name: hashlib.sha256((VENDORED / name).read_bytes()).hexdigest() for name in CHECKSUMS} == CHECKSUMS
    assert json.loads((VENDORED / "package.json").read_text())["dependencies"] == VERSIONS
    locked = json.loads((VENDORED / "package-lock.json").read_text())["packages"]
    assert {name: locked[f"node_modules/{name}"]["version"] for name in VERSIONS} == VERSIONS
    assert VERSIONS["htmx.org"] in (VENDORED / "htmx.min.js").read_text()


async def test_pages_load_files_of_this_service_alone_and_keep_them(board: Board) -> None:
    page = await board.browser().read("/dashboard")
    loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="([^"]+)"', page)
    assert len(loaded) == 4
    for path in loaded:
        assert path.startswith("/dashboard/assets/")
        answer = await board.browser().get(path)
        assert answer.status == 200
        assert "immutable" in answer.headers["Cache-Control"]


async def test_nothing_else_is_served_below_the_assets(board: Board) -> None:
    for path in ("0000000000000000/htmx.min.js", "..%2f..%2fpages.py", "00/layout.html", ""):
        assert (await board.browser().get(f"/dashboard/assets/{path}")).status == 404, path
