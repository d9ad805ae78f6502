"""Implementations of the domain's ports: one subpackage per client library."""
