"""HTTP to a pod and back."""
