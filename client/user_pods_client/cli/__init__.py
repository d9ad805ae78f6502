"""`user-pods`, the command line for people. Needs the extra `cli`."""
