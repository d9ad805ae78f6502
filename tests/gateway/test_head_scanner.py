"""Where a script becomes the first of a document's head, and which policies the head declares."""

import time
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.async_api import Page

from service.gateway.injection.head_scanner import HeadScanner, charset_of, is_readable

HERE = b"@@"
"""Marks the place in a document."""


def scanned(document: bytes, *sizes: int) -> HeadScanner:
    """What is found in it when it comes in pieces that end at these offsets, and then ends."""
    scanner = HeadScanner()
    for size in sizes:
        scanner.scan(document[:size])
    scanner.scan(document, last=True)
    return scanner


@pytest.mark.parametrize(
    "marked",
    [
        b"<!doctype html><html><head>@@<title>x</title></head><body>",
        b"<!DOCTYPE HTML>\r\n<HTML LANG=en>\r\n<HEAD >@@\r\n<meta charset=utf-8>",
        b"\xef\xbb\xbf<!doctype html><head>@@<title>",
        b"<html><head/>@@<title>",
        b"<head a>@@<p>",
        b"<head a='>' b=\">\" c=d/>@@<p>",
        b"<head a=b'>@@<p>'>",
        b"<head a='x' =y>@@<p>",
        b"<html a='<head>'><head>@@",
        b"<!--<head>--><head>@@",
        b"<!--><head>@@",
        b"<!---><head>@@",
        b"<!--!><head>--><head>@@",
        b"<!---!><head>--><head>@@",
        b"<!----!><head>@@",
        b"<!-- a -- > <head> --!> <head>@@",
        b"<!doctype html public \"><head>@@",
        b"<?xml version='1.0'?><!doctype html><head>@@",
        b"<![CDATA[<head]]><head>@@",
        b"</p></head1><head>@@",
        b"</><!><head>@@",
        b"<!--[if lt IE 9]><html class=old><![endif]--><!--[if gt IE 8]><!--><html><!--<![endif]--><head>@@",
        # No head of its own:
        b"<!doctype html>@@<title>x</title><p>y",
        b"<!doctype html><html>\n@@<body>",
        b"<!doctype html>\n@@<header>x</header>",
        b"<!doctype html>@@<p>x",
        b"<!doctype html>@@x",
        b"<html>@@</head><p>",
        b"@@</br>",
        b"@@<script>1</script>",
        b"<html><!doctypo<p>@@<svg>",
        b"@@<frameset>",
        b"@@Hello",
        b"  @@< p>",
        b"@@<1>",
        b"\x00@@x",
        "<!doctype html>@@Grüße".encode("latin-1"),
    ],
)  # fmt: skip
def test_the_place_is_where_a_browser_begins_the_head(marked: bytes) -> None:
    place = marked.index(HERE)
    document = marked.replace(HERE, b"", 1)
    assert scanned(document).place == place
    assert scanned(document, *range(len(document))).place == place, "byte by byte"


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"  \n",
        b"<!doctype html>",
        b"<!-- only this -->",
        b"<!-- unfinished <head>",
        b"<html ",
        b"<head a='>",
        b"<",
    ],
)
def test_a_document_without_anything_to_show_has_no_place(document: bytes) -> None:
    assert scanned(document).place is None


@pytest.mark.parametrize("document", ["<head>".encode("utf-16"), b"\xfe\xff\x00<", b"\xff\xfe"])
def test_utf_16_has_no_place(document: bytes) -> None:
    for scanner in (scanned(document), scanned(document, *range(len(document)))):
        assert scanner.place is None
        assert scanner.complete


@pytest.mark.parametrize(
    ("head", "policies"),
    [
        (b"<meta http-equiv=Content-Security-Policy content=\"default-src 'self'\">", ["default-src 'self'"]),
        (b"<META HTTP-EQUIV='content-security-policy' CONTENT=x />", ["x"]),
        (b"<meta content='a' http-equiv='content-security-policy' content='b'>", ["a"]),
        (b"<meta http-equiv='content-security-policy' content='img-src &#39;self&#39;&#x3b; a&amp;b'>",
         ["img-src 'self'; a&b"]),
        (b"<meta http-equiv='content-security-policy' content='a > b'>", ["a > b"]),
        (b"<title></title ><meta http-equiv='content-security-policy' content=x>", ["x"]),
        ((b"<link><meta http-equiv='content-security-policy' content=x><base>"
         b"<meta http-equiv='content-security-policy' content=y>"), ["x", "y"]),
        (b"<script>'<meta http-equiv=content-security-policy content=x>'</script>", []),
        (b"<script><!--<script></script><meta http-equiv=content-security-policy content=x>--></script>", []),
        (b"<script><!--x</script><meta http-equiv=content-security-policy content=x>", ["x"]),
        (b"<script><!--></script><meta http-equiv=content-security-policy content=x>", ["x"]),
        (b"<script><!--<script>--></script><meta http-equiv=content-security-policy content=x>", ["x"]),
        (b"<script><!--<script></script></script><meta http-equiv=content-security-policy content=x>", ["x"]),
        (b"<script></scripts></script\n><meta http-equiv=content-security-policy content=x>", ["x"]),
        (b"<title><meta http-equiv=content-security-policy content=x></title>", []),
        (b"<noscript><meta http-equiv=content-security-policy content=x></noscript>", []),
        (b"<!--<meta http-equiv=content-security-policy content=x>-->", []),
        (b"<style>a>b</style></STYLE><meta http-equiv='content-security-policy' content=x>", ["x"]),
        (b"<body><meta http-equiv='content-security-policy' content=x>", []),
        (b"text<meta http-equiv='content-security-policy' content=x>", []),
        (b"</head><meta http-equiv='content-security-policy' content=x>", []),
        (b"<meta http-equiv='content-security-policy-report-only' content=x>", []),
        (b"<meta name='content-security-policy' content=x>", []),
        (b"<meta http-equiv='content-security-policy'>", [""]),
    ],
)  # fmt: skip
def test_policies_are_those_of_the_heads_own_elements(head: bytes, policies: list[str]) -> None:
    document = b"<!doctype html><head>" + head + b"</head><body>"
    assert scanned(document).policies == policies
    assert scanned(document, *range(len(document))).policies == policies, "byte by byte"


