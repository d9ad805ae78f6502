"""The documentation: every link of a page leads to a page, file or heading of the site."""

import re
from pathlib import Path

import pytest

from stack.stack import ROOT

DOCS = ROOT / "docs"
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


def links(page: Path) -> list[str]:
    found = _LINK.findall(re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page.read_text())))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def anchors(page: Path) -> set[str]:
    """As Python-Markdown makes them of headings."""
    headings = _HEADING.findall(_FENCE.sub("", page.read_text()))
    words = (re.sub(r"[^\w\s-]", "", heading.encode("ascii", "ignore").decode()) for heading in headings)
    return {re.sub(r"[-\s]+", "-", heading.strip().lower()) for heading in words}


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_every_link_of_a_page_leads_somewhere_on_the_site(page: Path) -> None:
    for link in links(page):
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.is_file(), f"{page.name} links to {link}, which does not exist"
        assert path.is_relative_to(DOCS), f"{page.name} links to {link}, which is not on the site: write `its/path`"
        assert not anchor or anchor in anchors(path), f"{page.name} links to {link}: no such heading"


def test_links_from_elsewhere_into_a_page_name_headings_that_exist() -> None:
    for page in (*ROOT.glob("*.md"), *ROOT.glob("chart/*/README.md*")):
        for link in links(page):
            target, _, anchor = link.partition("#")
            path = (page.parent / target).resolve()
            if anchor and path.is_relative_to(DOCS):
                assert anchor in anchors(path), f"{page.name} links to {link}: no such heading"
