"""Releases by pyhelm3."""
