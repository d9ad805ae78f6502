"""Counts what is under way, by key."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

K = TypeVar("K")


@contextmanager
def counted(counts: "Counter[K]", key: K) -> Iterator[None]:
    """Count one more for the key. The keys that are left are those with something under way."""
    counts[key] += 1
    try:
        yield
    finally:
        counts[key] -= 1
        if not counts[key]:
            del counts[key]
