"""Shows on stderr how a wake goes on: a line that changes on a terminal, a line per stage elsewhere."""

import importlib
import sys
import time
from typing import Any, Self

from user_pods_client.cli.text import duration, printable
from user_pods_client.models import ProgressEvent

_STAGES = {
    "accepted": "the wake is accepted",
    "unparked": "KEDA watches the session again",
    "scaled": "a pod is wanted",
    "scheduled": "the pod has a node",
    "pulled": "the image is there",
    "started": "the program has started",
    "ready": "ready",
    "asleep": "asleep",
}


def sentence(event: ProgressEvent) -> str:
    """The event in words."""
    text = _STAGES.get(event.phase, event.phase)
    if event.reason:
        text = f"{text}: {event.reason}"
    return printable(f"{text} ({duration(event.seconds)})" if event.seconds is not None else text)


class Progress:
    """A context that shows events."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._began = time.monotonic()
        self._last = ""
        self._spinner: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            console = importlib.import_module("rich.console").Console(stderr=True, markup=False, highlight=False)
            self._spinner = console.status(self)
            self._spinner.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._spinner is not None:
            self._spinner.stop()

    def show(self, event: ProgressEvent) -> None:
        self._last = sentence(event)
        if self._spinner is None:
            sys.stderr.write(f"{self._title}: {self._last}\n")

    def note(self, text: str) -> None:
        """Say on a terminal what it waits for. Elsewhere, the result is enough."""
        self._last = text

    def __rich__(self) -> Any:
        """Drawn again and again, so that its time goes on."""
        passed = duration(time.monotonic() - self._began)
        text = f"{self._title} for {passed}{f': {self._last}' if self._last else ''}"
        return importlib.import_module("rich.text").Text(text)
