"""Logging: each line is a JSON object, or columns for people, and has the id of the current request."""

import logging
import logging.config
from typing import Any, Literal

import structlog
from structlog.typing import EventDict

from service.domain.request_context import current_request_id


def configure(*, level: str, style: Literal["json", "console"]) -> None:
    """Format the standard library's logging, both our lines and those of libraries, with structlog."""
    renderer: Any = structlog.processors.JSONRenderer() if style == "json" else structlog.dev.ConsoleRenderer()
    exceptions = [structlog.processors.format_exc_info] if style == "json" else []
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_request_id,
        ],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *exceptions, renderer],
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # pyhelm3 logs each command twice; our own lines already say what matters.
    logging.getLogger("pyhelm3").setLevel(logging.WARNING)


def _add_request_id(_logger: Any, _method: str, event: EventDict) -> EventDict:
    event.setdefault("request_id", current_request_id())
    return event
