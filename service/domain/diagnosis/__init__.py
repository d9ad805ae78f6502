"""Finds faults of the whole system, says what to do about each, and mends those that can be mended without loss."""
