"""One pod per user that sleeps when idle and wakes when its user returns."""

__version__ = "0.1.0"
