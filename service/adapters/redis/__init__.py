"""Adapters for the ports that need Redis, built on the `redis` client."""
