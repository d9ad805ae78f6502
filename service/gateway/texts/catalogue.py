"""The texts in every language that there is a file for: `en.json`, `de.json`. The keys are flat, `{name}` is filled in.

A text is plain: whoever puts it into a page escapes it.
"""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

DEFAULT = "en"
_LONGEST = 256
"""Characters of `Accept-Language` that are read; a browser sends fewer."""
_RANGE = re.compile(r"[ \t]*([A-Za-z]{1,8})(?:-[A-Za-z0-9]{1,8})*[ \t]*(?:;[ \t]*q=([01](?:\.[0-9]{0,3})?)[ \t]*)?")


def _read(path: Path) -> Mapping[str, str]:
    return MappingProxyType(json.loads(path.read_text(encoding="utf-8")))


LANGUAGES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {path.stem: _read(path) for path in sorted(Path(__file__).parent.glob("*.json"))}
)
"""Language -> key -> text."""


def texts(accept_language: str) -> Mapping[str, str]:
    """The texts in the language that suits the `Accept-Language` header best; English if none does."""
    return LANGUAGES[language(accept_language)]


def language(accept_language: str) -> str:
    """The language that `texts` chooses, for the `lang` of a page."""
    return _language(accept_language[:_LONGEST])


@lru_cache(maxsize=256)
def _language(accept_language: str) -> str:
    best, weight = DEFAULT, 0.0
    for part in accept_language.split(","):
        found = _RANGE.fullmatch(part)
        if found is None:
            continue
        name, quality = found[1].lower(), float(found[2] or 1)
        if name in LANGUAGES and quality > weight:
            best, weight = name, quality
    return best
