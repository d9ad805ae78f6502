"""Keeps every session's pod in line with its queue: each replica for its own wakes, the leader for all sessions."""
