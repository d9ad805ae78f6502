"""Keeps every session's pod as its queue wants it: each replica for its own wakes, one of them for all sessions."""
