"""Pauses between retries: exponential with jitter, clamped, for whatever is tried until it succeeds."""

import random


class Backoff:
    """The pauses of one retried thing. `first` and `longest` are in seconds; a success calls `reset`."""

    __slots__ = ("_first", "_longest", "failures")

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self.failures = 0
        """Consecutive failures so far."""

    def next(self) -> float:
        """Count one more failure and return the pause before the next try, in seconds.

        Jitter keeps replicas that failed together from retrying together: the pause is between half of the step and
        the step, and never longer than `longest`.
        """
        # The exponent is clamped before the power: 2.0 ** 1024 overflows.
        step = min(self._longest, self._first * 2.0 ** min(self.failures, 64))
        self.failures += 1
        return step * random.uniform(0.5, 1)  # noqa: S311 - only spreads the load

    def reset(self) -> None:
        """It worked: the next failure begins with the first pause again."""
        self.failures = 0
