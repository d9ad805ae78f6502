"""What an operator puts on every page: a name, a colour, a logo, and whom to ask."""

import base64
import re
from dataclasses import dataclass
from pathlib import Path

LOGO_BYTES = 65_536
"""Largest size of a logo: every page carries it."""
_DATA_URL = re.compile(r"data:image/(?:png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/]+={0,2}")
_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
}
_COLOR = re.compile(r"#(?:[0-9a-f]{3}|[0-9a-f]{6})", re.IGNORECASE)
_LINK = re.compile(r"\[([^\[\]]+)\]\(((?:https?://|mailto:)[!-'*-~]+)\)")
_DARK, _LIGHT = "#000000", "#ffffff"


@dataclass(frozen=True, slots=True)
class Support:
    """Whom to ask, in the operator's words: plain text with at most one link in it."""

    before: str
    label: str = ""
    url: str = ""
    after: str = ""

    @classmethod
    def parse(cls, text: str) -> "Support":
        """`text` may contain one link, `[label](URL)`. Raises ValueError for another form, with what is allowed."""
        links = list(_LINK.finditer(text))
        if len(links) > 1 or "](" in _LINK.sub("", text):
            raise ValueError("write at most one link, [label](URL), whose URL begins with https://, http:// or mailto:")
        if not links:
            return cls(text)
        link = links[0]
        return cls(text[: link.start()], link[1], link[2], text[link.end() :])


@dataclass(frozen=True, slots=True, kw_only=True)
class Brand:
    """All are optional. `color` is `#rrggbb`, `logo` a data URL."""

    name: str = ""
    color: str = ""
    logo: str = ""
    support: Support | None = None

    @property
    def on_color(self) -> str:
        """Black or white, whichever is easier to read on the colour. One of them always has a contrast above 4.5."""
        light = _luminance(self.color or _DARK)
        return _DARK if (light + 0.05) ** 2 > 0.05 * 1.05 else _LIGHT


def read_color(text: str) -> str:
    """The colour as `#rrggbb`. Raises ValueError for anything but `#rgb` or `#rrggbb`."""
    if not _COLOR.fullmatch(text):
        raise ValueError("write a colour as #rgb or #rrggbb, for example #0b57d0")
    digits = text[1:].lower()
    return "#" + (digits if len(digits) == 6 else "".join(digit * 2 for digit in digits))


def read_logo(source: str) -> str:
    """The logo as a data URL. `source` is one, or the path of an image file. Raises ValueError."""
    if source.startswith("data:"):
        if not _DATA_URL.fullmatch(source) or len(source) > 2 * LOGO_BYTES:
            raise ValueError(f"write a data URL like data:image/png;base64,… of at most {2 * LOGO_BYTES} characters")
        return source
    if "://" in source:
        raise ValueError("pages load nothing from other hosts: name a file, or write a data URL")
    path = Path(source)
    kind = _TYPES.get(path.suffix.lower())
    if kind is None:
        raise ValueError("name a file that ends in .svg, .png, .jpg, .gif or .webp, or write a data URL")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"the file cannot be read: {error.strerror}") from None
    if len(content) > LOGO_BYTES:
        raise ValueError(f"the file has {len(content)} bytes; every page carries it, so at most {LOGO_BYTES}")
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _luminance(color: str) -> float:
    """The relative luminance of `#rrggbb`, as the Web Content Accessibility Guidelines define it."""
    red, green, blue = (_linear(int(color[start : start + 2], 16) / 255) for start in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else float(((channel + 0.055) / 1.055) ** 2.4)
