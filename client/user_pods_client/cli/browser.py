"""Starts a browser with a link that is a secret."""

import html
import os
import tempfile
import webbrowser
from pathlib import Path

from user_pods_client.cli.contexts import FOLDER


def show(url: str) -> bool:
    """Open the link in a browser. False if there is none.

    A program's arguments can be read by every user of a machine, so the browser gets a file that leads to the link,
    which only its owner can read. The next call replaces it; the link itself works once.
    """
    if not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or os.environ.get("BROWSER") or _is_desktop()
    ):
        return False
    try:
        page = _write(f'<!doctype html><meta http-equiv="refresh" content="0;url={html.escape(url)}">\n')
        return webbrowser.open(page.as_uri())
    except (OSError, webbrowser.Error):
        return False


def _is_desktop() -> bool:
    return os.name == "nt" or os.uname().sysname == "Darwin"


def _write(text: str) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or ""
    folder = (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder, prefix=".open-")  # made with the mode 0600
    with os.fdopen(handle, "w") as opened:
        opened.write(text)
    return Path(name).replace(folder / "open.html")
