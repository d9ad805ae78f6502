"""The companion's script: serves it, and knows the element that loads it."""

import hashlib
import re
from http import HTTPStatus
from pathlib import Path

from aiohttp import hdrs, web

from service.gateway.errors import OWN_HEADERS, GatewayError
from service.gateway.injection.injector import SCRIPT_PATH

_SOURCE = Path(__file__).parent / "companion.js"
_TOKEN = re.compile(
    r"""(?P<kept>"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`|/(?![/*\s])(?:\\.|\[[^\]\n]*\]|[^/\\\n])+/\w*)"""
    r"""|(?P<space>(?:\s|//[^\n]*)+)|."""
)
"""Strings, templates and regular expressions, which stay; spaces and comments; any other character. In our script, a
division has a space after it, and a regular expression has none."""
_ONE_PARAMETER = re.compile(r"\((\w+)\)=>")
_FOR_A_YEAR = "private, max-age=31536000, immutable"
_REVALIDATED = "private, no-cache"


class CompanionScript:
    """`element` loads it, `version` names its content (hexadecimal digits)."""

    def __init__(self, source: bytes | None = None) -> None:
        """`source`: another script than the companion's own."""
        self.source = compact(_SOURCE.read_text(encoding="utf-8")).encode() if source is None else source
        self.version = hashlib.sha256(self.source).hexdigest()[:12]
        self.element = f'<script src="{SCRIPT_PATH}?v={self.version}"></script>'.encode()
        self._tag = f'"{self.version}"'

    def respond(self, request: web.BaseRequest) -> web.Response:
        """Raises GatewayError for methods other than GET and HEAD.

        An address with the version may be kept. Another replica may have another version, and must not pass its script
        off as this one.
        """
        if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
            raise GatewayError(405, "Not allowed", "Use GET or HEAD for the companion's script.")
        is_this_version = request.raw_path == f"{SCRIPT_PATH}?v={self.version}"
        caching = _FOR_A_YEAR if is_this_version else _REVALIDATED
        headers = {**OWN_HEADERS, hdrs.CACHE_CONTROL: caching, hdrs.ETAG: self._tag}
        known = ",".join(request.headers.getall(hdrs.IF_NONE_MATCH, ()))
        if self._tag in known or known.strip() == "*":
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        return web.Response(body=self.source, content_type="text/javascript", charset="utf-8", headers=headers)


def compact(source: str) -> str:
    """The same script without comments, needless spaces, and what ends the last statement or member of a block.

    Lines stay apart where a `;` may be missing. Our script has no statement that is empty.
    """
    made: list[str] = []
    for token in _TOKEN.finditer(source):
        text, before, after = token[0], made[-1][-1] if made else "\n", source[token.end() : token.end() + 1]
        if token["space"] is None:
            if text == "}" and before in ";,":
                made[-1] = made[-1][:-1]
            made.append(text)
        elif "\n" in text and before not in "\n{(,;":
            made.append("\n")
        elif (_is_word(before) and _is_word(after)) or (before == after and before in "+-"):
            made.append(" ")
    return _ONE_PARAMETER.sub(r"\1=>", "".join(made))


def _is_word(character: str) -> bool:
    return character.isalnum() or character in "_$"
