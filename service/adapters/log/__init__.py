"""The journal as log lines."""
