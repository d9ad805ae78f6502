"""The companion's script in pages that people open: which ones get it, and what else of a response changes."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
from aiohttp import ClientPayloadError, web
from multidict import CIMultiDict, CIMultiDictProxy

from service.domain.metrics import PageScript
from service.domain.names import SessionId
from service.gateway.activity.measured import NO_COMPANION, NO_COMPANION_COOKIE
from service.gateway.companion.script import CompanionScript
from tests.domain.conftest import World
from tests.gateway.conftest import Headers, House, answer, program, raw, scripted
from tests.waiting import until

PAGE = b"<!doctype html><html><head><title>x</title></head><body>Hello"
SCRIPT = CompanionScript()
WITH_SCRIPT = PAGE.replace(b"<head>", b"<head>" + SCRIPT.element)
HTML: Headers = {"Content-Type": "text/html; charset=utf-8"}
NAVIGATION: Headers = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Accept-Encoding": "gzip, br"}
BROWSER: Headers = {"User-Agent": "Mozilla/5.0 (X11)", "Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
"""One without Fetch Metadata."""
XHR: Headers = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}


@dataclass
class Answer:
    """What a browser gets."""

    status: int
    headers: "CIMultiDictProxy[str]"
    body: bytes

    @property
    def has_script(self) -> bool:
        return SCRIPT.element in self.body

    @property
    def says_none(self) -> bool:
        """Whether the browser learns that it has a page without a companion."""
        return NO_COMPANION_COOKIE in self.headers.getall("Set-Cookie", ())


@dataclass
class Site:
    """A workspace that answers everything alike; `requests` are those that reached it."""

    house: House
    uuid: SessionId = SessionId("")  # noqa: RUF009 - a string
    status: int = 200
    headers: Headers = field(default_factory=lambda: dict(HTML))
    body: bytes = PAGE
    requests: list[CIMultiDict[str]] = field(default_factory=list)

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request.headers.copy())
        return web.Response(status=self.status, body=self.body, headers=self.headers)

    async def get(self, headers: Headers | None = None, method: str = "GET", path: str = "/") -> Answer:
        sent = {**await self.house.headers(self.uuid), **(NAVIGATION if headers is None else headers)}
        async with self.house.http.request(
            method, self.house.url(path), headers=sent, allow_redirects=False, skip_auto_headers=["User-Agent"]
        ) as got:
            return Answer(got.status, got.headers, await got.read())


@pytest.fixture
async def site(house: House) -> AsyncIterator[Site]:
    async with opened(house) as site:
        yield site


@asynccontextmanager
async def opened(house: House) -> AsyncIterator[Site]:
    site = Site(house)
    async with program(house, site.respond) as site.uuid:
        yield site


# --- which responses ---


async def test_a_page_gets_the_script_as_the_first_of_its_head(site: Site) -> None:
    got = await site.get()
    assert got.body == WITH_SCRIPT
    assert got.headers["Content-Length"] == str(len(WITH_SCRIPT))
    assert got.headers["Content-Type"] == HTML["Content-Type"]
    assert not got.says_none
    assert site.house.metrics.pages == {PageScript.ADDED: 1}


_TWICE = gzip.compress(gzip.compress(PAGE, mtime=0), mtime=0)
"""Without the time: it is in the name of a test, which every process must know by the same one."""


@pytest.mark.parametrize("status", [200, 201, 400, 403, 404, 500])
async def test_so_does_one_that_tells_of_an_error(site: Site, status: int) -> None:
    site.status = status
    assert (await site.get()).has_script


async def test_so_does_the_answer_to_a_form(site: Site) -> None:
    assert (await site.get(method="POST")).has_script


@pytest.mark.parametrize(
    "headers",
    [
        BROWSER,
        {**NAVIGATION, "Sec-Fetch-User": "?1", "Sec-Purpose": "prefetch;prerender"},
        {**NAVIGATION, "Sec-Fetch-Site": "none"},
    ],
)
async def test_so_does_what_any_browser_opens(site: Site, headers: Headers) -> None:
    assert (await site.get(headers)).has_script


@pytest.mark.parametrize(
    "headers",
    [
        XHR,
        {},
        {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "frame"},
        {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "embed"},
        {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "object"},
        {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "empty"},  # <a download>
        {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"},
        {**NAVIGATION, "Range": "bytes=0-9"},
        {"User-Agent": "curl/8.5", "Accept": "*/*"},
        {"User-Agent": "links (2.29)", "Accept": "text/html"},
        {**BROWSER, "Accept": "*/*"},
        {**BROWSER, "X-Requested-With": "XMLHttpRequest"},
        {**BROWSER, **XHR},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_nothing_else_that_is_requested_gets_it(site: Site, headers: Headers, method: str) -> None:
    site.headers |= {"ETag": '"1"', "Accept-Ranges": "bytes", "Digest": "sha-256=x"}
    got = await site.get({**headers, "Accept-Encoding": "br"}, method)
    assert got.body == PAGE
    assert not got.says_none
    assert {name: got.headers[name] for name in site.headers} == site.headers
    assert site.requests[-1]["Accept-Encoding"] == "br"
    assert not site.house.metrics.pages


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_no_other_method_changes_a_response(site: Site, method: str) -> None:
    site.headers |= {"ETag": '"1"'}
    got = await site.get(method=method)
    assert got.body == (b"" if method == "HEAD" else PAGE)
    assert (got.headers["Content-Length"], got.headers["ETag"]) == (str(len(PAGE)), '"1"')


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, {"Content-Type": "application/json"}),
        (200, {"Content-Type": "text/plain"}),
        (200, {"Content-Type": "text/htmlx"}),
        (200, {"Content-Type": "application/pdf"}),
        (200, HTML | {"Content-Disposition": "attachment"}),
        (200, HTML | {"Content-Disposition": 'ATTACHMENT; filename="a.html"'}),
        (200, HTML | {"Content-Disposition": "unheard-of"}),
        (302, HTML | {"Location": "/x"}),
        (206, HTML | {"Content-Range": "bytes 0-60/100"}),
    ],
)
async def test_what_is_shown_as_no_page_is_left_alone(site: Site, status: int, headers: Headers) -> None:
    site.status, site.headers = status, {**headers, "ETag": '"1"', "Accept-Ranges": "bytes"}
    got = await site.get()
    assert (got.status, got.body) == (status, PAGE)
    assert {name: got.headers[name] for name in site.headers} == site.headers
    assert not got.says_none
    assert not site.house.metrics.pages


@pytest.mark.parametrize("disposition", ["inline", 'Inline; filename="x"'])
async def test_what_is_shown_inline_is_a_page(site: Site, disposition: str) -> None:
    site.headers["Content-Disposition"] = disposition
    assert (await site.get()).has_script


@pytest.mark.parametrize("status", [204, 304])
async def test_a_response_without_a_body_gets_none(site: Site, status: int) -> None:
    site.status, site.body = status, b""
    got = await site.get({**NAVIGATION, "If-None-Match": '"1"'})
    assert (got.status, got.body) == (status, b"")
    assert not got.says_none


async def test_an_empty_page_stays_empty(site: Site) -> None:
    site.body = b""
    got = await site.get()
    assert (got.body, got.headers["Content-Length"]) == (b"", "0")
    assert not got.says_none


@pytest.mark.parametrize(
    ("body", "headers", "reason"),
    [
        (b"<html xmlns='http://www.w3.org/1999/xhtml'/>", {"Content-Type": "application/xhtml+xml"}, PageScript.TYPE),
        (PAGE, HTML | {"Cache-Control": "private, No-Transform"}, PageScript.NO_TRANSFORM),
        (PAGE.decode().encode("utf-16"), {"Content-Type": "text/html; charset=utf-16"}, PageScript.CHARSET),
        (PAGE.decode().encode("utf-16"), {"Content-Type": "text/html"}, PageScript.PLACE),
        (PAGE, {"Content-Type": "text/html; charset=iso-2022-jp"}, PageScript.CHARSET),
        (b"<meta charset=iso-2022-jp><p>x", {"Content-Type": "text/html"}, PageScript.CHARSET),
        (b"\x0b\x02\x80hello\x03", HTML | {"Content-Encoding": "br"}, PageScript.CODING),
        (b"\x28\xb5\x2f\xfd", HTML | {"Content-Encoding": "zstd"}, PageScript.CODING),
        (_TWICE, HTML | {"Content-Encoding": "gzip, gzip"}, PageScript.CODING),
        (b"not gzip", HTML | {"Content-Encoding": "gzip"}, PageScript.PLACE),
        (b"<!--" + b" " * 400_000 + b"--><head>", HTML, PageScript.PLACE),
        (PAGE, HTML | {"Content-Security-Policy": "script-src 'none'"}, PageScript.POLICY),
        (PAGE, HTML | {"Content-Security-Policy": "connect-src 'none'"}, PageScript.POLICY),
        (PAGE, HTML | {"Content-Security-Policy": "default-src 'self', connect-src a.test"}, PageScript.POLICY),
        (PAGE, HTML | {"Integrity-Policy": "blocked-destinations=(script), endpoints=(e)"}, PageScript.POLICY),
        (PAGE.replace(b"<title>", b"<meta http-equiv=Content-Security-Policy content=\"script-src 'nonce-1'\"><title>"),
         HTML, PageScript.POLICY),
    ],
)  # fmt: skip
async def test_a_page_that_cannot_have_it_stays_byte_for_byte_and_its_browser_is_told(
    site: Site, body: bytes, headers: Headers, reason: PageScript
) -> None:
    site.body, site.headers = body, {**headers, "ETag": '"1"', "Accept-Ranges": "bytes", "Content-MD5": "x"}
    got = await site.get()
    assert got.body == body
    assert got.headers["ETag"] == f'"1-companion-{SCRIPT.version}-bare"', "so that 304 can tell"
    assert {name: got.headers[name] for name in site.headers} == site.headers | {"ETag": got.headers["ETag"]}
    assert got.headers["Content-Length"] == str(len(body))
    assert got.says_none
    assert site.house.metrics.pages == {reason: 1}


@pytest.mark.parametrize("kind", ["image/svg+xml", "text/xml; charset=utf-8", "application/xml"])
async def test_a_picture_or_a_file_that_is_opened_says_nothing_of_its_browser(site: Site, kind: str) -> None:
    site.body, site.headers = b"<svg xmlns='http://www.w3.org/2000/svg'/>", {"Content-Type": kind, "ETag": '"1"'}
    got = await site.get()
    assert (got.body, got.says_none) == (site.body, False)
    assert site.house.metrics.pages == {PageScript.TYPE: 1}
    await not_modified(site, got.headers["ETag"], says_none=False)


async def test_a_page_in_a_sandbox_stays_as_it_is_and_says_nothing_of_its_browser(site: Site) -> None:
    site.headers["Content-Security-Policy"] = "sandbox allow-scripts"  # as JupyterLab does with users' files
    got = await site.get()
    assert got.body == PAGE
    assert not got.says_none
    assert site.house.metrics.pages == {PageScript.SANDBOX: 1}
    site.headers["ETag"] = '"1"'
    await not_modified(site, (await site.get()).headers["ETag"], says_none=False)


async def test_the_cookie_that_tells_it_reaches_no_pod(site: Site) -> None:
    await site.get({**NAVIGATION, "X-More": "1"})
    sent = {**await site.house.headers(site.uuid), **NAVIGATION}
    sent["Cookie"] += f"; {NO_COMPANION}=1; own=1"
    await answer(site.house, "/", sent)
    assert site.requests[-1]["Cookie"] == "own=1"


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Security-Policy-Report-Only": "default-src 'none'"},
        {"Content-Security-Policy": "script-src 'self' 'nonce-1'; connect-src 'self' ws: wss: https:"},
        {"Content-Security-Policy": "default-src 'self'; require-trusted-types-for 'script'; trusted-types 'none'"},
        {"Integrity-Policy": "blocked-destinations=(style)"},
        {"Content-Encoding": "identity"},
        {"Content-Type": "TEXT/HTML"},
        {"Content-Type": "text/html;charset=Shift_JIS"},
    ],
)
async def test_what_does_not_hinder_it_is_no_hindrance(site: Site, headers: Headers) -> None:
    site.headers |= headers
    got = await site.get()
    assert got.body == WITH_SCRIPT
    assert {name: got.headers[name] for name in headers} == headers


async def test_several_headers_with_policies_all_count(house: House) -> None:
    policies = b"Content-Security-Policy: default-src 'self'\r\nContent-Security-Policy: script-src 'none'\r\n"
    said = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n%sContent-Length: %d\r\n\r\n%s" % (policies, len(PAGE), PAGE)
    async with scripted(house, said) as (uuid, _):
        assert (await answer(house, "/", await house.person(uuid)))[1] == PAGE


# --- how they come ---


@pytest.mark.parametrize(
    ("sent", "asked"),
    [
        ("gzip, deflate, br, zstd", "gzip"),
        ("br;q=1.0, gzip;q=0.8", "gzip"),
        ("*", "gzip"),
        ("br, zstd", "identity"),
        ("gzip;q=0, br", "identity"),
        ("gzip; q=0.0, br", "identity"),
        ("identity", "identity"),
    ],
)
async def test_the_pod_is_asked_for_a_coding_that_the_gateway_can_read(site: Site, sent: str, asked: str) -> None:
    await site.get({**NAVIGATION, "Accept-Encoding": sent})
    assert site.requests[-1].getall("Accept-Encoding") == [asked]


async def test_a_browser_that_names_no_coding_names_none_to_the_pod(house: House) -> None:
    async with opened(house) as site:
        headers = await house.headers(site.uuid, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document")
        assert SCRIPT.element in await raw(house, "GET /", {**headers, "Connection": "close"})
        assert "Accept-Encoding" not in site.requests[-1]


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "GZip"])
async def test_an_encoded_page_stays_encoded(site: Site, coding: str) -> None:
    wbits = 15 if coding == "deflate" else 31
    packer = zlib.compressobj(wbits=wbits)
    site.body = packer.compress(PAGE) + packer.flush()
    site.headers |= {"Content-Encoding": coding, "Vary": "Accept-Encoding", "ETag": '"1"'}
    got = await site.get()
    assert zlib.decompress(got.body, wbits) == WITH_SCRIPT
    assert got.headers["Content-Encoding"] == coding
    assert got.headers.getall("Vary") == ["Accept-Encoding", "Sec-Fetch-Dest"]
    assert "Content-Length" not in got.headers
    assert got.headers["ETag"].startswith('W/"1-companion-'), "its bytes are not the same each time"


@pytest.mark.parametrize(
    "framing", ["Content-Length: 61\r\n", "Transfer-Encoding: chunked\r\n", "Connection: close\r\n"]
)
@pytest.mark.parametrize("interim", [b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"])
async def test_a_body_of_any_framing_gets_it(house: House, framing: str, interim: bytes) -> None:
    assert len(PAGE) == 61
    body = b"3d\r\n" + PAGE + b"\r\n0\r\n\r\n" if "chunked" in framing else PAGE
    said = interim + f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{framing}\r\n".encode() + body
    async with scripted(house, said) as (uuid, _):
        assert (await answer(house, "/", await house.person(uuid)))[1] == WITH_SCRIPT


async def test_a_client_of_http_1_0_gets_it(site: Site) -> None:
    site.body, site.headers["Content-Encoding"] = gzip.compress(PAGE), "gzip"
    headers = {**await site.house.headers(site.uuid), **NAVIGATION}
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    reader, writer = await asyncio.open_connection("127.0.0.1", site.house.port)
    writer.write(f"GET / HTTP/1.0\r\n{fields}\r\n".encode())
    head, _, body = (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n\r\n")
    writer.close()
    assert b"chunked" not in head
    assert gzip.decompress(body) == WITH_SCRIPT


@pytest.mark.parametrize("encoded", [False, True])
async def test_a_page_streams(house: House, encoded: bool) -> None:
    shown, packer, unpacker = asyncio.Event(), zlib.compressobj(wbits=31), zlib.decompressobj(31)

    def part(data: bytes) -> bytes:
        return packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH) if encoded else data

    async def respond(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers=HTML | ({"Content-Encoding": "gzip"} if encoded else {}))
        await response.prepare(request)
        await response.write(part(PAGE))
        await shown.wait()
        await response.write(part(b"<p>more") + (packer.flush() if encoded else b""))
        return response

    async with program(house, respond) as uuid:
        headers = {**await house.headers(uuid), **NAVIGATION}
        async with house.http.get(house.url(), headers=headers) as got:
            received = b""
            while len(received) < len(WITH_SCRIPT):
                data = await asyncio.wait_for(got.content.readany(), 5)
                received += unpacker.decompress(data) if encoded else data
            assert received == WITH_SCRIPT
            shown.set()
            rest = await got.read()
    assert (unpacker.decompress(rest) if encoded else rest) == b"<p>more"


@pytest.mark.parametrize("sent", [b"<!doctype html>", b"<head><title>", PAGE])
async def test_half_a_page_does_not_look_like_all_of_it(house: House, sent: bytes) -> None:
    async def respond(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers=HTML | {"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(sent)
        assert request.transport is not None
        request.transport.close()
        return response

    async with program(house, respond) as uuid:
        headers = {**await house.headers(uuid), **NAVIGATION}
        async with house.http.get(house.url(), headers=headers) as got:
            with pytest.raises(ClientPayloadError):
                await got.read()


@pytest.mark.parametrize("known", [False, True])
async def test_a_pod_that_goes_while_its_page_is_held_back_ends_the_page(house: House, known: bool) -> None:
    begun = asyncio.Event()

    async def respond(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers=HTML)
        await response.prepare(request)
        await response.write(b"<!doctype html>")
        begun.set()
        await asyncio.Event().wait()
        return response

    async with program(house, respond) as uuid:
        headers = {**await house.headers(uuid), **NAVIGATION}
        getting = asyncio.create_task(_read(house, headers))
        await begun.wait()
        upstream = house.gateway._pods.current(uuid)
        assert upstream is not None
        if known:
            await until(lambda: bool(upstream.responses))
        house.world.cluster.change(replace(house.world.cluster.workload(uuid), replicas=0, ready=0, pod=None))
        with pytest.raises(ClientPayloadError):
            await asyncio.wait_for(getting, 5)


async def _read(house: House, headers: Headers) -> bytes:
    async with house.http.get(house.url(), headers=headers) as got:
        return await got.read()


# --- hostile pods ---


@pytest.mark.parametrize("piece", [b"<!-- ", b" ", b"<!---->", b"<html a='>"])
async def test_a_head_without_end_passes_on_as_it_comes(house: House, piece: bytes) -> None:
    async def respond(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers=HTML)
        await response.prepare(request)
        while True:
            await response.write(piece * 1024)

    async with program(house, respond) as uuid:
        headers, received = {**await house.headers(uuid), **NAVIGATION}, 0
        async with asyncio.timeout(20), house.http.get(house.url(), headers=headers) as got:
            while received < 4 * 1024 * 1024:
                data = await got.content.readany()
                assert data.replace(piece, b"").strip(piece) == b""
                received += len(data)
    assert house.metrics.pages == {PageScript.PLACE: 1}


async def test_others_are_served_while_a_page_decodes_to_a_thousand_times_its_size(house: House) -> None:
    packer = zlib.compressobj(9, wbits=31)
    size = 40_000_000
    bomb = b"".join([packer.compress(PAGE), *(packer.compress(bytes(size // 200)) for _ in range(200)), packer.flush()])

    async def respond(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/other":
            return web.Response(text="other")
        return web.Response(body=bomb, headers=HTML | {"Content-Encoding": "gzip"})

    async with program(house, respond) as uuid:
        headers = await house.headers(uuid)
        reading = asyncio.create_task(_read(house, {**headers, **NAVIGATION}))
        served = 0
        while not reading.done():
            async with asyncio.timeout(2):
                assert await answer(house, "/other", headers) == (200, b"other")
            served += 1
        unpacker, length = zlib.decompressobj(31), 0
        body = await reading
        assert len(body) < 2 * len(bomb) + 1_000_000
        while piece := unpacker.decompress(body, 2**20):
            body, length = unpacker.unconsumed_tail, length + len(piece)
    assert (length, unpacker.eof) == (len(WITH_SCRIPT) + size, True)
    assert served > 10


@pytest.mark.parametrize("size", [1, 15, 60])
async def test_an_encoded_page_that_is_cut_off_still_arrives(site: Site, size: int) -> None:
    site.body, site.headers["Content-Encoding"] = gzip.compress(PAGE)[:size], "gzip"
    got = await site.get()
    assert WITH_SCRIPT.startswith(zlib.decompressobj(31).decompress(got.body))
    assert got.status == 200


# --- what caches and conditions see ---


async def test_headers_that_describe_the_bytes_are_left_out(site: Site) -> None:
    described = {
        "Content-MD5": "x", "Digest": "sha-256=x", "Content-Digest": "sha-256=:x:", "Repr-Digest": "sha-256=:x:",
        "Accept-Ranges": "bytes",
    }  # fmt: skip
    site.headers |= {**described, "Last-Modified": "Thu, 26 Nov 2026 16:00:00 GMT", "Cache-Control": "max-age=60"}
    got = await site.get()
    assert not set(described) & set(got.headers)
    assert (got.headers["Last-Modified"], got.headers["Cache-Control"]) == (
        "Thu, 26 Nov 2026 16:00:00 GMT", "max-age=60",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("varies", "expected"),
    [(None, ["Sec-Fetch-Dest"]), ("Cookie", ["Cookie", "Sec-Fetch-Dest"]), ("*", ["*"]), ("sec-fetch-dest", None)],
)
@pytest.mark.parametrize("headers", [NAVIGATION, XHR])
async def test_no_cache_takes_a_page_for_what_a_script_has_fetched_nor_the_other_way_round(
    site: Site, headers: Headers, varies: str | None, expected: list[str] | None
) -> None:
    if varies is not None:
        site.headers["Vary"] = varies
    assert (await site.get(headers)).headers.getall("Vary") == (expected if expected is not None else [str(varies)])


async def test_what_is_no_html_does_not_vary(site: Site) -> None:
    site.headers = {"Content-Type": "text/javascript"}
    assert "Vary" not in (await site.get(XHR)).headers


@pytest.mark.parametrize("tag", ['"abc"', 'W/"abc"', '""', '"a-companion-b"'])
async def test_a_page_that_the_browser_has_is_not_sent_again(site: Site, tag: str) -> None:
    site.headers["ETag"] = tag
    marked = (await site.get()).headers["ETag"]
    assert marked != tag
    assert marked.startswith("W/") == tag.startswith("W/")
    site.status, site.body = 304, b""
    got = await site.get({**NAVIGATION, "If-None-Match": f'"other", {marked}'})
    assert site.requests[-1]["If-None-Match"] == tag
    assert (got.status, got.headers["ETag"]) == (304, marked)
    assert got.headers.getall("Vary") == ["Sec-Fetch-Dest"]
    assert not got.says_none


_DATE = "Thu, 26 Nov 2026 16:00:00 GMT"
_OLD_COPIES: list[Headers] = [
    {"If-None-Match": '"abc"'},
    {"If-None-Match": 'W/"abc"', "If-Modified-Since": _DATE},
    {"If-Modified-Since": _DATE},
    {"If-None-Match": f'"abc-companion-{"0" * 12}"', "If-Modified-Since": _DATE},
    {"If-None-Match": f'"abc-companion-{"0" * 12}-bare"'},
    {"If-None-Match": "*"},
]


@pytest.mark.parametrize("sent", _OLD_COPIES)
async def test_a_copy_from_before_the_script_or_with_another_one_is_sent_anew_and_only_once(
    site: Site, sent: Headers
) -> None:
    site.headers |= {"ETag": '"abc"', "Last-Modified": _DATE}
    got = await site.get({**NAVIGATION, **sent})
    assert not {"If-None-Match", "If-Modified-Since"} & set(site.requests[-1])
    assert got.body == WITH_SCRIPT
    await not_modified(site, got.headers["ETag"], says_none=False)


async def test_a_page_that_its_pod_knows_by_date_only_is_revalidated_by_it(site: Site) -> None:
    site.headers["Last-Modified"] = _DATE
    got = await site.get()
    assert (got.body, got.headers["ETag"]) == (WITH_SCRIPT, f'W/"-companion-{SCRIPT.version}-untagged"')
    site.status, site.body = 304, b""
    again = await site.get({**NAVIGATION, "If-None-Match": got.headers["ETag"], "If-Modified-Since": _DATE})
    assert "If-None-Match" not in site.requests[-1]
    assert site.requests[-1]["If-Modified-Since"] == _DATE
    assert (again.status, again.headers["ETag"]) == (304, got.headers["ETag"])


@pytest.mark.parametrize("more", [{}, {"Last-Modified": _DATE}])
async def test_a_page_without_the_script_is_not_sent_again_and_tells_its_browser_anew(
    site: Site, more: Headers
) -> None:
    site.headers |= {"ETag": '"abc"', "Content-Security-Policy": "script-src 'none'", **more}
    got = await site.get()
    assert (got.body, got.says_none) == (PAGE, True)
    await not_modified(site, got.headers["ETag"], says_none=True)


async def not_modified(site: Site, tag: str, *, says_none: bool) -> None:
    """The pod says that it has not changed what the browser has by that tag."""
    own = site.headers.pop("ETag")
    for answered in (own, None):
        site.status, site.body = 304, b""
        site.headers |= {"ETag": answered} if answered else {}
        got = await site.get({**NAVIGATION, "If-None-Match": tag})
        assert site.requests[-1]["If-None-Match"] == own
        assert (got.status, got.headers["ETag"], got.says_none) == (304, tag, says_none)
        site.headers.pop("ETag", None)


@pytest.mark.parametrize("headers", [XHR, {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}])
async def test_a_frame_or_a_script_is_not_told_that_a_page_with_the_script_is_what_it_wants(
    site: Site, headers: Headers
) -> None:
    site.headers["ETag"] = '"abc"'
    marked = (await site.get()).headers["ETag"]
    await site.get({**headers, "If-None-Match": marked})
    assert site.requests[-1]["If-None-Match"] == marked, "which matches nothing of the pod"


@pytest.mark.parametrize(("tag", "expected"), [('"abc"', '"abc"'), ('W/"abc"', 'W/"abc"')])
async def test_a_change_of_the_page_that_somebody_saw_is_of_the_pods_own(site: Site, tag: str, expected: str) -> None:
    site.headers["ETag"] = tag
    marked = (await site.get()).headers["ETag"]
    await site.get({**XHR, "If-Match": marked}, method="PUT")
    assert site.requests[-1]["If-Match"] == expected


@pytest.mark.parametrize("value", ["*", '"a", W/"b"', "malformed"])
async def test_conditions_that_know_no_script_pass_as_they_are(site: Site, value: str) -> None:
    await site.get({**XHR, "If-None-Match": value, "If-Match": value, "If-Range": value})
    assert {site.requests[-1][name] for name in ("If-None-Match", "If-Match", "If-Range")} == {value}


async def test_a_malformed_tag_is_left_out_of_a_page_that_it_no_longer_stands_for(site: Site) -> None:
    site.headers["ETag"] = "abc"
    assert "ETag" not in (await site.get()).headers


# --- the script itself ---


async def test_the_script_is_served_to_whoever_is_let_in(house: House) -> None:
    uuid = await house.session()
    headers = await house.headers(uuid, **{key.replace("-", "_"): value for key, value in XHR.items()})
    async with house.http.get(house.url("/.user-pods/companion.js"), headers=headers) as got:
        assert (got.status, got.headers["Content-Type"]) == (200, "text/javascript; charset=utf-8")
        assert (got.headers["Cache-Control"], got.headers["X-Content-Type-Options"]) == ("private, no-cache", "nosniff")
        assert await got.read() == SCRIPT.source
    assert (await answer(house, "/.user-pods/companion.js", {"Host": house.host(uuid)}))[0] == 401
    assert (await answer(house, "/.user-pods/companion.js", headers, "POST"))[0] == 405
    assert not house.starts, "it wakes nobody"


async def test_its_address_in_pages_may_be_kept_for_a_year(house: House) -> None:
    headers = await house.headers(await house.session())
    path = SCRIPT.element.decode().split('"')[1]
    async with house.http.get(house.url(path), headers=headers) as got:
        assert got.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    async with house.http.get(house.url(path + "0"), headers=headers) as got:
        assert (got.status, got.headers["Cache-Control"]) == (200, "private, no-cache"), "another version's"


async def test_it_is_not_sent_again_to_who_has_it(house: House) -> None:
    headers = await house.headers(await house.session())
    async with house.http.head(house.url("/.user-pods/companion.js"), headers=headers) as got:
        assert (got.status, await got.read()) == (200, b"")
        assert got.headers["Content-Length"] == str(len(SCRIPT.source))
        tag = got.headers["ETag"]
    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        async with house.http.get(
            house.url("/.user-pods/companion.js"), headers={**headers, "If-None-Match": known}
        ) as got:
            assert (got.status, got.headers["ETag"], await got.read()) == (304, tag, b"")


def test_it_is_small_and_does_nothing_that_a_policy_could_forbid() -> None:
    assert len(SCRIPT.source) < 10_000
    for sink in (b"innerHTML", b"outerHTML", b"insertAdjacentHTML", b"document.write", b"eval(", b"Function(",
                 b"setAttribute(\"style\"", b'createElement("style")', b'createElement("script")'):  # fmt: skip
        assert sink not in SCRIPT.source


def test_another_script_is_another_version() -> None:
    assert CompanionScript(b"1").element != CompanionScript(b"2").element


# --- switched off ---


async def test_without_the_companion_nothing_changes(world: World) -> None:
    async with House(world, companion=False).open() as house, opened(house) as site:
        site.headers |= {"ETag": '"1"', "Accept-Ranges": "bytes"}
        got = await site.get()
        assert got.body == PAGE
        assert {name: got.headers[name] for name in site.headers} == site.headers
        assert "Vary" not in got.headers
        assert not got.says_none
        assert site.requests[-1]["Accept-Encoding"] == NAVIGATION["Accept-Encoding"]
        assert (await site.get(path="/.user-pods/companion.js")).status == 404
