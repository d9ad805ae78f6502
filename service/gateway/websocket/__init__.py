"""WebSockets to a pod and back."""
