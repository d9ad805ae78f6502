"""Starts a browser with a link that is a secret."""

import html
import os
import webbrowser

from user_pods_client.cli import private_file
from user_pods_client.cli.exits import BadContexts


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
        page = private_file.replace(
            private_file.folder("XDG_CACHE_HOME", ".cache") / "open.html",
            f'<!doctype html><meta http-equiv="refresh" content="0;url={html.escape(url)}">\n',
        )
        return webbrowser.open(page.as_uri())
    except (OSError, UnicodeError, BadContexts, webbrowser.Error):  # whoever asked for the link has it
        return False


def _is_desktop() -> bool:
    return os.name == "nt" or os.uname().sysname == "Darwin"
