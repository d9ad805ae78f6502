"""Exponential backoff with jitter and an upper limit."""

import random


class Backoff:
    """The delays between attempts of one operation. `first` and `longest` are seconds. Call `reset` on success."""

    __slots__ = ("_first", "_longest", "failures")

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self.failures = 0
        """Consecutive failures so far."""

    def next(self) -> float:
        """Count one more failure and return the delay before the next attempt, in seconds.

        The delay is random between half of the step and the step, so that replicas that failed together do not retry
        together. It never exceeds `longest`.
        """
        # Clamp the exponent first: 2.0 ** 1024 overflows.
        step = min(self._longest, self._first * 2.0 ** min(self.failures, 64))
        self.failures += 1
        return step * random.uniform(0.5, 1)  # noqa: S311 - only spreads the load

    def reset(self) -> None:
        """Start again with the first delay at the next failure."""
        self.failures = 0
