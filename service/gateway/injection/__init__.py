"""Adds the companion's script to pages, while they stream."""
