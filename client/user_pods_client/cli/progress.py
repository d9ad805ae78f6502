"""Shows on stderr how a wake goes on: a line that changes on a terminal, a line per stage elsewhere."""

import importlib
import sys
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
        self._spinner: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            console = importlib.import_module("rich.console").Console(stderr=True, markup=False, highlight=False)
            self._spinner = console.status(self._title)
            self._spinner.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._spinner is not None:
            self._spinner.stop()

    def show(self, event: ProgressEvent) -> None:
        text = f"{self._title}: {sentence(event)}"
        if self._spinner is not None:
            self._spinner.update(importlib.import_module("rich.text").Text(text))
        else:
            sys.stderr.write(text + "\n")
