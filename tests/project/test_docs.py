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
def test_every_link_on_a_page_has_a_target_on_the_site(page: Path) -> None:
    for link in links(page):
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.is_file(), f"{page.name} links to {link}, which does not exist"
        assert path.is_relative_to(DOCS), f"{page.name} links to {link}, which is not on the site: write `its/path`"
        assert not anchor or anchor in anchors(path), f"{page.name} links to {link}: no such heading"


def test_links_to_headings_name_headings_that_exist() -> None:
    for page in (*ROOT.glob("*.md"), *ROOT.glob("chart/*/README.md*")):
        for link in links(page):
            target, _, anchor = link.partition("#")
            path = (page.parent / target).resolve()
            if anchor and path.is_relative_to(DOCS):
                assert anchor in anchors(path), f"{page.name} links to {link}: no such heading"


def test_nothing_in_brackets_is_taken_for_a_link_to_nowhere() -> None:
    """`make docs` refuses it, but needs minutes to say so."""
    for page in DOCS.rglob("*.md"):
        blocks = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)  # those in lists, too
        prose = re.sub(r"`[^`]*`", "", blocks.sub("", page.read_text()))
        assert re.findall(r"(?<![\]!])\[([^\][]+)\](?![(\[:])", prose) == [], page.name


_COMMANDS = [
    *(page for page in DOCS.rglob("*.md") if page.parent.name != "decisions"),
    *(page for pattern in ("chart/*/README.md", "*/README.md", "CONTRIBUTING.md") for page in ROOT.glob(pattern)),
]
"""Pages with commands for a reader to type."""


@pytest.mark.parametrize("page", sorted(_COMMANDS), ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_can_be_pasted_into_a_shell(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r"(?<![\w./])python -m", text), "outside of the virtual environment the packages are missing"
    assert not re.search(r"--set(-string)? [^'\"\s]*\{", text), "the shell expands braces: quote them"
    if "chart" not in str(page.relative_to(ROOT)):  # the charts' pages leave the namespace to the reader
        without = re.compile(r"^kubectl (annotate|delete|describe|exec|get|logs|patch|scale) .*", re.MULTILINE)
        found = [match.group() for block in _FENCE.findall(text) for match in without.finditer(block)]
        assert found == [], "without -n the command asks in the namespace `default`"


def test_lines_of_prose_have_at_most_120_characters() -> None:
    pages = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
    long = [
        f"{page.relative_to(ROOT)}: {line[:60]}"
        for page in pages
        for line in _FENCE.sub("", page.read_text()).splitlines()
        if len(line) > 120 and not line.startswith(("|", "![", "[!["))
    ]
    assert not long


def test_every_decision_has_a_number_of_its_own_that_its_title_repeats() -> None:
    pages = sorted((DOCS / "decisions").glob("*.md"))
    numbers = [page.name.partition("-")[0] for page in pages]
    assert len(set(numbers)) == len(numbers)
    for page, number in zip(pages, numbers, strict=True):
        assert page.read_text().startswith(f"# {int(number)} ") or not number.isdigit()
