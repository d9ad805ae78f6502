"""One call of the service, without the sending: what goes out, what the answer means, and when to send it again."""

import json
import logging
import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from user_pods_client.decoding import as_object, decode, encode
from user_pods_client.errors import NoAnswer, ServiceProblem, UnexpectedAnswer, WorkspacesAddress
from user_pods_client.problems import BY_SLUG

T = TypeVar("T")
log = logging.getLogger("user_pods_client")

REPEATABLE = frozenset({"create", "wake", "activity", "extend", "fix"})
"""POSTs that may be sent twice: the second changes nothing more. After `sleep` and `revoke` a user may have come back
in between, and `open` makes a link each time."""
_TRANSIENT = frozenset({429, 503})
_MOST_BYTES = 64 * 1024 * 1024
"""Of an answer. The largest of the service's own, the diagnosis of 10,000 sessions that all fail, has a tenth of it."""
_LONGEST_WAIT = 30.0
"""Seconds: a call that shall wait longer fails at once, and says how long."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def kind(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def retry_after(self) -> float | None:
        given = self.headers.get("retry-after", "")
        return float(given) if given.isascii() and given.isdigit() and len(given) < 6 else None


class Body:
    """The body of an answer, collected piece by piece. What answers may be no service, and never end."""

    def __init__(self, seconds: float = math.inf) -> None:
        """`seconds`: until it must have ended."""
        self._pieces: list[bytes] = []
        self._size = 0
        self._ends = time.monotonic() + seconds

    def add(self, piece: bytes) -> None:
        """Raises UnexpectedAnswer when it is too large, TimeoutError when it is too late."""
        self._size += len(piece)
        if self._size > _MOST_BYTES:
            raise UnexpectedAnswer(f"what answers is not the service: more than {_MOST_BYTES >> 20} MB")
        if time.monotonic() > self._ends:
            raise TimeoutError
        self._pieces.append(piece)

    def whole(self) -> bytes:
        return b"".join(self._pieces)


@dataclass(frozen=True, kw_only=True)
class Call(Generic[T]):
    """A call whose result is a T. `answers`: statuses that are no errors, with the type of their body."""

    name: str
    method: str
    path: str
    answers: Mapping[int, Any]
    query: Mapping[str, object] = field(default_factory=dict)
    body: object = None
    sent_headers: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def target(self) -> str:
        """Path and query. A parameter that is None is left out."""
        query = {name: _text(value) for name, value in self.query.items() if value is not None}
        return f"{self.path}?{urlencode(query)}" if query else self.path

    @property
    def headers(self) -> dict[str, str]:
        given = {name: value for name, value in self.sent_headers.items() if value is not None}
        return {"Content-Type": "application/json", **given} if self.body is not None else given

    @property
    def content(self) -> bytes | None:
        return None if self.body is None else json.dumps(encode(self.body)).encode()

    @property
    def is_repeatable(self) -> bool:
        return self.method in ("GET", "DELETE") or self.name in REPEATABLE

    def result(self, answer: Answer, *, repeated: bool = False) -> T:
        """What the answer means. Raises a ServiceProblem or UnexpectedAnswer.

        `repeated`: the call was sent before without an answer, so a session that a DELETE no longer finds is deleted.
        """
        if answer.status in self.answers:
            return self._body(self.answers[answer.status], answer)  # type: ignore[no-any-return]
        if repeated and self.method == "DELETE" and answer.status == 404:
            return None  # type: ignore[return-value]
        raise error_of(answer)

    def _body(self, kind: Any, answer: Answer) -> Any:
        if kind is None:
            return None
        if kind is str:
            return answer.body.decode("utf-8", "replace")
        return decode(kind, _json(answer))


DASHBOARD: Call[None] = Call(name="dashboard", method="GET", path="/dashboard/sign-in", answers={200: None})
"""Not an operation of the API: it looks whether the page is there on which people sign in."""


class Attempts:
    """Decides whether one call is sent again, and when."""

    def __init__(self, call: Call[Any], retries: int) -> None:
        self._call = call
        self._left = retries
        self._delay = 0.25
        self.unanswered = 0
        """How often the call was sent without an answer."""

    def delay_after(self, outcome: Answer | NoAnswer) -> float | None:
        """Seconds until the next attempt; None: this outcome is the last.

        An answer of 429 or 503 with `Retry-After` says that the call was not carried out, so any call may be repeated.
        """
        if isinstance(outcome, NoAnswer):
            self.unanswered += 1
        again = self._call.is_repeatable if isinstance(outcome, NoAnswer) else outcome.status in _TRANSIENT
        asked = None if isinstance(outcome, NoAnswer) else outcome.retry_after
        if isinstance(outcome, Answer) and asked is None and not self._call.is_repeatable:
            again = False
        if not again or self._left <= 0 or (asked or 0) > _LONGEST_WAIT or self._is_a_result(outcome):
            return None
        self._left -= 1
        backoff, self._delay = self._delay, min(self._delay * 2, 8.0)
        delay = max(asked or 0.0, backoff * random.uniform(0.5, 1.5))  # noqa: S311 - spreads callers, no secret
        # As a warning, it reaches the terminal of who has not set up logging. It quotes nothing from outside.
        log.warning("%s; trying again in %.1f s", _summary(outcome), delay)
        return delay

    def _is_a_result(self, outcome: Answer | NoAnswer) -> bool:
        """An unhealthy /health answers 503, which is what the caller wants to know."""
        return isinstance(outcome, Answer) and outcome.status in self._call.answers


def _summary(outcome: Answer | NoAnswer) -> str:
    return str(outcome) if isinstance(outcome, NoAnswer) else f"the service answers {outcome.status}"


def error_of(answer: Answer) -> ServiceProblem | UnexpectedAnswer:
    """The error that an answer stands for."""
    if 300 <= answer.status < 400:
        return UnexpectedAnswer(
            f"the service's address answers with a redirect ({answer.status}), which is not followed, so that the token"
            " reaches no other host; check the address"
        )
    if answer.kind != "application/problem+json":
        return UnexpectedAnswer(f"what answers is not the service: status {answer.status} without a problem document")
    document = as_object(_json(answer)) or {}
    type_ = str(document.get("type", "about:blank"))
    if type_ == "about:blank":  # the API gives each of its problems a type, the gateway none
        title = document.get("title") or f"status {answer.status}"
        return WorkspacesAddress(f"this is an address where workspaces are opened, not the API's; it answers: {title}")
    slug = type_.rpartition("/problems/")[2]
    kind = BY_SLUG.get(slug, ServiceProblem)
    part = document.get("part")
    return kind(
        str(document.get("detail") or document.get("title") or f"status {answer.status}"),
        type_=type_,
        status=answer.status,
        title=str(document.get("title", "")),
        instance=str(document.get("instance", "")),
        part=part if isinstance(part, str) else None,
        errors=_errors(document.get("errors")),
        retry_after=answer.retry_after,
    )


def _errors(listed: object) -> list[tuple[str, str]]:
    each = (as_object(item) for item in listed) if isinstance(listed, list) else ()
    return [(str(item.get("pointer", "")), str(item.get("detail", ""))) for item in each if item]


def _json(answer: Answer) -> object:
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        raise UnexpectedAnswer(f"what answers is not the service: status {answer.status}, and no JSON") from None


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
