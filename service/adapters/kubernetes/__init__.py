"""Adapters for the ports that need the Kubernetes API, built on the `kubernetes` client."""
