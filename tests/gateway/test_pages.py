"""The gateway's pages: what they say, in which language, with whose brand, and that they contain nothing of others."""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiohttp.test_utils import make_mocked_request

from service.gateway.errors import GatewayError, PageKind
from service.gateway.limits import GatewayLimits
from service.gateway.pages.brand import Brand, Support, read_color, read_logo
from service.gateway.pages.pages import Pages
from service.gateway.texts import catalogue
from tests.domain.conftest import World
from tests.gateway.conftest import Headers, House, answer

_PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACw="
_BRAND = Brand(
    name="Müller & Söhne",
    color="#0b57d0",
    logo=_PIXEL,
    support=Support.parse("Ask [the <help> desk](https://help.example.com/?a=1&b=2)."),
)


@pytest.fixture
async def branded(world: World) -> AsyncIterator[House]:
    async with House(world, pages=Pages(_BRAND)).open() as house:
        yield house


async def page(house: House, path: str, headers: Headers, language: str = "") -> tuple[int, Headers, str]:
    """Status, headers and text of a page that a person opens."""
    person = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    sent = {**person, "Accept-Language": language, **headers}
    async with house.http.get(house.url(path), headers=sent, allow_redirects=False) as found:
        return found.status, dict(found.headers), await found.text()


def heading(text: str) -> str:
    found = re.search(r"<h1[^>]*>(.*?)</h1>", text)
    assert found is not None, text
    return found[1]


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("kind", PageKind)
def test_every_kind_of_page_has_its_texts(kind: PageKind, language: str) -> None:
    texts = catalogue.LANGUAGES[language]
    assert all(texts[f"page.{kind}.{part}"] for part in ("title", "text", "next"))


@pytest.mark.parametrize("home", [None, "https://app.example.com/start"])
@pytest.mark.parametrize("kind", PageKind)
def test_no_page_is_a_dead_end(kind: PageKind, home: str | None) -> None:
    request = make_mocked_request("GET", "/work", headers={"Host": "vs-code-abc123xy.example.com"})
    body = Pages().refusal(request, GatewayError(503, "Away", "Away.", page=kind), name="1", home=home).text or ""
    main = body.partition("<main>")[2].partition("<details>")[0]
    assert re.search(r'<a class="button[^"]*" href=|<button\b', main), "something to press"
    assert home is None or kind in (PageKind.ASLEEP, PageKind.NOT_AWAKE) or f'href="{home}"' in main


@pytest.mark.parametrize(("language", "ask"), [("en", "your operator"), ("de", "Ihre Administration")])
@pytest.mark.parametrize("kind", [PageKind.REMOVED, PageKind.DELETING, PageKind.UNKNOWN, PageKind.NOT_SIGNED_IN])
def test_without_a_start_page_it_says_whom_to_ask(kind: PageKind, language: str, ask: str) -> None:
    request = make_mocked_request("GET", "/work", headers={"Accept-Language": language})
    body = Pages().refusal(request, GatewayError(503, "Away", "Away.", page=kind), name="1").text or ""
    assert ask in body
    assert "tart page" not in body
    assert "Startseite" not in body


@pytest.mark.parametrize(
    ("language", "title", "step"),
    [
        ("", "You are not signed in to this workspace", "Open it again from the page that led you here."),
        ("fr", "You are not signed in to this workspace", "Open it again from the page that led you here."),
        ("de-CH", "Sie sind an diesem Arbeitsplatz nicht angemeldet", "Öffnen Sie ihn erneut"),
    ],
)
async def test_a_page_is_in_the_readers_language(house: House, language: str, title: str, step: str) -> None:
    uuid = await house.session()
    status, headers, text = await page(house, "/", {"Host": house.host(uuid)}, language)
    assert (status, heading(text)) == (401, title)
    assert step in text
    shown = "de" if language.startswith("de") else "en"
    assert (headers["Content-Language"], headers["Vary"]) == (shown, "Accept-Language")
    assert f'<html lang="{shown}">' in text