@pytest.mark.parametrize(
    ("head", "charset"),
    [
        (b"<meta charset=ISO-2022-JP>", "ISO-2022-JP"),
        (b"<meta http-equiv=content-type content='text/html; charset=gbk'>", "gbk"),
        (b"<meta content='text/html; charset=gbk'>", ""),
        (b"<meta charset=utf-8><meta charset=gbk>", "utf-8"),
    ],
)
def test_the_charset_is_the_first_that_the_head_declares(head: bytes, charset: str) -> None:
    assert scanned(head).charset == charset


@pytest.mark.parametrize(
    ("content_type", "readable"),
    [
        ("text/html", True),
        ("text/html; charset=utf-8", True),
        ('text/html;Charset="Shift_JIS"', True),
        ("text/html; charset=unheard-of", True),
        ("text/html; charset=UTF-16LE", False),
        ('text/html; charset="utf-16"', False),
        ("text/html; charset='iso-2022-jp'", False),
    ],
)
def test_charsets_are_readable_in_which_ascii_is_ascii(content_type: str, readable: bool) -> None:
    assert is_readable(charset_of(content_type)) is readable


TOKENS = [
    b"\xef\xbb\xbf", b"<!doctype html>", b"<!--", b"-->", b"<head>", b"</head>", b"<html a='", b"'", b'"', b">",
    b"<meta charset=x>",
     b"<meta http-equiv=content-security-policy content=y>", b"<script>", b"</script>", b"<title>", b"</title>", b"x",
     b" ", b"<", b"/", b"=", b"!", b"<body>", b"\x00", b"<style>", b"</style>", b"<link a=b>",
]  # fmt: skip


@given(st.lists(st.sampled_from(TOKENS), max_size=12).map(b"".join), st.lists(st.integers(0, 120), max_size=8))
def test_nothing_depends_on_how_a_document_is_cut_into_pieces(document: bytes, cuts: list[int]) -> None:
    whole, pieces = scanned(document), scanned(document, *sorted(min(cut, len(document)) for cut in cuts))
    assert (pieces.place, pieces.policies, pieces.charset, pieces.complete) == (
        whole.place, whole.policies, whole.charset, whole.complete,
    )  # fmt: skip


_COMPARE = """(cases) => cases.map(([before, after]) => {
    const parse = (text) => new DOMParser().parseFromString(text, 'text/html');
    const whole = parse(before + after), added = parse(before + '<script id=added></script>' + after);
    const script = added.head.firstElementChild;
    const policies = [...whole.querySelectorAll('head > meta[http-equiv]')].map((meta) => meta.content);
    if (script?.id !== 'added') return ['not the first in the head', policies];
    script.remove();
    const same = added.documentElement.outerHTML === whole.documentElement.outerHTML;
    return [same && added.compatMode === whole.compatMode ? 'same' : 'another document', policies];
})"""
"""Compares documents with and without a script at the place, and returns the policies in the head."""


async def test_a_browser_sees_the_same_head_and_the_same_document_but_for_the_script(page: Page) -> None:
    random, cases, found = Random(13), list[tuple[str, str]](), list[list[str]]()  # noqa: S311 - the same each time
    while len(cases) < 2000:
        document = b"".join(random.choices(TOKENS[1:], k=random.randint(1, 14)))
        scanner = scanned(document)
        if scanner.place is not None and scanner.complete:
            cases.append((document[: scanner.place].decode(), document[scanner.place :].decode()))
            found.append(scanner.policies)
    results = await page.evaluate(_COMPARE, cases)
    # Browsers take a policy after the head for one in it. Nobody writes it there, and many pages are sent in two parts,
    # of which the first one ends there.
    for (before, after), result, policies in zip(cases, results, found, strict=True):
        if "</head>" in before + after:
            result[1] = policies
    wrong = [(case, result, policies) for case, result, policies in zip(cases, results, found, strict=True)
             if result != ["same", policies]]  # fmt: skip
    assert not wrong, wrong[:3]


@pytest.mark.parametrize(
    "piece", [b"<", b"<!--", b"<!-- >", b"<a ", b"a='>", b'<meta a="', b"<script>>", b" ", b"</", b"<!>", b"=", b"\x00"]
)
@pytest.mark.parametrize("begins", [b"", b"<head>", b"<!-- ", b"<head a='", b"<head><script>", b"<head><title>"])
def test_no_document_takes_long_however_it_comes(begins: bytes, piece: bytes) -> None:
    document, scanner = begins + piece * (64 * 1024 // len(piece)), HeadScanner()
    begun = time.process_time()
    for size in range(0, len(document), 16):
        scanner.scan(document[:size])
    scanner.scan(document, last=True)
    assert time.process_time() - begun < 1
