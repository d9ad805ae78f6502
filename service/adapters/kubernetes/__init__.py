"""The ports on the Kubernetes API, by the `kubernetes` client."""