async def test_plain_words_come_first_and_the_rest_is_under_details(house: House) -> None:
    uuid = await house.session()
    house.world.cluster.change(replace(house.world.cluster.workload(uuid), has_scaler=False))
    status, _, text = await page(house, "/", await house.person(uuid))
    first, _, details = text.partition("<details>")
    assert (status, heading(text)) == (503, "The workspace is broken")
    assert "ScaledObject" not in first
    assert "the ScaledObject is missing; create the session again to repair it" in details


async def test_the_reference_of_a_page_is_the_requests_id(house: House) -> None:
    uuid = await house.session()
    _, _, text = await page(house, "/", {"Host": house.host(uuid), "X-Request-Id": "abc-123-456"})
    assert "Reference: <code>abc-123-456</code>" in text
    _, _, waiting = await page(house, "/", {**await house.person(uuid), "X-Request-Id": "abc-124-456"})
    assert "Reference: <code>abc-124-456</code>" in waiting


async def test_programs_get_problem_documents_in_english(house: House) -> None:
    uuid = await house.session()
    status, body = await answer(house, "/", {"Host": house.host(uuid), "Accept-Language": "de"})
    assert (status, json.loads(body)["title"]) == (401, "You are not signed in to this workspace")


async def test_the_operators_brand_and_support_are_on_pages(branded: House) -> None:
    uuid = await branded.session()
    for headers in ({"Host": branded.host(uuid)}, await branded.person(uuid)):
        _, found, text = await page(branded, "/", headers)
        assert "<span>Müller &amp; Söhne</span>" in text
        assert f'<img src="{_PIXEL}" alt="">' in text
        assert "--brand: #0b57d0; --on-brand: #ffffff" in text
        assert 'Ask <a href="https://help.example.com/?a=1&amp;b=2">the &lt;help&gt; desk</a>.' in text
        assert "img-src data:;" in found["Content-Security-Policy"]


async def test_without_a_brand_pages_have_no_header_and_no_images(house: House) -> None:
    _, headers, text = await page(house, "/", {"Host": "example.com"})
    assert "<header>" not in text
    assert "img-src 'none'" in headers["Content-Security-Policy"]


async def test_pages_load_nothing_from_elsewhere_and_run_only_their_own_script(branded: House) -> None:
    uuid = await branded.session()
    nonces = set()
    for path, sent in (("/", {"Host": branded.host(uuid)}), ("/", await branded.person(uuid))):
        _, headers, text = await page(branded, path, sent)
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'nonce-")
        assert "unsafe" not in policy
        assert all(rule in policy for rule in ("base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"))
        assert not re.search(r"<(?:link|iframe|object|embed)\b| on\w+=| style=", text)
        assert all(source.startswith("data:") for source in re.findall(r' src="([^"]*)"', text))
        nonces |= set(re.findall(r"nonce-([\w-]+)", policy))
        assert set(re.findall(r' nonce="([^"]*)"', text)) <= nonces
        assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
    assert len(nonces) == 2, "each page has its own"


async def test_what_kubernetes_says_is_text_and_never_markup(house: House) -> None:
    uuid = await house.session()
    words = "ErrImagePull: <script>alert(1)</script> & {name} \"'"
    house.world.cluster.change(replace(house.world.cluster.workload(uuid), paused=words))
    _, _, text = await page(house, "/", await house.person(uuid))
    assert "ErrImagePull: &lt;script&gt;alert(1)&lt;/script&gt; &amp; {name} &#34;&#39;" in text
    assert "<script>alert" not in text


@pytest.mark.parametrize(
    ("path", "status", "title"),
    [
        ("/.user-pods/enter?ticket=old", 403, "This link has been used or has expired"),
        ("/.user-pods/nothing", 404, "Nothing is here"),
    ],
)
async def test_pages_say_what_happened(house: House, path: str, status: int, title: str) -> None:
    uuid = await house.session()
    headers = {"Host": house.host(uuid)} if "enter" in path else await house.person(uuid)
    found, _, text = await page(house, path, headers)
    assert (found, heading(text)) == (status, title)


