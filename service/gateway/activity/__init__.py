"""What counts as activity, and its way to the session's queue."""
