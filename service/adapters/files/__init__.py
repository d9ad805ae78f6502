"""Files that are mounted into the pod, and may change while the service runs."""