async def test_the_page_of_a_removed_workspace_says_how_to_get_it_back(house: House) -> None:
    uuid = await house.session()
    house.world.cluster.change(
        replace(house.world.cluster.workload(uuid), release=None, deployed=False, has_scaler=False)
    )
    status, _, text = await page(house, "/", await house.person(uuid))
    assert (status, heading(text)) == (409, "The workspace was removed")
    first, _, details = text.partition("<details>")
    assert "Ask your operator to create it again" in first
    assert "user-pods create USER" in details


async def test_too_many_requests_get_a_page_that_offers_to_try_again(world: World) -> None:
    async with House(world, GatewayLimits(held=0)).open() as house:
        uuid = await house.session()
        async with house.http.get(house.url("/.user-pods/wake"), headers=await house.person(uuid)) as found:
            text = await found.text()
        assert (found.status, heading(text), found.headers["Retry-After"]) == (503, "Too many requests at once", "2")
        assert '<a class="button main" href="">Try again</a>' in text


# --- brand ---


@pytest.mark.parametrize(("text", "color"), [("#0B57D0", "#0b57d0"), ("#fff", "#ffffff"), ("#a1c", "#aa11cc")])
def test_colours_are_read(text: str, color: str) -> None:
    assert read_color(text) == color


@pytest.mark.parametrize(
    "text", ["red", "#12", "#12345", "#1234567", "0b57d0", "#0b57d0;}body{display:none", "#gggggg"]
)
def test_anything_else_is_no_colour(text: str) -> None:
    with pytest.raises(ValueError, match="#rrggbb"):
        read_color(text)


@pytest.mark.parametrize(
    "color", ["#000000", "#ffffff", "#777777", "#757575", "#ff0000", "#ffcc00", "#0b57d0", "#888888"]
)
def test_text_on_any_colour_is_readable(color: str) -> None:
    def luminance(code: str) -> float:
        parts = [int(code[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    light, dark = sorted((luminance(color), luminance(Brand(color=color).on_color)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_a_logo_is_read_from_a_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("logo")
    (folder / "logo.svg").write_text("<svg/>")
    assert read_logo(str(folder / "logo.svg")) == "data:image/svg+xml;base64,PHN2Zy8+"
    (folder / "large.png").write_bytes(bytes(70_000))
    (folder / "logo.txt").write_text("no image")
    for name, says in (("large.png", "at most 65536"), ("logo.txt", r"\.svg"), ("none.png", "cannot be read")):
        with pytest.raises(ValueError, match=says):
            read_logo(str(folder / name))


@pytest.mark.parametrize(
    "source", ["data:text/html;base64,PHN2Zy8+", "https://example.com/logo.png", 'data:image/png;base64,"><script>']
)
def test_a_logo_from_elsewhere_or_of_another_kind_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match="data URL"):
        read_logo(source)


def test_the_support_text_may_have_one_link() -> None:
    assert Support.parse("Call 123.") == Support("Call 123.")
    assert Support.parse("Ask [us](mailto:a@b.example), please") == Support(
        "Ask ", "us", "mailto:a@b.example", ", please"
    )


@pytest.mark.parametrize(
    "text", ["[a](javascript:alert(1))", "[a](//b)", "[a](https://a) [b](https://b)", "[a](data:x)"]
)
def test_a_support_link_leads_to_a_page_or_an_address(text: str) -> None:
    with pytest.raises(ValueError, match="at most one link"):
        Support.parse(text)


def test_a_general_page_is_chosen_by_the_status() -> None:
    assert GatewayError(502, "Bad", "Bad.").page is PageKind.UNAVAILABLE
    assert GatewayError(405, "Bad", "Bad.").page is PageKind.REFUSED
