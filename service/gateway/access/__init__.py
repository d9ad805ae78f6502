"""Whose workspace a request is for, and who may enter it."""
