"""Finds the place for a script in a document's first bytes, and the policies that its head declares.

It reads as browsers do (https://html.spec.whatwg.org/multipage/parsing.html), as far as that matters before the end of
the head, in any charset in which ASCII is ASCII.
"""

import html
import re
from typing import Final

_SPACE = rb"\t\n\f\r "
_BOM = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_UNREADABLE = frozenset(
    {
        "csunicode", "iso-10646-ucs-2", "ucs-2", "unicode", "unicodefeff", "unicodefffe", "utf-16", "utf-16be",
        "utf-16le", "utf-32", "utf-32be", "utf-32le", "csiso2022jp", "csiso2022kr", "hz-gb-2312", "iso-2022-cn",
        "iso-2022-cn-ext", "iso-2022-jp", "iso-2022-kr", "replacement",
    }
)  # fmt: skip
"""Charsets in which the bytes of `<` may be something else."""
_SKIP: Final = re.compile(rb"[%b\x00]*+" % _SPACE)
"""What is nothing between elements. Browsers leave out NUL bytes."""
# In a comment's first four bytes, `--!>` closes nothing, but `-->` does.
_COMMENT_END: Final = re.compile(rb"-->|(?<!<!)(?<!<!-)--!>")
# A name that `=` follows must have its value, or else a part of a value would look like the end of a tag.
_ATTRIBUTE_PATTERN = (
    rb"[%(s)b/]*+([^%(s)b/>][^%(s)b/>=]*+)"
    rb"""(?:[%(s)b]*+=[%(s)b]*+("[^"]*+"|'[^']*+'|[^%(s)b>"'][^%(s)b>]*+|(?=>))|(?![%(s)b]*+=))""" % {b"s": _SPACE}
)
_ATTRIBUTE: Final = re.compile(_ATTRIBUTE_PATTERN)
_TAG: Final = re.compile(
    rb"<(/?)([A-Za-z][^%(s)b/>]*+)((?:%(a)b)*+)[%(s)b/]*+>" % {b"s": _SPACE, b"a": _ATTRIBUTE_PATTERN}
)
_SCRIPT: Final = re.compile(rb"(<!--)(?!-?>)|(-->)|<(/?)script(?=[%b/>])" % _SPACE, re.IGNORECASE)
_RAW_END: Final = {
    name: re.compile(rb"</%b(?=[%b/>])" % (name, _SPACE), re.IGNORECASE)
    for name in (b"title", b"style", b"noscript", b"noframes")
}
_ENDS_OF_HEAD = frozenset({b"head", b"body", b"html", b"br"})
_EMPTY_IN_HEAD = frozenset({b"html", b"head", b"base", b"basefont", b"bgsound", b"link", b"meta"})
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([^\s;\"']+)", re.IGNORECASE)


def is_readable(charset: str) -> bool:
    """Whether ASCII is ASCII in a charset of that name. Browsers take an unknown one for a kind of ASCII."""
    return charset.strip("\"' \t").lower() not in _UNREADABLE


def charset_of(content_type: str) -> str:
    """The charset that a `Content-Type` names; empty if none."""
    found = _CHARSET.search(content_type)
    return found[1] if found else ""


_LONG = 4096
"""Bytes of a token that has not ended beyond which it is read again only when it has grown by a quarter."""


class HeadScanner:
    """Call `scan` with more and more of a document, until `complete`. The time that takes is linear in its length."""

    def __init__(self) -> None:
        self.place: int | None = None
        """Where a script becomes the first of the head, once that is known."""
        self.policies: list[str] = []
        """The values of the Content-Security-Policy that `meta` elements of the head declare."""
        self.charset = ""
        """The one that the head declares."""
        self.complete = False
        """There is nothing more to find: the head is over."""
        self._at = 0
        self._retry_at = 0
        """How long the document must be for another look at the token at `_at`."""
        self._raw = b""
        """The element within which `_at` is, if its content is text up to its end tag."""

    def scan(self, data: bytes, *, last: bool = False) -> None:
        """`data` is the document as far as it has come, from its beginning. `last`: more is not waited for."""
        if (len(data) < self._retry_at and not last) or (self._at == 0 and not self._skip_bom(data, last)):
            return
        while not self.complete and (end := self._next(data)) is not None:
            self._at = end
        unread = len(data) - self._at
        self._retry_at = len(data) + (unread // 4 if unread > _LONG else 0)

    def _skip_bom(self, data: bytes, last: bool) -> bool:
        """Whether it is certain by now if there is one."""
        if data.startswith(_UTF_16):
            self.charset = "utf-16"
            self.complete = True
        elif data.startswith(_BOM):
            self._at = len(_BOM)
        return last or not any(mark.startswith(data) for mark in (_BOM, *_UTF_16))

    def _next(self, data: bytes) -> int | None:
        """The end of the token at `_at`; None when more must come first."""
        if self._raw:
            return self._raw_end(data)
        found = _SKIP.match(data, self._at)
        self._at = at = found.end() if found else self._at
        rest = data[at : at + 4]
        if not rest or rest in (b"<", b"</", b"<!", b"<!-"):
            return None
        if rest == b"<!--":
            comment = _COMMENT_END.search(data, at + 2)
            return comment.end() if comment else None
        if rest.startswith((b"<!", b"<?")) or (rest.startswith(b"</") and not rest[2:3].isalpha()):
            return data.find(b">", at) + 1 or None
        if rest.startswith(b"<") and rest[1:].lstrip(b"/")[:1].isalpha():
            return self._tag(data, at)
        return self._end(at)

    def _tag(self, data: bytes, at: int) -> int | None:
        tag = _TAG.match(data, at)
        if tag is None:
            return None
        is_end, name = bool(tag[1]), tag[2].lower()
        if is_end:
            return self._end(at) if name in _ENDS_OF_HEAD else tag.end()
        if self.place is None and name != b"html":
            self.place = tag.end() if name == b"head" else at
        if name == b"meta":
            self._meta(tag[3])
        elif name == b"script" or name in _RAW_END:
            self._raw = name
        elif name not in _EMPTY_IN_HEAD:
            return self._end(at)
        return tag.end()

    def _end(self, at: int) -> int:
        """The head ends here, and begins here at the latest."""
        self.place = at if self.place is None else self.place
        self.complete = True
        return at

    def _raw_end(self, data: bytes) -> int | None:
        end = _script_end(data, self._at) if self._raw == b"script" else _RAW_END[self._raw].search(data, self._at)
        if end is not None:
            self._raw = b""
            return end.start()
        return None

    def _meta(self, attributes: bytes) -> None:
        found: dict[str, str] = {}
        for name, value in _ATTRIBUTE.findall(attributes):
            # Whatever the charset, the names and values that matter are ASCII.
            text = html.unescape(value.decode("latin-1"))
            quoted = value[:1] in (b'"', b"'")
            found.setdefault(name.decode("latin-1").lower(), text[1:-1] if quoted else text)
        content, meaning = found.get("content", ""), found.get("http-equiv", "").lower()
        if meaning == "content-security-policy":
            self.policies.append(content)
        charset = found.get("charset") or (charset_of(content) if meaning == "content-type" else "")
        self.charset = self.charset or charset


def _script_end(data: bytes, at: int) -> "re.Match[bytes] | None":
    """A script's end tag. One within a comment that has begun a script of its own is part of that."""
    in_comment = in_nested = False
    for found in _SCRIPT.finditer(data, at):
        opens, closes, slash = found.groups()
        if opens:
            in_comment = True
        elif closes:
            in_comment = in_nested = False
        elif not slash:
            in_nested = in_comment
        elif in_nested:
            in_nested = False
        else:
            return found
    return None
